"""Statistics of voxels from how often each value occurs: exact, and small however many voxels and cases there are."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

DROPPED_BITS = 12  # of the 24 binary digits of a float32 fraction: 12 are kept, so a value is at most 0.025 % off
WIDEST_TABLE = 1 << 22  # one counter per possible value up to so many, 32 MiB; beyond, the values are sorted
BLOCK = 1 << 17  # numbers counted at once: 1 MiB as int64
MOST_PIECES = 8  # cases whose counts are kept before they are merged
CASE = 1 << 44  # the weight of one case among equals: 2^19 cases fit in 63 bits, one count is off by 3e-14 of a case


@dataclass(frozen=True)
class Counts:
    """Distinct values of some voxels and how often each occurs.

    Whole numbers are exact; fractions are rounded to 12 binary digits, but `moments` are those of the voxels.
    """

    values: np.ndarray  # (n,) float64, ascending
    counts: np.ndarray  # (n,) int64, positive
    moments: np.ndarray  # (4,) float64: sum, sum of squares, smallest, largest

    @property
    def voxels(self) -> int:
        """How many were counted."""
        return int(self.counts.sum())

    def is_sound(self) -> bool:
        """Whether the arrays can have come from `count`: asked of what was read from a cache."""
        shapes = (self.values.ndim, self.values.shape, self.moments.shape) == (1, self.counts.shape, (4,))
        kinds = self.values.dtype == np.float64 == self.moments.dtype and self.counts.dtype == np.int64
        if not (shapes and kinds and self.values.size):
            return False
        finite = np.isfinite(self.values).all() and np.isfinite(self.moments).all()
        return bool(finite and (np.diff(self.values) > 0).all() and (self.counts > 0).all())


def count(voxels: np.ndarray) -> Counts:
    """Count the values of a flat array of finite numbers; nothing to count gives empty Counts."""
    if not voxels.size:
        return Counts(np.empty(0), np.empty(0, np.int64), np.zeros(4))
    if voxels.dtype.kind not in "iu" and not np.array_equal(voxels, np.rint(voxels)):
        return _count_fractions(voxels)
    values, counts = _count_whole(voxels)
    moments = (float((values * counts).sum()), float((values * values * counts).sum()), values[0], values[-1])
    return Counts(values, counts, np.array(moments))


def _count_whole(voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if voxels.dtype.kind in "iu" and voxels.dtype.itemsize <= 2:  # the bits themselves are the place in the table
        size = 1 << (8 * voxels.dtype.itemsize)
        table = _table(voxels.view(f"u{voxels.dtype.itemsize}"), size)
        lowest = -size // 2 if voxels.dtype.kind == "i" else 0
        table = np.roll(table, lowest)  # negative numbers have the upper half of the bit patterns
    else:
        lowest, highest = int(voxels.min()), int(voxels.max())
        if highest - lowest >= WIDEST_TABLE:
            values, counts = np.unique(voxels, return_counts=True)
            return values.astype(np.float64), counts.astype(np.int64)
        table = np.bincount((voxels - voxels.dtype.type(lowest)).astype(np.int64))
    there = np.flatnonzero(table)
    return (there + lowest).astype(np.float64), table[there].astype(np.int64)


def _table(codes: np.ndarray, size: int) -> np.ndarray:
    """np.bincount in blocks: it copies what it counts to 8 bytes per number, and so that copy stays in the cache."""
    table = np.zeros(size, np.int64)
    for start in range(0, codes.size, BLOCK):
        part = np.bincount(codes[start : start + BLOCK])
        table[: part.size] += part
    return table


def _count_fractions(voxels: np.ndarray) -> Counts:
    bits = np.ascontiguousarray(voxels, np.float32).view(np.uint32)
    codes = (bits + (1 << (DROPPED_BITS - 1))) >> DROPPED_BITS  # half of what is dropped is added: rounded, not cut
    table = np.bincount(codes)
    there = np.flatnonzero(table)
    values = (there.astype(np.uint32) << DROPPED_BITS).view(np.float32).astype(np.float64)
    order = np.argsort(values)  # bit patterns of negative numbers ascend the other way
    total, square = voxels.sum(dtype=np.float64), np.square(voxels, dtype=np.float64).sum()
    moments = np.array([total, square, voxels.min(), voxels.max()], np.float64)
    return Counts(values[order], table[there][order].astype(np.int64), moments)


@dataclass
class Pool:
    """The counts of many cases in one. Order does not matter: weights are whole numbers, sums are rounded once.

    Memory grows with the number of distinct values, and by three numbers per case.
    """

    equal_cases: bool  # each case weighs the same, however many voxels it has; otherwise each voxel does
    pieces: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # (values, weights) to be merged
    moments: list[tuple[float, float, float]] = field(default_factory=list)  # per case: weight, sum, sum of squares
    low: float = math.inf
    high: float = -math.inf

    def add(self, found: Counts) -> None:
        """Add one case."""
        voxels = found.voxels
        if not voxels:
            return
        total, square, low, high = map(float, found.moments)
        weights = found.counts
        if self.equal_cases:
            weights = np.rint(weights * (CASE / voxels)).astype(np.int64)
            voxels, total, square = 1, total / voxels, square / voxels
        self.moments.append((voxels, total, square))
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.pieces.append((found.values, weights))
        if len(self.pieces) > MOST_PIECES:
            self._merge()  # only now and then: each merge sorts

    def _merge(self) -> tuple[np.ndarray, np.ndarray]:
        values = np.concatenate([values for values, _ in self.pieces])
        weights = np.concatenate([weights for _, weights in self.pieces])
        order = np.argsort(values, kind="stable")  # a sort that makes use of the sorted pieces
        values, weights = values[order], weights[order]
        first = np.flatnonzero(np.diff(values, prepend=-np.inf))
        self.pieces = [(values[first], np.add.reduceat(weights, first))]
        return self.pieces[0]

    def summary(self) -> dict[str, float] | None:
        """mean, std, median, min, max, p0.5 and p99.5 in the images' own units, six digits; None if nothing is there.

        A quantile is the smallest value that at least this share of the weight does not exceed.
        """
        if not self.moments:
            return None
        weight, total, square = (math.fsum(numbers) for numbers in zip(*self.moments, strict=True))
        mean = total / weight
        std = math.sqrt(max(square / weight - mean**2, 0.0))
        values, weights = self._merge()
        reached = np.cumsum(weights)
        places = [np.searchsorted(reached, share * reached[-1]) for share in (0.5, 0.005, 0.995)]
        median, low, high = (float(values[min(place, len(values) - 1)]) for place in places)
        numbers = {"mean": mean, "std": std, "median": median, "min": self.low, "max": self.high}
        numbers |= {"p0.5": low, "p99.5": high}
        return {name: float(f"{number:.6g}") for name, number in numbers.items()}


@dataclass
class Intensities:
    """One contrast over all cases: its non-zero voxels, and its voxels inside the tumour."""

    brain: Pool
    foreground: Pool

    @classmethod
    def none(cls) -> Intensities:
        """Nothing yet."""
        return cls(Pool(equal_cases=False), Pool(equal_cases=True))

    def summary(self) -> dict[str, float] | None:
        """mean, std, median, p0.5 and p99.5 over the non-zero voxels of all cases, each voxel weighing the same."""
        found = self.brain.summary()
        return found and {name: found[name] for name in ("mean", "std", "median", "p0.5", "p99.5")}
