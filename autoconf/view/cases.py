"""Which scan a mask belongs to, what it looks like, and numbers that a person checks first."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import nibabel
import numpy as np

from autoconf.data.brats import CONTRASTS, CaseError
from autoconf.data.layouts import find_scans
from autoconf.data.volumes import Volume, check_same_grid, read_channels, read_volume
from autoconf.errors import AutoconfError
from autoconf.pages.overlays import Case, tilt
from autoconf.pages.planes import Scan
from autoconf.score.pairs import masks_in

BEST = ("flair", "t2", "t1c", "t1")  # where a tumour is plainest, first
NAMES = {"t1": "T1", "t1c": "T1c", "t2": "T2", "flair": "FLAIR"}
REGIONS = {"wt": (1, 2, 3), "tc": (1, 3), "et": (3,)}  # what the bundle writes with regions wt,tc,et
LARGEST_ML = 300.0  # whole tumours of the BraTS challenges are hardly ever larger
SMALLEST_ML = 1.0
MOST_OBJECTS = 5
Image = tuple[str, int | None]  # a path, and where in a 4D file the contrast lies


@dataclass(frozen=True)
class Marked:
    """A mask and its scan. image: contrast -> where it is."""

    case: str
    mask: str
    image: Mapping[str, Image]


@dataclass(frozen=True)
class Facts:
    """What is known of a mask by itself. volumes: region -> mL. largest: share of the largest object."""

    case: str
    volumes: dict[str, float]
    objects: int
    largest: float
    odd: list[str]


@dataclass(frozen=True)
class Shown:
    """A case as it is drawn."""

    case: Case
    facts: Facts


def find(masks: str, scans: str) -> tuple[list[Marked], list[str]]:
    """Masks with their scans, by name; and a line for each mask that has none. Raises AutoconfError if none has."""
    if not os.path.isdir(masks):
        raise AutoconfError(f"{masks}: no such folder. Give the --output_dir of `run inferring`.")
    there, images = masks_in(masks), _images(scans)
    found = [Marked(case, path, images[case]) for case, path in there.items() if case in images]
    if not found:
        some = f"masks such as {next(iter(there))}.nii.gz" if there else "no masks"
        others = f"scans such as {next(iter(images))}" if images else "no scans"
        raise AutoconfError(f"{masks} holds {some}, {scans} {others}: no two belong together. Give the scans' folder.")
    return found, [f"{path}: no scan of that name in {scans}" for case, path in there.items() if case not in images]


def _images(scans: str) -> dict[str, dict[str, Image]]:
    """case -> contrast -> where it is, of a folder or a datalist."""
    if scans.endswith(".json"):
        return _listed(scans)
    try:
        found = [scan for layout in find_scans(scans) for scan in layout.scans]
    except CaseError as error:
        raise AutoconfError(str(error)) from error
    images = {}
    for scan in found:
        places = scan.channels or (None,) * len(CONTRASTS)
        named = zip(CONTRASTS, scan.image, places, strict=True)
        images[scan.case] = {contrast: (path, place) for contrast, path, place in named if path}
    return images


def _listed(path: str) -> dict[str, dict[str, Image]]:
    try:
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream)
        root = content.get("dataset_dir") or os.path.dirname(os.path.abspath(path))
        contrasts = [str(name) for name in content.get("contrasts") or CONTRASTS]
        items = [item for part in ("training", "testing", "unlabelled") for item in content.get(part) or []]
        return {str(item["case"]): _of_item(item["image"], root, contrasts) for item in items}
    except FileNotFoundError:
        raise AutoconfError(f"{path}: no such file. Make it with: python -m autoconf inspect DATA --out OUT") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AutoconfError(
            f"{path}: not a datalist of volumes ({type(error).__name__}: {error}). Give another, or a folder of scans."
        ) from None


def _of_item(image: Any, root: str, contrasts: list[str]) -> dict[str, Image]:
    """image: of a datalist, a path per contrast, or one file that holds them on its last axis."""
    if isinstance(image, str):
        return {contrast: (os.path.join(root, image), place) for place, contrast in enumerate(contrasts)}
    return {contrast: (os.path.join(root, path), None) for contrast, path in zip(contrasts, image, strict=True) if path}


def read(marked: Marked, contrast: str) -> Shown:
    """The arrays of a case. Raises AutoconfError for a file that cannot be read, or of another grid than its scan."""
    mask = read_volume(marked.mask)
    named = next((name for name in (contrast, *BEST) if name in marked.image), None)
    if named is None:
        raise AutoconfError(f"{marked.mask}: its scan has no image that can be shown.")
    image = _read_image(marked.image[named])
    check_same_grid(image, mask)
    regions = _regions(mask)
    to_ras = partial(nibabel.apply_orientation, ornt=nibabel.io_orientation(mask.affine))
    nothing = np.zeros(mask.data.shape, bool)
    masks = {name: (to_ras(nothing), to_ras(region)) for name, region in regions.items()}
    x, y, z = mask.grid.spacing
    scan = Scan(to_ras(image.data), masks, (x, y, z), judged=False)
    case = Case(marked.case, "", float("nan"), scan, NAMES.get(named, named), tilt(mask.affine))
    return Shown(case, _facts(marked.case, regions, mask.voxel_ml))


def _read_image(image: Image) -> Volume:
    path, place = image
    return read_volume(path) if place is None else read_channels(path, [place])[0]


def _regions(mask: Volume) -> dict[str, np.ndarray]:
    """Boolean arrays: the whole tumour, and with the values 2 or 3 also core and enhancing tumour."""
    values = {float(value) for value in np.unique(mask.data)}
    if not values <= {0.0, 1.0, 2.0, 3.0}:
        odd = sorted(values - {0.0, 1.0, 2.0, 3.0})[0]
        raise AutoconfError(f"{mask.path}: holds the value {odd:g}; a mask of the bundle holds 0 to 3 alone.")
    names = REGIONS if values & {2.0, 3.0} else ("wt",)
    return {name: np.isin(mask.data, REGIONS[name]) for name in names}


def _facts(case: str, regions: dict[str, np.ndarray], voxel_ml: float) -> Facts:
    from scipy import ndimage

    whole = next(iter(regions.values()))
    labelled, objects = ndimage.label(whole, np.ones((3, 3, 3)))
    sizes = np.bincount(labelled.ravel())[1:] * voxel_ml
    volumes = {name: float(np.count_nonzero(region)) * voxel_ml for name, region in regions.items()}
    largest = float(sizes.max() / sizes.sum()) if objects else 0.0
    return Facts(case, volumes, int(objects), largest, _odd(volumes["wt"], int(objects)))


def _odd(millilitres: float, objects: int) -> list[str]:
    """What a person should look at first."""
    found = []
    if not objects:
        return ["nothing marked"]
    if millilitres > LARGEST_ML:
        found.append(f"over {LARGEST_ML:.0f} mL")
    if millilitres < SMALLEST_ML:
        found.append(f"under {SMALLEST_ML:.0f} mL")
    if objects > MOST_OBJECTS:
        found.append(f"{objects} objects")
    return found
