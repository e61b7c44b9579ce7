"""Saved probabilities: other thresholds, whether they mean what they say, and which case to look at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from autoconf.data.volumes import bounding_box
from autoconf.score.metrics import overlap

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
BINS = 15  # of equal width, for the expected calibration error
BAND_MM = 10.0  # around the tumour: far from it, every network is right and sure, which would flatter the error


@dataclass(frozen=True)
class Calibration:
    """Of one case: Dice at each of THRESHOLDS; per bin the voxels of the band, the sum of their probabilities, and how
    many of them are tumour; and the mean entropy of the band around the prediction, in bits."""

    case: str
    dice: tuple[float, ...]
    voxels: np.ndarray  # (BINS,) int
    confidence: np.ndarray  # (BINS,) float
    tumour: np.ndarray  # (BINS,) int
    entropy: float

    @property
    def ece(self) -> float | None:
        """Expected calibration error of this case in 0..1; None without a band."""
        return expected_error(self.voxels, self.confidence, self.tumour)


def calibrate(
    case: str, probability: np.ndarray, pred: np.ndarray, truth: np.ndarray, spacing: Sequence[float]
) -> Calibration:
    """Look at one case. probability: (i, j, k) in 0..1; pred, truth: boolean, same shape; spacing: mm per axis."""
    near = band(truth | pred, spacing)
    inside, tumour = probability[near].astype(np.float64), truth[near]
    bins = np.minimum((inside * BINS).astype(int), BINS - 1)
    return Calibration(
        case,
        _dice_by_threshold(probability, truth),
        np.bincount(bins, minlength=BINS),
        np.bincount(bins, weights=inside, minlength=BINS),
        np.bincount(bins, weights=tumour, minlength=BINS).astype(int),
        _entropy(probability[band(pred, spacing)]),
    )


def _dice_by_threshold(probability: np.ndarray, truth: np.ndarray) -> tuple[float, ...]:
    """Dice of `probability >= threshold` for each of THRESHOLDS, in the map's own type."""
    edges = np.array(THRESHOLDS, probability.dtype)
    box = bounding_box(truth | (probability >= edges[0]))
    return tuple(overlap(probability[box] >= edge, truth[box]).dice for edge in edges)


def expected_error(voxels: np.ndarray, confidence: np.ndarray, tumour: np.ndarray) -> float | None:
    """Expected calibration error: how far, on average, the mean probability of a bin is from its share of tumour.

    Source: Guo et al., ICML 2017 (arXiv 1706.04599). None if there are no voxels.
    """
    total = voxels.sum()
    return float(np.abs(confidence - tumour).sum() / total) if total else None


def band(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """A mask and all within BAND_MM of it: boolean, same shape. Empty for an empty mask."""
    grown = np.zeros(mask.shape, bool)
    if not mask.any():
        return grown
    box = bounding_box(mask, [int(np.ceil(BAND_MM / size)) for size in spacing])
    grown[box] = ndimage.distance_transform_edt(~mask[box], sampling=spacing) <= BAND_MM
    return grown


def _entropy(probability: np.ndarray) -> float:
    """Mean binary entropy in bits, 0..1; 1 where nothing was predicted: such a case must be looked at first."""
    if not probability.size:
        return 1.0
    p = np.clip(probability.astype(np.float64), 1e-12, 1 - 1e-12)
    return float(np.mean(-p * np.log2(p) - (1 - p) * np.log2(1 - p)))
