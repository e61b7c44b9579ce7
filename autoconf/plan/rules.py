"""The decisions of a plan, as pure functions: spacing, patch, batch. No disk, no device, no network.

Axes are RAS+; lengths are mm. Rules of nnU-Net are marked: F. Isensee et al., Nat. Methods 18, 203-211 (2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from autoconf.errors import AutoconfError

Vec3 = tuple[int, int, int]

TOKEN = 16  # voxels: a UNETR cuts its patch into tokens of this side
ANISOTROPY = 3.0  # an axis so many times coarser than the others is resampled by its 10th percentile (nnU-Net)
MIN_COVERAGE = 0.25  # of the median brain: a smaller patch sees too little context (nnU-Net's low-resolution rule)
BATCH_SHARE = 0.05  # of the data set's voxels in one batch, at most (nnU-Net)
MAX_BATCH = 8  # larger batches gain nothing on few cases
CPU_PATCH_VOXELS = 64 * 80 * 64  # a UNETR step of this size takes 0.4 s (with AVX512-BF16) to 2 s on two cores


@dataclass(frozen=True)
class Choice:
    """A value and why it was chosen."""

    value: object
    reason: str


def target_spacing(spacings: np.ndarray) -> tuple[float, float, float]:
    """Choose one voxel size for the whole data set.

    spacings: (cases, 3) floats, mm. The median of each axis; an axis more than ANISOTROPY times coarser than
    the finer of the others takes its 10th percentile, so that thin slices are not blurred away (nnU-Net).
    Raises AutoconfError if a spacing is not a positive number.
    """
    spacings = np.asarray(spacings, dtype=float)
    if spacings.ndim != 2 or not np.all(np.isfinite(spacings)) or np.any(spacings <= 0):
        raise AutoconfError("the fingerprint holds a spacing that is not a positive number. Run inspect again.")
    chosen = np.median(spacings, axis=0)
    coarsest = int(chosen.argmax())
    if chosen[coarsest] > ANISOTROPY * np.delete(chosen, coarsest).max():
        chosen[coarsest] = np.percentile(spacings[:, coarsest], 10)
    return tuple(round(float(s), 4) for s in chosen)  # type: ignore[return-value]


def coarsening(brain: Vec3, max_voxels: int) -> int:
    """The smallest whole factor by which to coarsen the voxels so that a patch of `max_voxels` shows enough brain.

    brain: voxels of the median brain at the factor 1. Enough is MIN_COVERAGE of it.
    """
    factor = 1
    while max_voxels * factor**3 < MIN_COVERAGE * math.prod(brain):
        factor += 1
    return factor


def covering_patch(brain: Vec3) -> Vec3:
    """The smallest legal patch that holds the median brain: multiples of TOKEN, at least two tokens a side."""
    return tuple(TOKEN * max(2, math.ceil(n / TOKEN)) for n in brain)  # type: ignore[return-value]


def fit_patch(brain: Vec3, fits: Callable[[Vec3], bool]) -> tuple[Vec3, Vec3 | None]:
    """Shrink the covering patch, one token at a time on the axis that covers most brain, until it fits.

    fits: tells whether a patch fits the budget; more budget must never make it say no.
    Returns the patch, and the last one that did not fit (None if the covering patch does).
    Raises AutoconfError if not even the smallest patch fits.
    """
    patch, too_large = covering_patch(brain), None
    while not fits(patch):
        if all(n == 2 * TOKEN for n in patch):
            raise AutoconfError("not even a patch of 32x32x32 voxels fits. Give more --memory.")
        too_large = patch
        cover = [n / b if n > 2 * TOKEN else -1.0 for n, b in zip(patch, brain, strict=True)]
        axis = cover.index(max(cover))
        patch = tuple(n - TOKEN * (i == axis) for i, n in enumerate(patch))  # type: ignore[assignment]
    return patch, too_large


def batch_size(patch: Vec3, fitting: int, dataset_voxels: float) -> Choice:
    """Crops per step: what fits, under nnU-Net's cap of BATCH_SHARE of the data, from 1 to MAX_BATCH.

    fitting: the largest batch that fits the budget. dataset_voxels: of all training brains at the target spacing.
    """
    cap = max(2, int(BATCH_SHARE * dataset_voxels / math.prod(patch)))  # nnU-Net never goes below 2 for this cap
    limits = {
        f"{fitting} fit the memory": fitting,
        f"the cap of {BATCH_SHARE:.0%} of the data's voxels allows {cap}": cap,
        f"more than {MAX_BATCH} gain nothing on few cases": MAX_BATCH,
    }
    chosen = max(1, min(limits.values()))
    decisive = next(text for text, limit in limits.items() if limit <= chosen)
    return Choice(chosen, decisive)
