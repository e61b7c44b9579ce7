"""Find and read the pictures of single cases: image, truth and prediction on one grid."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from autoconf.data.datalist import Case
from autoconf.data.masks import Labels, read_prediction, read_truth
from autoconf.data.pairs import FILE as PAIRS
from autoconf.data.pairs import Pair, read_pairs
from autoconf.data.volumes import Volume, read_image, read_volume
from autoconf.errors import AutoconfError
from autoconf.pages.overlays import PicturedCase, tilt
from autoconf.pages.planes import MODALITY_NAMES, PicturedScan, pictured_scan
from autoconf.report.read import RunFiles, Scores
from autoconf.report.words import size


def chosen_pairs(scores: Scores) -> list[tuple[str, float, Pair]]:
    """(place, Dice, files) of the worst, the median and the best case; with one or two cases a place has several names.

    Raises AutoconfError if the scores do not say which masks were compared.
    """
    files = {pair.case: pair for pair in read_pairs(os.path.join(scores.folder, PAIRS))}
    rows = [row for row in scores.worst_first(scores.regions[0]) if row.case in files]
    if not rows:
        raise AutoconfError(f"{scores.folder}: {PAIRS} names none of the cases in scores.csv. Score again.")
    names: dict[int, str] = {}
    for name, place in (("worst", 0), ("median", (len(rows) - 1) // 2), ("best", len(rows) - 1)):
        names[place] = f"{names[place]} and {name}" if place in names else name
    return [(names[p], rows[p].values.get("dice", 0.0), files[rows[p].case]) for p in sorted(names)]


def read_case(found: RunFiles, scores: Scores, place: str, dice: float, pair: Pair) -> PicturedCase:
    """The arrays of one case. Raises AutoconfError for a file that cannot be read, or that is not what was scored."""
    kind = "images" if scores.images else "volumes"
    labels = read_truth(kind, pair)
    masks = _masks(scores, pair, labels, read_prediction(kind, pair, labels))
    if labels.affine is None:
        grey = _picture(found, pair, labels.data.shape)
        masks = {region: (truth[..., None], pred[..., None]) for region, (truth, pred) in masks.items()}
        flat = PicturedScan(None if grey is None else grey[..., None], masks, (1.0, 1.0, 1.0), flat=True)
        return PicturedCase(pair.case, place, dice, flat, "the image" if grey is not None else "")
    contrast, image = _image(found, pair)
    scan = pictured_scan(image, masks, labels.volume.grid)
    return PicturedCase(pair.case, place, dice, scan, contrast, tilt(labels.affine))


def _masks(scores: Scores, pair: Pair, truth: Labels, pred: Labels) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Truth and prediction of each region, as they were scored. Raises AutoconfError if the files have changed."""
    found = {}
    for region, (of_truth, of_prediction) in pair.read_as.items():
        found[region] = (truth.region(of_truth), pred.region(of_prediction))
        _check_sizes(scores, region, pair, found[region][::-1], truth.voxel_ml)
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


def _image(found: RunFiles, pair: Pair) -> tuple[str, Volume | None]:
    """(name, volume) of the best contrast that there is; ("", None) if none is."""
    if pair.flair and os.path.isfile(pair.flair):
        return "FLAIR", read_volume(pair.flair)
    case = _listed(found).get(pair.case)
    for modality, name in MODALITY_NAMES.items():
        file = found.datalist.file_of(case, modality) if found.datalist and case else None
        if file and os.path.isfile(file[0]):
            return name, read_image(*file)
    return "", None


def _listed(found: RunFiles) -> dict[str, Case]:
    """The cases of the datalist by name; none where there is no list."""
    return {case.name: case for case in found.datalist.cases} if found.datalist else {}


def _picture(found: RunFiles, pair: Pair, shape: tuple[int, ...]) -> np.ndarray | None:
    """The grey image of a 2D mask, at the mask's size; the mask of `class/1.jpg` may be called `class/1.jpg.png`."""
    listed = _listed(found)
    case = listed.get(pair.case) or listed.get(str(Path(pair.case).with_suffix("")))
    path = case.images[0] if case else None
    if path is None or not os.path.isfile(path):
        return None
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
