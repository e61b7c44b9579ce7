"""Measure volumes in one pass, a case in memory at a time: grids, brain and tumour sizes, intensities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from autoconf.errors import AutoconfError
from autoconf.inspect.brats import CONTRASTS, Case
from autoconf.inspect.volumes import Volume, check_same_grid, read_volume

FRACTION_BITS = 12  # fractions are counted after rounding to so many binary digits: at most 0.013 % off


@dataclass
class Intensities:
    """Non-zero voxels of one contrast over all cases, as distinct values and how often each occurs.

    Exact for whole numbers; mean and std are exact for fractions too. Memory grows with the number of distinct
    values, which is some ten thousand, not with the number of voxels or cases.
    """

    values: np.ndarray  # distinct, ascending
    counts: np.ndarray
    total: float = 0.0
    total_square: float = 0.0

    @classmethod
    def none(cls) -> Intensities:
        return cls(np.empty(0), np.empty(0))

    def add(self, voxels: np.ndarray) -> None:
        """voxels: flat array of one volume's foreground."""
        self.total += float(voxels.sum(dtype=np.float64))
        self.total_square += float(np.square(voxels, dtype=np.float64).sum())
        values, counts = _count(voxels)
        both = np.concatenate([self.values, values])
        self.values, where = np.unique(both, return_inverse=True)
        self.counts = np.bincount(where, np.concatenate([self.counts, counts]))

    def summary(self) -> dict[str, float]:
        """mean, std, median, p0.5 and p99.5 over the voxels, in the images' own units."""
        voxels = self.counts.sum()
        mean = self.total / voxels
        variance = max(self.total_square / voxels - mean**2, 0.0)
        reached = np.cumsum(self.counts) / voxels
        median, low, high = (
            float(self.values[min(np.searchsorted(reached, share), len(self.values) - 1)])
            for share in (0.5, 0.005, 0.995)
        )
        numbers = {"mean": mean, "std": variance**0.5, "median": median, "p0.5": low, "p99.5": high}
        return {name: float(f"{number:.6g}") for name, number in numbers.items()}


def _count(voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    whole = voxels.dtype.kind in "iu" or np.array_equal(voxels, np.rint(voxels))
    if not whole:
        digits, exponent = np.frexp(voxels)
        rounded = np.ldexp(np.rint(np.ldexp(digits, FRACTION_BITS)), exponent - FRACTION_BITS)
        return np.unique(rounded, return_counts=True)
    lowest, highest = int(voxels.min()), int(voxels.max())
    if highest - lowest >= 1 << 22:  # too wide for a table of counts
        values, counts = np.unique(voxels, return_counts=True)
        return values.astype(float), counts
    counts = np.bincount(voxels.astype(np.int64) - lowest)
    values = np.flatnonzero(counts)
    return (values + lowest).astype(float), counts[values]


def measure_case(case: Case, intensities: dict[str, Intensities]) -> dict[str, Any]:
    """Read one case, add its voxels to `intensities` and return its row of the fingerprint.

    The row: case, shape (voxels, RAS+ axis order), spacing (mm, RAS+), brain_shape (bounding box of the voxels that
    are not 0 in at least one contrast), and, of the mask, tumour_voxels, tumour_ml and labels (None without a mask).
    Raises AutoconfError, naming the file, for anything that cannot be trained on.
    """
    brain = reference = None
    for contrast, path in zip(CONTRASTS, case.image, strict=True):
        volume = read_volume(path)
        reference = reference or volume
        check_same_grid(volume, reference)
        foreground = volume.data != 0
        voxels = volume.data[foreground]
        if voxels.size == 0 or voxels.min() == voxels.max():
            held = f"only 0 and {voxels[0]:g}" if 0 < voxels.size < volume.data.size else "one value everywhere"
            raise AutoconfError(f"{path}: holds {held}, so it is no scan. Export it again, or leave the case out.")
        intensities[contrast].add(voxels)
        brain = foreground if brain is None else brain | foreground
    box = _box(brain)
    row = {
        "case": case.case,
        "shape": reference.shape,
        "spacing": reference.spacing,
        "brain_shape": [box[axis] for axis in reference.to_ras],
    }
    return row | _measure_mask(case.label, reference)


def _measure_mask(path: str | None, reference: Volume) -> dict[str, Any]:
    if path is None:
        return {"tumour_voxels": None, "tumour_ml": None, "labels": None}
    mask = read_volume(path)
    check_same_grid(mask, reference)
    voxels = mask.data[mask.data != 0]
    labels = np.unique(voxels)
    odd = labels[(labels < 0) | (labels != np.rint(labels))]
    if odd.size:
        raise AutoconfError(f"{path}: holds {odd[0]:g}; a mask holds 0, 1, 2, ... Save it without interpolation.")
    if voxels.size == 0:
        raise AutoconfError(f"{path}: the mask is empty. Remove the mask to keep the case as unlabelled, or the case.")
    return {
        "tumour_voxels": voxels.size,
        "tumour_ml": round(voxels.size * mask.voxel_ml, 4),
        "labels": [0] * (voxels.size < mask.data.size) + [int(label) for label in labels],
    }


def _box(brain: np.ndarray) -> list[int]:
    """Edge lengths, in voxels, of the smallest box around all True voxels, in the array's axis order."""
    edges = []
    for axis in range(3):
        there = np.flatnonzero(brain.any(axis=tuple(other for other in range(3) if other != axis)))
        edges.append(int(there[-1] - there[0] + 1))
    return edges


def fingerprint(rows: list[dict[str, Any]], intensities: dict[str, Intensities]) -> dict[str, Any]:
    """The dataset's fingerprint from the rows of its cases; medians are taken axis by axis, in RAS+ order."""
    spacing = np.array([row["spacing"] for row in rows])
    brain = np.array([row["brain_shape"] for row in rows])
    return {
        "kind": "volumes",
        "n_cases": len(rows),
        "median_spacing": np.round(np.median(spacing, axis=0), 6).tolist(),
        "median_brain_shape": np.rint(np.median(brain, axis=0)).astype(int).tolist(),
        "median_brain_mm": np.round(np.median(brain * spacing, axis=0), 3).tolist(),
        "contrasts": {contrast: found.summary() for contrast, found in intensities.items()},
        "cases": rows,
    }
