"""The search for a patch: all legal ones are looked at, in a fixed order. Pure, and stable by design.

A patch is legal if its sides are multiples of the network's step and it has the median brain's aspect as nearly as
whole steps allow. Among these, with no more voxels than the brain, the one that covers most of it and fits is chosen.
docs/decisions/0006 says why this is stable where rounding each side up is not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from autoconf.errors import AutoconfError
from autoconf.output import by
from autoconf.plan.rules import Vec3

SLACK = 0.2  # of a step, by which each side of the brain may grow to bound the voxels; above 0.25 plans would flip
MIN_SIDE = 32  # voxels; below, an instance norm of the deepest level would see single voxels


def min_side(step: int) -> int:
    """The shortest side of a patch, in voxels: two steps, because a norm cannot train on a single voxel."""
    return max(MIN_SIDE, 2 * step)


def legal_patches(brain: Vec3, step: int) -> list[Vec3]:
    """All patches of the brain's aspect, the one that covers most of it first; then by aspect, then by their sides.

    brain: voxels of the median brain. A patch belongs here if for some scale of the brain's box, at most 1, each of
    its sides is that box's side rounded down or up to a multiple of `step`; sides below min_side are lifted to it.
    Patches with more voxels than the brain, grown by SLACK of a step, are left out: they would train on padding.
    """
    low = min_side(step)
    sides = [max(n, low) for n in brain]
    # Roundings change only where a side reaches a multiple of the step; just below, the lower one is still in reach.
    scales = {1.0} | {min(1.0, m / n) for n in sides for m in range(low, n + step, step)}
    found: set[Vec3] = set()
    for scale in itertools.chain(scales, (s * (1 - 1e-9) for s in scales)):
        exact = [scale * n / step for n in sides]
        rounded = [{math.floor(x + 1e-12), math.ceil(x - 1e-12)} for x in exact]
        found |= set(itertools.product(*[{max(low, step * r) for r in both} for both in rounded]))  # type: ignore[arg-type]
    most = math.prod(n + SLACK * step for n in sides)
    legal = [p for p in found if math.prod(p) <= most]
    return sorted(legal, key=lambda p: (-round(coverage(p, sides), 9), round(_stretch(p, sides), 9), p))


def _stretch(patch: Vec3, brain: Sequence[int]) -> float:
    """How far the aspects differ: the logarithm of the largest over the smallest ratio of sides."""
    ratios = [p / b for p, b in zip(patch, brain, strict=True)]
    return math.log(max(ratios) / min(ratios))


def fit_patch(brain: Vec3, step: int, fits: Callable[[Vec3], bool]) -> tuple[Vec3, Vec3 | None]:
    """The first legal patch that fits, and the one before it that did not (None if the very first fits).

    fits: whether a patch fits the budget. A larger budget must never turn a yes into a no: then the order being
    fixed, more memory changes the choice only to a patch that did not fit before, which is a larger one.
    Raises AutoconfError if not even the smallest patch fits.
    """
    too_large = None
    for patch in legal_patches(brain, step):
        if fits(patch):
            return patch, too_large
        too_large = patch
    smallest = [min_side(step)] * 3
    raise AutoconfError(f"not even a patch of {by(smallest)} voxels fits. Give more --memory or --time.")


def coverage(patch: Vec3, brain: Sequence[int]) -> float:
    """Share of the median brain's box that one patch shows."""
    return math.prod(min(p, b) for p, b in zip(patch, brain, strict=True)) / math.prod(brain)
