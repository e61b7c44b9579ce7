"""A scan as labeling functions see it: robust z-scores inside the brain, depth, and the mid-sagittal plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage, optimize

TUMOUR, NOT, ABSTAIN = 1, 0, -1
MAD = 1.4826  # times the median absolute deviation is the standard deviation of a normal distribution
FEWEST = 64  # voxels of a brain below which nothing is said: no histogram has a shape


@dataclass(frozen=True)
class Scan:
    """What a label function sees.

    modalities: name -> robust z-scores, float32, 0 outside the brain. raw: name -> values as they came.
    brain: bool. spacing: mm per axis (pixels: 1). All arrays of one shape; axis `across` runs from ear to ear.
    """

    modalities: Mapping[str, np.ndarray]
    raw: Mapping[str, np.ndarray]
    brain: np.ndarray
    spacing: tuple[float, ...]
    across: int = 0

    @cached_property
    def depth(self) -> np.ndarray:
        """mm from each voxel of the brain to the nearest one outside; 0 outside."""
        return ndimage.distance_transform_edt(np.pad(self.brain, 1), self.spacing)[(slice(1, -1),) * self.brain.ndim]

    @cached_property
    def mirror(self) -> tuple[np.ndarray, np.ndarray]:
        """Matrix and offset that take a voxel to its mirror image about the mid-sagittal plane."""
        return mirror_plane(self)

    def silent(self) -> np.ndarray:
        """Abstain in the brain; outside there is no tumour."""
        return np.where(self.brain, ABSTAIN, NOT).astype(np.int8)

    def knows(self, *names: str) -> bool:
        return set(names) <= set(self.modalities) and np.count_nonzero(self.brain) >= FEWEST


def make_scan(
    raw: Mapping[str, np.ndarray], spacing: Sequence[float], brain: np.ndarray, smooth_mm: float = 1.0, across: int = 0
) -> Scan:
    """A Scan of the modalities that are there, those that vary inside the brain, and of `oedema`: FLAIR and T2, 2 to 1.

    raw: name -> numbers, any unit. brain: bool. smooth_mm: standard deviation of the Gaussian that goes before the
    z-score; measured inside the brain alone, so that its edge is not darkened by what lies outside.
    """
    sigma = [smooth_mm / s for s in spacing]
    weight = ndimage.gaussian_filter(brain.astype(np.float32), sigma)
    modalities = {}
    for name, values in raw.items():
        inside = np.where(brain, values, 0).astype(np.float32)
        smooth = np.divide(ndimage.gaussian_filter(inside, sigma), weight, out=np.zeros_like(inside), where=brain)
        scored = robust_z(smooth, brain)
        if scored is not None:
            modalities[name] = scored
    if "flair" in modalities:  # oedema is bright in both; artefacts and rims in one, fluid in T2 alone
        flair, t2 = modalities["flair"], modalities.get("t2", modalities["flair"])
        modalities["oedema"] = ((2 * flair + np.clip(t2, -2, 3)) / 3).astype(np.float32)
    return Scan(modalities, dict(raw), brain, tuple(float(s) for s in spacing), across)


def robust_z(values: np.ndarray, inside: np.ndarray) -> np.ndarray | None:
    """Distance from the median inside, in robust standard deviations (1.4826 * MAD); 0 outside; None without spread."""
    if not inside.any():
        return None
    median = np.median(values[inside])
    deviation = MAD * np.median(np.abs(values[inside] - median))
    if deviation <= 1e-6 * max(1e-6, abs(float(median))):
        return None
    return np.where(inside, (values - median) / deviation, 0).astype(np.float32)


def mirror_plane(scan: Scan, coarse_mm: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """The plane about which a head looks most like its mirror image, as the affine map of voxels to their mirrors.

    Begins upright through the middle of the brain and turns and shifts the plane until the brightness on both sides
    correlates best, on a coarse copy. Tumours disturb that little: most of a head is healthy.
    """
    spacing, ndim = np.asarray(scan.spacing), scan.brain.ndim
    factor = np.minimum(1.0, spacing / coarse_mm)
    names = [name for name in ("t1", "t2", *scan.modalities) if name in scan.modalities][:2]
    pictures = [np.clip(scan.modalities[name], -3, 3) for name in names] + [6.0 * scan.brain]
    coarse = [ndimage.zoom(ndimage.gaussian_filter(p, coarse_mm / 3 / spacing), factor, order=1) for p in pictures]
    step = spacing * (np.asarray(scan.brain.shape) - 1) / np.maximum(1, np.asarray(coarse[0].shape) - 1)
    places = np.argwhere(scan.brain)
    centre = places.mean(axis=0) * spacing if len(places) else spacing * (np.asarray(scan.brain.shape) - 1) / 2

    def cost(parameters: np.ndarray) -> float:
        matrix, offset = _reflection(parameters, centre, step, scan.across)
        there = [ndimage.affine_transform(p, matrix, offset, order=1) for p in coarse]
        return float(sum(np.abs(p - q).mean() for p, q in zip(coarse, there, strict=True)))

    begin = np.zeros(ndim)  # shift in mm / 10, then a turn in radians * 10 per other axis
    simplex = np.vstack([begin, begin + 0.6 * np.eye(ndim)])
    found = optimize.minimize(
        cost, begin, method="Nelder-Mead", options={"initial_simplex": simplex, "xatol": 0.02, "maxfev": 150}
    )
    return _reflection(found.x, centre, spacing, scan.across)


def _reflection(
    parameters: np.ndarray, centre: np.ndarray, spacing: np.ndarray, across: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mirror about a plane near `centre` (mm), as a map of voxels to voxels."""
    normal = np.insert(np.asarray(parameters[1:]) / 10, across, 1.0)
    normal /= np.linalg.norm(normal)
    on_plane = normal @ centre + 10 * parameters[0]
    flip = np.eye(len(centre)) - 2 * np.outer(normal, normal)
    return flip * spacing[None] / spacing[:, None], 2 * on_plane * normal / spacing


def mirrored(values: np.ndarray, mirror: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The picture as its mirror image lies on it; 0 where that lies outside."""
    return ndimage.affine_transform(values, *mirror, order=1)


def plane_distance(scan: Scan, signed: bool = False) -> np.ndarray:
    """mm from each voxel to the mid-sagittal plane, half the way to its mirror image; signed: below 0 on one side."""
    matrix, offset = scan.mirror
    grid = np.indices(scan.brain.shape, dtype=np.float32)
    way = np.tensordot(matrix - np.eye(len(offset)), grid, axes=1) + offset.reshape(-1, *[1] * len(offset))
    distance = np.sqrt(sum((w * s) ** 2 for w, s in zip(way, scan.spacing, strict=True))) / 2
    return distance * np.sign(way[scan.across]) if signed else distance
