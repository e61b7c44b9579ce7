"""Masks on disk: those of a folder by case, and one of them read as label values, refused where it is no mask."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import nibabel
import numpy as np
from PIL import Image

from autoconf.data.images import BOMBS, bombs_refused
from autoconf.data.pairs import NIFTI, PROBABILITY, Pair
from autoconf.data.volumes import Volume, check_same_grid, read_volume
from autoconf.errors import AutoconfError

BESIDE = (PROBABILITY, "_soft", "_ignore")  # ends of what lies beside a mask; the last two of a pseudo-mask


def masks_in(folder: str) -> dict[str, str]:
    """case -> path of the NIfTI files that lie directly in the folder."""
    masks: dict[str, str] = {}
    for name in sorted(os.listdir(folder)):
        end = next((end for end in NIFTI if name.lower().endswith(end)), None)
        if end is None or name.startswith("."):
            continue
        case = name[: -len(end)]
        if case in masks:
            raise AutoconfError(f"{folder}: holds both {os.path.basename(masks[case])} and {name}. Remove one.")
        masks[case] = os.path.join(folder, name)
    beside = {case + end for case in masks for end in BESIDE}
    return {case: path for case, path in masks.items() if case not in beside}


@dataclass(frozen=True)
class Labels:
    """A mask of label values as stored. spacing: mm per array axis (images: pixels); voxel_ml: None for images."""

    path: str
    data: np.ndarray
    spacing: tuple[float, ...]
    affine: np.ndarray | None = None
    voxel_ml: float | None = None

    @property
    def values(self) -> set[int]:
        """The values above 0."""
        return {int(value) for value in np.unique(self.data[self.data > 0])}  # few voxels to sort

    @property
    def volume(self) -> Volume:
        """The same, for comparing grids; not for images."""
        assert self.affine is not None
        return Volume(self.path, self.data, self.affine)

    def region(self, values: Iterable[int] | None) -> np.ndarray:
        """Boolean array of the voxels that hold one of the values; None: any value above 0."""
        return self.data > 0 if values is None else np.isin(self.data, list(values))


def read_truth(kind: str, pair: Pair) -> Labels:
    """The true mask. kind: "volumes" (NIfTI) or "images" (0 and 255, or 0 and 1). Raises AutoconfError."""
    return _read(kind, pair.truth)


def read_prediction(kind: str, pair: Pair, truth: Labels) -> Labels:
    """The predicted mask, on the grid of the true one; empty where there is none. Raises AutoconfError."""
    if pair.pred is None:
        return Labels("", np.zeros(truth.data.shape, np.uint8), truth.spacing, truth.affine, truth.voxel_ml)
    found = _read(kind, pair.pred)
    if kind != "images":
        check_same_grid(found.volume, truth.volume)
    elif found.data.shape != truth.data.shape:
        sizes = [f"{height}x{width}" for height, width in (found.data.shape, truth.data.shape)]
        raise AutoconfError(
            f"{found.path}: is {sizes[0]} pixels but {truth.path} is {sizes[1]}. Save both at one size."
        )
    return found


def _read(kind: str, path: str) -> Labels:
    if kind == "images":
        return Labels(path, _read_image(path), (1.0, 1.0))
    volume = read_volume(path)
    if volume.data.dtype.kind == "f" and not np.array_equal(volume.data, np.rint(volume.data)):
        raise AutoconfError(f"{path}: holds fractions, so it is no mask (probabilities?). Save it as 0 and 1.")
    if volume.data.min() < 0:
        raise AutoconfError(f"{path}: holds {volume.data.min():g}, so it is no mask. Save it as 0 and 1.")
    spacing = tuple(round(float(size), 6) for size in nibabel.affines.voxel_sizes(volume.affine))
    return Labels(path, volume.data, spacing, volume.affine, volume.voxel_ml)


def _read_image(path: str) -> np.ndarray:
    """(height, width) uint8 of 0 and 1."""
    try:
        with bombs_refused(), Image.open(path) as image:
            values = np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError, *BOMBS) as error:
        raise AutoconfError(f"{path}: not a readable image ({error}). Copy it again or remove it.") from error
    found = np.unique(values)
    if len(found) > 2 or found[0] != 0 and len(found) == 2 or found[-1] not in (0, 1, 255):
        raise AutoconfError(
            f"{path}: holds {len(found)} grey values, {found[0]} to {found[-1]}, so it is no mask. "
            "Save masks as PNG with 0 and 255; JPEG changes values."
        )
    return (values > 0).astype(np.uint8)
