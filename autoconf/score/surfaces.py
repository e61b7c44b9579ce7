"""Distances between the surfaces of two masks, in mm. Every function holds in two and in three dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

PERCENTILE = 95
ROUNDING = 1e-6  # mm: spacings come from single-precision headers, so 1 mm may be read as 1.0000001


def surface(mask: np.ndarray) -> np.ndarray:
    """The voxels of a mask that have a face neighbour outside it; beyond the edge of the array is outside.

    mask: boolean, any number of axes. Returns the same.
    """
    padded = np.pad(mask, 1)
    inner = tuple(slice(1, -1) for _ in range(mask.ndim))
    inside = mask.copy()
    for axis in range(mask.ndim):
        for shift in (slice(None, -2), slice(2, None)):
            inside &= padded[(*inner[:axis], shift, *inner[axis + 1 :])]
    return mask & ~inside


def distances(pred: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """From each surface voxel of `pred` the distance to the nearest one of `truth`, and from each of `truth` back.

    pred, truth: boolean, one shape. spacing: mm per axis. Returns two float64 arrays, in mm between voxel centres;
    infinite where the other mask is empty. Exact: nearest neighbours in a k-d tree of the surface voxels.
    """
    points = [np.argwhere(surface(mask)) * np.asarray(spacing, float) for mask in (pred, truth)]
    if not len(points[0]) or not len(points[1]):
        return np.full(len(points[0]), np.inf), np.full(len(points[1]), np.inf)
    trees = [cKDTree(some, balanced_tree=False, compact_nodes=False) for some in points]
    return trees[1].query(points[0])[0], trees[0].query(points[1])[0]


def hd95(there: np.ndarray, back: np.ndarray, worst: float) -> float:
    """The larger 95th percentile of two sets of distances, at most `worst`; 0 if both masks are empty.

    Source: Huttenlocher et al., IEEE TPAMI 15, 850-863 (1993), with the percentile of the BraTS challenges.
    """
    if not there.size and not back.size:
        return 0.0
    if not there.size or not back.size:
        return worst
    return min(worst, float(max(np.percentile(there, PERCENTILE), np.percentile(back, PERCENTILE))))


def nsd(there: np.ndarray, back: np.ndarray, tolerance: float) -> float:
    """Normalized surface Dice: the share of surface voxels of both masks that lie within `tolerance` of the other.

    1 if both masks are empty. Source: Nikolov et al., J. Med. Internet Res. 23, e26151 (2021), counting voxels.
    """
    total = there.size + back.size
    near = tolerance + ROUNDING
    return float(np.count_nonzero(there <= near) + np.count_nonzero(back <= near)) / total if total else 1.0
