"""Turn a scan with its two masks into stacks of slices as a radiologist looks at them. Pure functions on arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import contourpy
import nibabel
import numpy as np

from autoconf.data.volumes import Grid, Volume, bounding_box, check_same_grid

TRUTH, PREDICTION = "#E69F00", "#56B4E9"  # orange and sky blue of Okabe and Ito: safe for all colour sight

# Modalities by name in a datalist and on the page; a tumour is plainest on the first.
MODALITY_NAMES = {"flair": "FLAIR", "t2": "T2", "t1c": "T1c", "t1": "T1"}
REGION_NAMES = {"wt": "Whole tumour", "tc": "Tumour core", "et": "Enhancing tumour"}

MARGIN = 2  # voxels around what is shown
TOLERANCE = 0.7  # half pixels that an outline may be moved by; below sqrt(1/2) no centre of a pixel changes sides
WHITE_AT = 99.5  # percentile of what is above 0 that is shown white: a few bright voxels must not darken the rest

Turn = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PicturedScan:
    """One case on its own grid, axes in the order nearest to R, A, S (images: rows, columns, one slice).

    image: (x, y, z) grey values, or None where no image is known. masks: region -> truth and prediction, boolean, the
    same shape. spacing: mm per axis (images: 1). flat: a 2D image, without directions. judged: there is a truth;
    else its masks are empty.
    """

    image: np.ndarray | None
    masks: dict[str, tuple[np.ndarray, np.ndarray]]
    spacing: tuple[float, float, float]
    flat: bool = False
    judged: bool = True

    @property
    def truth(self) -> np.ndarray:
        """Of the first region."""
        return next(iter(self.masks.values()))[0]


def pictured_scan(
    image: Volume | None, masks: dict[str, tuple[np.ndarray, np.ndarray]], grid: Grid, judged: bool = True
) -> PicturedScan:
    """Masks in the array order of their grid, and an image, turned to R, A, S. Raises DataError for another grid."""
    if image is not None:
        check_same_grid(image, grid)
    to_ras = partial(nibabel.apply_orientation, ornt=nibabel.io_orientation(grid.affine))
    masks = {region: (to_ras(truth), to_ras(pred)) for region, (truth, pred) in masks.items()}
    x, y, z = grid.spacing
    return PicturedScan(None if image is None else to_ras(image.data), masks, (x, y, z), judged=judged)


@dataclass(frozen=True)
class Stack:
    """The slices of one plane, the first row of each on top.

    grey: (n, rows, columns) uint8. masks: region -> truth and prediction, boolean, the same shape.
    pixel: (width, height) in mm. sides: letters at the left, right, top and bottom; none of an image.
    first: place of slice 0 in the scan, which has `total`. judged: as of the scan.
    """

    name: str
    grey: np.ndarray
    masks: dict[str, tuple[np.ndarray, np.ndarray]]
    pixel: tuple[float, float]
    sides: tuple[str, ...]
    first: int
    total: int
    judged: bool = True

    @property
    def pixel_area(self) -> float:
        """cm2 of one pixel; 1 of an image, whose sizes are counted in pixels."""
        return self.pixel[0] * self.pixel[1] / 100 if self.sides else 1.0

    @property
    def start(self) -> int:
        """The slice to show first: with most of the first region, true or else predicted; else the middle one."""
        for mask in next(iter(self.masks.values())):
            areas = np.count_nonzero(mask, axis=(1, 2))
            if areas.any():
                return int(areas.argmax())
        return len(self.grey) // 2


def stacks(scan: PicturedScan) -> list[Stack]:
    """Axial, coronal and sagittal slices, cropped to what is not 0; a 2D image is one stack of one slice.

    Radiological: the patient's right at the left of the picture; of sagittal slices, the front. Slices count
    from below, from the back and from the left.
    """
    box = content_box(scan)
    grey = to_grey(scan.image, scan.truth.shape)[box]
    first, total = [part.start for part in box], scan.truth.shape
    x, y, z = scan.spacing

    def stack(name: str, turn: Turn, pixel: tuple[float, float], sides: str, axis: int) -> Stack:
        masks = {region: (turn(truth[box]), turn(pred[box])) for region, (truth, pred) in scan.masks.items()}
        return Stack(name, turn(grey), masks, pixel, tuple(sides), first[axis], total[axis], scan.judged)

    if scan.flat:
        return [stack("image", lambda a: a.transpose(2, 0, 1), (y, x), "", 2)]
    return [
        stack("axial", lambda a: a[::-1, ::-1].transpose(2, 1, 0), (x, y), "RLAP", 2),
        stack("coronal", lambda a: a[::-1, :, ::-1].transpose(1, 2, 0), (x, z), "RLSI", 1),
        stack("sagittal", lambda a: a[:, ::-1, ::-1].transpose(0, 2, 1), (y, z), "APSI", 0),
    ]


def content_box(scan: PicturedScan) -> tuple[slice, ...]:
    """The box around everything above the darkest value, or in a mask, and MARGIN around it; all of a flat image."""
    there = np.logical_or.reduce([mask for masks in scan.masks.values() for mask in masks])
    if scan.image is not None:
        there = there | (scan.image > scan.image.min())
    if scan.flat or not there.any():
        return tuple(slice(0, size) for size in there.shape)
    return bounding_box(there, MARGIN)


def to_grey(image: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 picture: 0 and below is black, the 99.5th percentile of what is above 0 white; no image is all black."""
    if image is None:
        return np.zeros(shape, np.uint8)
    if image.dtype == np.uint8:
        return image
    bright = image[image > 0]
    white = float(np.percentile(bright, WHITE_AT)) if bright.size else 1.0
    return (np.clip(image.astype(np.float32) / max(white, 1e-12), 0, 1) * 255).astype(np.uint8)


