"""Scores of one predicted mask against one true mask: pure functions on boolean arrays.

docs/scoring.md is the policy that they keep; no value is ever NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoconf.data.volumes import bounding_box
from autoconf.score.lesions import match
from autoconf.score.surfaces import distances, hd95, nsd

WORST_MM = 374.0  # the diagonal of a BraTS scan of 240 x 240 x 155 mm: what BraTS charges for a missed tumour
TOLERANCE = 1.0  # of the normalized surface Dice, in mm (images: pixels)
METRICS = {  # in the order of scores.csv -> what they are called on the screen
    "dice": "Dice",
    "iou": "IoU",
    "hd95": "HD95",
    "nsd": "NSD",
    "sensitivity": "sensitivity",
    "precision": "precision",
    "lesion_dice": "lesion Dice",
    "lesion_hd95": "lesion HD95",
    "lesion_f1": "lesion F1",
}
LOWER_IS_BETTER = {"hd95", "lesion_hd95"}


@dataclass(frozen=True)
class Overlap:
    """How many voxels two masks have, and how many they share."""

    pred: int
    truth: int
    both: int

    @property
    def empty(self) -> bool:
        """True if neither mask has a voxel."""
        return self.pred == self.truth == 0

    @property
    def dice(self) -> float:
        """2 |P and T| / (|P| + |T|), in 0..1; 1 if both are empty. Source: Dice, Ecology 26, 297-302 (1945)."""
        return 1.0 if self.empty else 2 * self.both / (self.pred + self.truth)

    @property
    def iou(self) -> float:
        """|P and T| / |P or T|, in 0..1; 1 if both are empty. Equals dice / (2 - dice)."""
        return 1.0 if self.empty else self.both / (self.pred + self.truth - self.both)

    @property
    def sensitivity(self) -> float:
        """|P and T| / |T|, in 0..1; 1 if both are empty, 0 if one is."""
        return 1.0 if self.empty else self.both / self.truth if self.truth else 0.0

    @property
    def precision(self) -> float:
        """|P and T| / |P|, in 0..1; 1 if both are empty, 0 if one is."""
        return 1.0 if self.empty else self.both / self.pred if self.pred else 0.0


def overlap(pred: np.ndarray, truth: np.ndarray) -> Overlap:
    """Count the voxels of two boolean masks of one shape. Raises ValueError for any other dtype or shape."""
    _check_masks(pred, truth)
    return Overlap(int(np.count_nonzero(pred)), int(np.count_nonzero(truth)), int(np.count_nonzero(pred & truth)))


def score_masks(pred: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """All METRICS of two masks, and `lesions_true` and `lesions_pred`, the numbers of lesions and of predicted objects.

    pred, truth: boolean, one shape, two or three axes. spacing: mm per axis, in the axis order of the arrays (pixels:
    1, 1). Distances of empty masks are the worst there are: 374 mm, for images the diagonal.
    Raises ValueError for any other dtype, shape or spacing. Source of each metric: docs/scoring.md.
    """
    _check_masks(pred, truth)
    if len(spacing) != pred.ndim or min(spacing) <= 0:
        raise ValueError(f"a spacing above 0 for each of {pred.ndim} axes, not {tuple(spacing)}")
    worst = WORST_MM if pred.ndim == 3 else math.hypot(*(n * s for n, s in zip(pred.shape, spacing, strict=True)))
    box = bounding_box(pred | truth)
    pred, truth = pred[box], truth[box]
    found = overlap(pred, truth)
    there, back = distances(pred, truth, spacing)
    farthest = hd95(there, back, worst)
    lesions = match(pred, truth, spacing, worst, whole=farthest)
    return {
        "dice": found.dice,
        "iou": found.iou,
        "hd95": farthest,
        "nsd": nsd(there, back, TOLERANCE),
        "sensitivity": found.sensitivity,
        "precision": found.precision,
        "lesion_dice": lesions.dice,
        "lesion_hd95": lesions.hd95,
        "lesion_f1": lesions.f1,
        "lesions_true": lesions.true,
        "lesions_pred": lesions.objects,
    }


def _check_masks(pred: np.ndarray, truth: np.ndarray) -> None:
    if pred.dtype != bool or truth.dtype != bool or pred.shape != truth.shape:
        raise ValueError(f"two boolean masks of one shape, not {pred.dtype} {pred.shape}, {truth.dtype} {truth.shape}")
