"""Find and read the pictures of single cases: image, truth and prediction on one grid."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from autoconf.data.volumes import Volume, check_same_grid, read_channels, read_volume
from autoconf.errors import AutoconfError
from autoconf.pages.overlays import Case, tilt
from autoconf.pages.planes import Scan
from autoconf.reading import at, items
from autoconf.report.read import Found, Scores
from autoconf.report.words import size
from autoconf.score.masks import Labels, decide, read_prediction, read_truth
from autoconf.score.pairs import Pair, find_pairs

PREFERRED = (("FLAIR", 3), ("T2", 2), ("T1c", 1), ("T1", 0))  # a tumour is plainest on the first; places in a datalist


def chosen_pairs(found: Found, scores: Scores) -> list[tuple[str, float, Pair]]:
    """(place, Dice, files) of the worst, the median and the best case; with one or two cases a place has several names.

    Raises AutoconfError if the masks that were scored are no longer there.
    """
    truth, pred = (_there(str(at(scores.summary, key)), found) for key in ("truth", "pred"))
    split = at(scores.summary, "split")
    moved = at(scores.summary, "dataset_dir")
    split, moved = (value if isinstance(value, str) else "" for value in (split, moved))
    pairs = find_pairs(pred, truth, split or "testing", moved)
    files = {pair.case: pair for pair in pairs.scored}
    rows = sorted(scores.of(scores.regions[0]), key=lambda row: (row.values.get("dice", 0.0), row.case))
    rows = [row for row in rows if row.case in files]
    if not rows:
        raise AutoconfError(f"{pred}: holds none of the cases in {scores.folder}. Score them again.")
    names: dict[int, str] = {}
    for name, place in (("worst", 0), ("median", (len(rows) - 1) // 2), ("best", len(rows) - 1)):
        names[place] = f"{names[place]} and {name}" if place in names else name
    return [(names[p], rows[p].values.get("dice", 0.0), files[rows[p].case]) for p in sorted(names)]


def read_case(found: Found, scores: Scores, place: str, dice: float, pair: Pair) -> Case:
    """The arrays of one case. Raises AutoconfError for a file that cannot be read, or that is not what was scored."""
    kind = "images" if scores.images else "volumes"
    labels = read_truth(kind, pair)
    masks = _masks(scores, pair, labels, read_prediction(kind, pair, labels))
    if labels.affine is None:
        grey = _picture(found, pair, labels.data.shape)
        masks = {region: (truth[..., None], pred[..., None]) for region, (truth, pred) in masks.items()}
        flat = Scan(None if grey is None else grey[..., None], masks, (1.0, 1.0, 1.0), flat=True)
        return Case(pair.case, place, dice, flat, "the image" if grey is not None else "")
    contrast, image = _image(found, pair)
    if image is not None:
        check_same_grid(image, labels.volume)
    to_ras = partial(nibabel.apply_orientation, ornt=nibabel.io_orientation(labels.affine))
    masks = {region: (to_ras(truth), to_ras(pred)) for region, (truth, pred) in masks.items()}
    x, y, z = labels.volume.grid.spacing
    scan = Scan(None if image is None else to_ras(image.data), masks, (x, y, z))
    return Case(pair.case, place, dice, scan, contrast, tilt(labels.affine))


def _masks(scores: Scores, pair: Pair, truth: Labels, pred: Labels) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Truth and prediction of each region, their values read as `score` read them.

    A region that one case alone does not explain is left out; the first one must be there. Raises AutoconfError.
    """
    kind, reading = str(at(scores.summary, "kind")), str(at(scores.summary, "predictions_read_as") or "binary")
    labels = str(at(scores.summary, "labels") or "auto")  # summaries of older versions do not have it
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for region in scores.regions:
        try:
            meaning = decide(kind, [pair], [truth.values], [pred.values], labels, reading, region)
            true = truth.region(meaning.of_truth(pair.case, region))
            predicted = pred.region(meaning.of_prediction(pair.case, region))
            _check_sizes(scores, region, pair, (predicted, true), truth.voxel_ml)
        except AutoconfError:
            if not found:
                raise
            continue
        found[region] = (true, predicted)
    return found


def _check_sizes(
    scores: Scores, region: str, pair: Pair, masks: tuple[np.ndarray, np.ndarray], voxel_ml: float | None
) -> None:
    """What is drawn must be what was scored: a mask that was written again later has another size."""
    values = next((row.values for row in scores.of(region) if row.case == pair.case), {})
    for key, mask, path in zip(size(scores)[:2], masks, (pair.pred, pair.truth), strict=True):
        now = float(np.count_nonzero(mask)) * (1.0 if voxel_ml is None else voxel_ml)
        if key in values and abs(now - values[key]) > 1e-3 + 1e-4 * now:
            was = f"but {values[key]:.4g} when it was scored"
            raise AutoconfError(f"{path}: holds {now:.4g} {size(scores)[2]} now, {was}. Score it again.")


def _image(found: Found, pair: Pair) -> tuple[str, Volume | None]:
    """(name, volume) of the best contrast that there is; ("", None) if none is."""
    if pair.flair:
        return "FLAIR", read_volume(pair.flair)
    path_of = _datalist_paths(found)
    item = path_of(pair.case)
    if isinstance(item, list):
        for name, channel in PREFERRED:
            path = item[channel] if channel < len(item) else None
            if path:
                return name, read_volume(path)
    if isinstance(item, str):
        contrasts = [str(name).upper() for name in at(found.datalist, "contrasts") or []]
        for name, channel in PREFERRED:
            place = contrasts.index(name.upper()) if name.upper() in contrasts else channel
            if len(contrasts) > place:
                return name, read_channels(item, [place])[0]
    return "", None


def _datalist_paths(found: Found) -> Callable[[str], Any]:
    """case -> path of its image, or list of paths with None for what is not there; None for an unknown case."""
    root = at(found.datalist, "dataset_dir")
    listed = {
        str(item.get("case")): item.get("image")
        for part in ("training", "testing", "unlabelled")
        for item in items(found.datalist, part)
    }

    def there(path: Any) -> str | None:
        full = os.path.join(root, path) if isinstance(root, str) and isinstance(path, str) else ""
        return full if os.path.isfile(full) else None

    def paths(case: str) -> Any:
        image = listed.get(case)
        return [there(path) for path in image] if isinstance(image, list) else there(image)

    return paths


def _picture(found: Found, pair: Pair, shape: tuple[int, ...]) -> np.ndarray | None:
    """The grey image of a 2D mask, at the mask's size; the mask of `class/1.jpg` may be called `class/1.jpg.png`."""
    from PIL import Image

    path_of = _datalist_paths(found)
    path = path_of(pair.case) or path_of(str(Path(pair.case).with_suffix("")))
    if not isinstance(path, str):
        return None
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def _there(path: str, found: Found) -> str:
    """A path as `score` was given it, which may have been relative to the folder where the run began."""
    began = at(found.record, "folder")
    places = [path, os.path.join(began, path) if isinstance(began, str) else path]
    return next((place for place in places if os.path.exists(place)), path)