def outline(mask: np.ndarray) -> str:
    """SVG path around the true pixels of a mask, in half pixels: pixel (row r, column c) is centred at (2c+1, 2r+1).

    The line runs half-way between true and false pixels, so it stays sqrt(1/2) half pixels away from every centre.
    It is moved by up to TOLERANCE to save points, which changes no centre's side. Empty for an empty mask.
    """
    if not mask.any():
        return ""
    padded = np.pad(mask, 1).astype(np.float32)
    lines: Any = contourpy.contour_generator(z=padded).lines(0.5)
    return "".join(_path(simplify(np.rint(points * 2).astype(int) - 1, TOLERANCE)) for points in lines)


def simplify(points: np.ndarray, tolerance: float) -> np.ndarray:
    """Drop points of a closed line that lie within `tolerance` of the line that remains.

    points: (n, 2), the first at the end again. Each half, from the first point to the farthest, is simplified alone.
    Source: Douglas and Peucker, Cartographica 10, 112-122 (1973).
    """
    keep = np.zeros(len(points), bool)
    far = int(((points - points[0]) ** 2).sum(axis=1).argmax())
    keep[[0, far, -1]] = True
    spans = [(0, far), (far, len(points) - 1)]
    while spans:
        start, end = spans.pop()
        if end - start < 2:
            continue
        along, inner = points[end] - points[start], points[start + 1 : end] - points[start]
        length = float(np.hypot(*along)) or 1.0
        away = np.abs(inner[:, 0] * along[1] - inner[:, 1] * along[0]) / length
        if not along.any():
            away = np.hypot(inner[:, 0], inner[:, 1])
        worst = int(away.argmax())
        if away[worst] > tolerance:
            keep[start + 1 + worst] = True
            spans += [(start, start + 1 + worst), (start + 1 + worst, end)]
    return points[keep]


def _path(points: np.ndarray) -> str:
    """`m3 4l1 1 2 0z`: the closed line in steps, which are short."""
    steps = np.diff(points[:-1], axis=0).ravel().tolist()
    return f"M{points[0, 0]} {points[0, 1]}l{' '.join(map(str, steps))}z".replace(" -", "-")
