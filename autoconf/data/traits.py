"""What tells one scan from another, whatever its intensities: a coarse picture, and how its modalities agree."""

from __future__ import annotations

import itertools

import numpy as np

from autoconf.data.brats import MODALITIES

COARSE = 12  # blocks per axis
STEP = 37  # of so many runs of voxels one is compared; prime, so that it keeps step with no axis
FEWEST = 30  # voxels to say something about
# Two different patients of 22 never exceeded 0.97, so 0.99 is no chance.
ALIKE = 0.99
# Measured by swapping modalities of 22 real cases: at this margin no right case is suspected; of T1 or T1c swapped with
# T2 or FLAIR one in 88 is missed; of T2 with FLAIR half are found (11 of 22); T1 with T1c look alike (2 of 22).
MARGIN = 0.5
FEWEST_CASES = 8  # to know what is usual
_PAIRS = tuple(itertools.combinations(range(len(MODALITIES)), 2))


def coarse(volume: np.ndarray, box: tuple[slice, ...]) -> np.ndarray:
    """(COARSE^3,) float32: mean of every block of the head's box, zero mean, length 1.

    volume: (i, j, k) numbers. box: where the head is.
    """
    blocks: np.ndarray = volume[box].astype(np.float32)
    for axis in range(3):
        edges = np.linspace(0, blocks.shape[axis], COARSE + 1).astype(int)
        sizes = np.maximum(np.diff(edges), 1)
        sums = np.add.reduceat(blocks, np.minimum(edges[:-1], blocks.shape[axis] - 1), axis=axis)
        blocks = sums / sizes.reshape([-1 if a == axis else 1 for a in range(3)])
    flat = blocks.ravel() - blocks.mean()
    return flat / max(float(np.linalg.norm(flat)), 1e-6)


def agreement(samples: np.ndarray, tumour: np.ndarray) -> list[float] | None:
    """14 numbers: the rank correlation of each pair of modalities, and the mean and 95th percentile rank of the tumour.

    samples: (4, n) intensities of the same voxels of the head; tumour: (n,) bool. None if there are too few of either.
    """
    if samples.shape[1] < FEWEST or np.count_nonzero(tumour) < FEWEST:
        return None
    ranks = np.argsort(np.argsort(samples, axis=1, kind="stable"), axis=1) / samples.shape[1]
    correlation = np.corrcoef(ranks)
    inside = ranks[:, tumour]
    numbers = [*(correlation[a, b] for a, b in _PAIRS), *inside.mean(axis=1), *np.percentile(inside, 95, axis=1)]
    return [round(float(number), 4) for number in numbers]


def swapped(traits: list[list[float] | None]) -> list[tuple[int, str, str]]:
    """(index, contrast, contrast) of the cases that are more usual with two modalities exchanged than as they are.

    traits: `agreement` of every case. Says nothing about fewer than FEWEST_CASES.
    """
    known = [(index, np.array(numbers)) for index, numbers in enumerate(traits) if numbers is not None]
    if len(known) < FEWEST_CASES:
        return []
    table = np.array([numbers for _, numbers in known])
    usual = np.median(table, axis=0)
    spread = np.maximum(1.48 * np.median(np.abs(table - usual), axis=0), 0.03)

    def oddness(numbers: np.ndarray) -> float:
        return float(np.minimum(np.abs(numbers - usual) / spread, 8).mean())

    found = []
    for index, numbers in known:
        exchanged = {pair: oddness(_exchange(numbers, *pair)) for pair in _PAIRS}
        best = min(exchanged, key=exchanged.__getitem__)
        if oddness(numbers) - exchanged[best] > MARGIN:
            found.append((index, MODALITIES[best[0]], MODALITIES[best[1]]))
    return found


def alike(pictures: list[np.ndarray]) -> list[tuple[int, int]]:
    """Pairs (indices) of cases whose coarse pictures correlate by at least ALIKE."""
    if not pictures:
        return []
    table = np.array(pictures)
    return [(int(a), int(b)) for a, b in np.argwhere(np.triu(table @ table.T >= ALIKE, k=1))]


def _exchange(numbers: np.ndarray, a: int, b: int) -> np.ndarray:
    """The numbers of a case whose modalities a and b were exchanged."""
    order = list(range(len(MODALITIES)))
    order[a], order[b] = order[b], order[a]
    where = {pair: place for place, pair in enumerate(_PAIRS)}
    pairs = [where[min(order[i], order[j]), max(order[i], order[j])] for i, j in _PAIRS]
    single = [len(_PAIRS) + place for place in order]
    return numbers[[*pairs, *single, *(place + len(MODALITIES) for place in single)]]
