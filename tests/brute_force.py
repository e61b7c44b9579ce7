"""The metrics of docs/scoring.md once more, as slowly and plainly as they can be written: sets of voxels and loops.

Nothing here uses scipy or any code of `autoconf.score`. Masks are sets of index tuples.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator

import numpy as np

Voxel = tuple[int, ...]
WORST = 374.0


def voxels(mask: np.ndarray) -> set[Voxel]:
    return {tuple(map(int, index)) for index in zip(*np.nonzero(mask), strict=True)}


@functools.cache
def steps(axes: int, most: int) -> list[Voxel]:
    """To the neighbours that differ by 1 in at least one and at most `most` axes."""
    return [step for step in itertools.product((-1, 0, 1), repeat=axes) if 1 <= sum(map(abs, step)) <= most]


def neighbours(voxel: Voxel, most: int) -> list[Voxel]:
    return [tuple(map(operator.add, voxel, step)) for step in steps(len(voxel), most)]


def surface(mask: set[Voxel]) -> set[Voxel]:
    return {voxel for voxel in mask if any(other not in mask for other in neighbours(voxel, 1))}


def gaps(from_mask: set[Voxel], to_mask: set[Voxel], spacing: tuple[float, ...]) -> list[float]:
    """From each surface voxel the distance to the nearest surface voxel of the other mask."""

    def length(a: Voxel, b: Voxel) -> float:
        return math.sqrt(sum(((x - y) * s) ** 2 for x, y, s in zip(a, b, spacing, strict=True)))

    there = surface(to_mask)
    return [min(length(one, other) for other in there) for one in sorted(surface(from_mask))]


def percentile(values: list[float], share: float) -> float:
    """Linear interpolation between the sorted values."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def dice(pred: set[Voxel], truth: set[Voxel]) -> float:
    return 2 * len(pred & truth) / (len(pred) + len(truth)) if pred or truth else 1.0


def hd95(pred: set[Voxel], truth: set[Voxel], spacing: tuple[float, ...]) -> float:
    if not pred or not truth:
        return WORST if pred or truth else 0.0
    return max(percentile(gaps(pred, truth, spacing), 0.95), percentile(gaps(truth, pred, spacing), 0.95))


def nsd(pred: set[Voxel], truth: set[Voxel], spacing: tuple[float, ...]) -> float:
    if not pred or not truth:
        return 0.0 if pred or truth else 1.0
    both = gaps(pred, truth, spacing) + gaps(truth, pred, spacing)
    return sum(gap <= 1 + 1e-6 for gap in both) / len(both)


def objects(mask: set[Voxel]) -> list[set[Voxel]]:
    """Voxels that hang together by faces, edges or corners."""
    found, left = [], set(mask)
    while left:
        group, queue = set(), [left.pop()]
        while queue:
            voxel = queue.pop()
            group.add(voxel)
            near = set(neighbours(voxel, len(voxel))) & left
            left -= near
            queue += near
        found.append(group)
    return found


def dilated(mask: set[Voxel]) -> set[Voxel]:
    """Three steps over faces and edges."""
    for _ in range(3):
        mask = mask | {other for voxel in mask for other in neighbours(voxel, 2)}
    return mask


def lesion_wise(pred: set[Voxel], truth: set[Voxel], spacing: tuple[float, ...]) -> dict[str, float]:
    lesions = [truth & reach for reach in objects(dilated(truth))]
    parts = objects(pred)
    scores, missed, claimed = [], 0, set()
    for lesion in lesions:
        own = [index for index, part in enumerate(parts) if part & dilated(lesion)]
        claimed |= set(own)
        if len(lesion) * math.prod(spacing) <= 50:
            continue
        together = set().union(*(parts[index] for index in own))
        if own:
            scores.append((dice(together, lesion), hd95(together, lesion, spacing)))
        else:
            missed += 1
    false = len(parts) - len(claimed)
    total = len(scores) + missed + false
    wrong = missed + false
    return {
        "lesion_dice": sum(d for d, _ in scores) / total if total else 1.0,
        "lesion_hd95": (sum(h for _, h in scores) + WORST * wrong) / total if total else 0.0,
        "lesion_f1": 2 * len(scores) / (2 * len(scores) + wrong) if total else 1.0,
        "lesions_true": len(scores) + missed,
        "lesions_pred": len(parts),
    }
