"""Read a mask from disk and refuse what is none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoconf.errors import AutoconfError
from autoconf.inspect.volumes import Volume, check_same_grid, read_volume


@dataclass(frozen=True)
class Mask:
    """A boolean array and the volume of one of its voxels; images have no volume."""

    data: np.ndarray
    voxel_ml: float | None = None


def read_pair(kind: str, pred: str | None, truth: str) -> tuple[Mask, Mask]:
    """Prediction and truth on one grid; a prediction of None is read as empty.

    kind: "volumes" (NIfTI, every label above 0 counts) or "images" ({0, 255} or {0, 1}).
    Raises AutoconfError if either is unreadable or no mask, or if their shapes or affines differ.
    """
    if kind == "images":
        return _read_image_pair(pred, truth)
    true = _read_labels(truth)
    true_mask = Mask(true.data > 0, true.voxel_ml)
    if pred is None:
        return Mask(np.zeros_like(true_mask.data), true.voxel_ml), true_mask
    predicted = _read_labels(pred)
    check_same_grid(predicted, true)
    return Mask(predicted.data > 0, true.voxel_ml), true_mask


def _read_labels(path: str) -> Volume:
    volume = read_volume(path)
    if volume.data.dtype.kind == "f" and not np.array_equal(volume.data, np.rint(volume.data)):
        raise AutoconfError(f"{path}: holds fractions, so it is no mask (probabilities?). Save it as 0 and 1.")
    if volume.data.min() < 0:
        raise AutoconfError(f"{path}: holds {volume.data.min():g}, so it is no mask. Save it as 0 and 1.")
    return volume


def _read_image_pair(pred: str | None, truth: str) -> tuple[Mask, Mask]:
    true = _read_image(truth)
    predicted = np.zeros_like(true) if pred is None else _read_image(pred)
    if predicted.shape != true.shape:
        sizes = [f"{height}x{width}" for height, width in (predicted.shape, true.shape)]
        raise AutoconfError(f"{pred}: is {sizes[0]} pixels but {truth} is {sizes[1]}. Save both at one size.")
    return Mask(predicted), Mask(true)


def _read_image(path: str) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            values = np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError) as error:
        raise AutoconfError(f"{path}: not a readable image ({error}). Copy it again or remove it.") from error
    found = np.unique(values)
    if len(found) > 2 or found[0] != 0 and len(found) == 2 or found[-1] not in (0, 1, 255):
        raise AutoconfError(
            f"{path}: holds {len(found)} grey values, {found[0]} to {found[-1]}, so it is no mask. "
            "Save masks as PNG with 0 and 255; JPEG changes values."
        )
    return values > 0
