"""Overlap of two binary masks. Pure functions on arrays of any shape.

Policy for empty masks, so that no case ever drops out of a mean: both empty is a perfect 1 (and counted apart by
the summary); one empty and the other not is 0. No NaN is ever returned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Overlap:
    """Sizes, in voxels, of a predicted mask, of the true one and of what they share."""

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


def overlap(pred: np.ndarray, truth: np.ndarray) -> Overlap:
    """Count the voxels of two boolean masks of one shape. Raises ValueError for any other dtype or shape."""
    if pred.dtype != bool or truth.dtype != bool or pred.shape != truth.shape:
        raise ValueError(f"two boolean masks of one shape, not {pred.dtype} {pred.shape}, {truth.dtype} {truth.shape}")
    return Overlap(int(np.count_nonzero(pred)), int(np.count_nonzero(truth)), int(np.count_nonzero(pred & truth)))
