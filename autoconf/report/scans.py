"""Find and read the pictures of single cases: image, truth and prediction on one grid."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from autoconf.errors import AutoconfError
from autoconf.inspect.volumes import Volume, check_same_grid, read_channels, read_volume
from autoconf.report.planes import Scan
from autoconf.report.read import Found, Scores, at, items
from autoconf.score.masks import read_pair
from autoconf.score.pairs import Pair, find_pairs

PREFERRED = (("FLAIR", 3), ("T2", 2), ("T1c", 1), ("T1", 0))  # a tumour is plainest on the first; places in a datalist
TILTED = 5.0  # degrees between grid and body from which on the page says so


@dataclass(frozen=True)
class Case:
    """One case to show. place: "worst", "median", "best". contrast: what the picture is; tilt: degrees, see TILTED."""

    case: str
    place: str
    dice: float
    scan: Scan
    contrast: str
    tilt: float = 0.0


def chosen_pairs(found: Found, scores: Scores) -> list[tuple[str, float, Pair]]:
    """(place, Dice, files) of the worst, the median and the best case; with one or two cases a place has several names.

    Raises AutoconfError if the masks that were scored are no longer there.
    """
    truth, pred = (_there(str(at(scores.summary, key)), found) for key in ("truth", "pred"))
    split = at(scores.summary, "split")
    moved = at(scores.summary, "dataset_dir")
    pairs = find_pairs(pred, truth, split if isinstance(split, str) else "testing", moved if isinstance(moved, str) else "")
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
    """The arrays of one case. Raises AutoconfError for a file that cannot be read, or lies on another grid."""
    if scores.images:
        return Case(pair.case, place, dice, *_flat(found, pair))
    pred, truth = read_pair("volumes", pair.pred, pair.truth)
    affine = nibabel.load(pair.truth).affine
    contrast, image = _image(found, pair)
    if image is not None:
        check_same_grid(image, Volume(pair.truth, truth.data, affine))
    to_ras = nibabel.io_orientation(affine)
    grids = [None if a is None else nibabel.apply_orientation(a, to_ras) for a in (image and image.data, truth.data, pred.data)]
    sizes = nibabel.affines.voxel_sizes(affine)
    spacing = tuple(float(sizes[list(to_ras[:, 0]).index(axis)]) for axis in range(3))
    return Case(pair.case, place, dice, Scan(*grids, spacing), contrast, tilt(affine))


def tilt(affine: np.ndarray) -> float:
    """The largest angle in degrees between an array axis and the body axis nearest to it. affine: (4, 4)."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.degrees(np.arccos(np.clip(np.abs(directions).max(axis=0), 0, 1)).max()))


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


def _flat(found: Found, pair: Pair) -> tuple[Scan, str]:
    """A 2D image; the mask of `class/1.jpg` may be called `class/1.jpg.png`."""
    from PIL import Image

    pred, truth = (mask.data[..., None] for mask in read_pair("images", pair.pred, pair.truth))
    path_of = _datalist_paths(found)
    path = path_of(pair.case) or path_of(str(Path(pair.case).with_suffix("")))
    grey = None
    if isinstance(path, str):
        height, width = truth.shape[:2]
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L").resize((width, height), Image.Resampling.BILINEAR))[..., None]
    return Scan(grey, truth, pred, (1.0, 1.0, 1.0), flat=True), "image" if path else ""


def _there(path: str, found: Found) -> str:
    """A path as `score` was given it, which may have been relative to the folder where the run began."""
    began = at(found.record, "folder")
    places = [path, os.path.join(began, path) if isinstance(began, str) else path]
    return next((place for place in places if os.path.exists(place)), path)
