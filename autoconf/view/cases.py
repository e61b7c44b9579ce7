"""Which scan a mask belongs to, what it looks like, and numbers that a person checks first."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from autoconf.data.brats import MODALITIES, CaseError
from autoconf.data.datalist import read_datalist
from autoconf.data.labels import WRITTEN
from autoconf.data.layouts import find_scans
from autoconf.data.masks import masks_in
from autoconf.data.volumes import Volume, read_image, read_volume
from autoconf.errors import AutoconfError
from autoconf.pages.overlays import PicturedCase, tilt
from autoconf.pages.planes import MODALITY_NAMES, pictured_scan

LARGEST_ML = 300.0  # whole tumours of the BraTS challenges are hardly ever larger
SMALLEST_ML = 1.0
MOST_OBJECTS = 5
Image = tuple[str, int | None]  # a path, and where in a 4D file the contrast lies


@dataclass(frozen=True)
class PredictedMask:
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
class Drawn:
    """A case as it is drawn."""

    case: PicturedCase
    facts: Facts


def find(masks: str, scans: str) -> tuple[list[PredictedMask], list[str]]:
    """Masks with their scans, by name; and a line for each mask that has none. Raises AutoconfError if none has."""
    if not os.path.isdir(masks):
        raise AutoconfError(f"{masks}: no such folder. Give the --output_dir of `run inferring`.")
    there, images = masks_in(masks), _images(scans)
    found = [PredictedMask(case, path, images[case]) for case, path in there.items() if case in images]
    if not found:
        some = f"masks such as {next(iter(there))}.nii.gz" if there else "no masks"
        others = f"scans such as {next(iter(images))}" if images else "no scans"
        raise AutoconfError(f"{masks} holds {some}, {scans} {others}: no two belong together. Give the scans' folder.")
    return found, [f"{path}: no scan of that name in {scans}" for case, path in there.items() if case not in images]


def _images(scans: str) -> dict[str, dict[str, Image]]:
    """case -> contrast -> where it is, of a folder or a datalist."""
    if scans.endswith(".json"):
        datalist = read_datalist(scans)
        if not datalist.is_3d:
            raise AutoconfError(
                f"{scans}: lists 2D images, and masks of volumes are drawn. Give another, or a folder of scans."
            )
        files = {case.name: {m: datalist.file_of(case, m) for m in datalist.modalities} for case in datalist.cases}
        return {name: {m: file for m, file in of.items() if file} for name, of in files.items()}
    try:
        found = [scan for layout in find_scans(scans) for scan in layout.scans]
    except CaseError as error:
        raise AutoconfError(str(error)) from error
    images = {}
    for scan in found:
        places = scan.channels or (None,) * len(MODALITIES)
        named = zip(MODALITIES, scan.image, places, strict=True)
        images[scan.case] = {contrast: (path, place) for contrast, path, place in named if path}
    return images


def read(predicted: PredictedMask, contrast: str) -> Drawn:
    """The arrays of a case. Raises AutoconfError for a file that cannot be read, or of another grid than its scan."""
    mask = read_volume(predicted.mask)
    named = next((name for name in (contrast, *MODALITY_NAMES) if name in predicted.image), None)
    if named is None:
        raise AutoconfError(f"{predicted.mask}: its scan has no image that can be shown.")
    regions = _regions(mask)
    nothing = np.zeros(mask.data.shape, bool)
    masks = {name: (nothing, region) for name, region in regions.items()}
    scan = pictured_scan(read_image(*predicted.image[named]), masks, mask.grid, judged=False)
    case = PicturedCase(predicted.case, "", float("nan"), scan, MODALITY_NAMES.get(named, named), tilt(mask.affine))
    return Drawn(case, _facts(predicted.case, regions, mask.voxel_ml))


def _regions(mask: Volume) -> dict[str, np.ndarray]:
    """Boolean arrays: the whole tumour, and with the values 2 or 3 also core and enhancing tumour."""
    values = {float(value) for value in np.unique(mask.data)}
    odd = sorted(values - WRITTEN.values)
    if odd:
        raise AutoconfError(f"{mask.path}: holds the value {odd[0]:g}; a mask of the bundle holds 0 to 3 alone.")
    names = WRITTEN.regions if values & {2.0, 3.0} else ("wt",)
    return {name: np.isin(mask.data, WRITTEN.regions[name]) for name in names}


def _facts(case: str, regions: dict[str, np.ndarray], voxel_ml: float) -> Facts:
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
