"""Decide which cases train, validate and test. Pure: no disk, no random state."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from autoconf.errors import AutoconfError

TEST_SHARE = 0.15  # of the cases; sealed until the end
FOLDS = 5  # of the others: each takes its turn as validation, fold 0 first
TESTING = "testing"
STRATA = 4  # quartiles of tumour volume


def split(
    groups: Sequence[str], strata: Sequence[object], seed: int = 0, test: float = TEST_SHARE, folds: int = FOLDS
) -> list[int | str]:
    """One side per case: "testing" or a fold from 0; never one group on two sides, each side a fair mix of strata.

    groups: what must stay together, one name per case (a patient, or all that are copies of each other).
    strata: per case, anything sortable; a group counts as its commonest one.
    A group's turn within its stratum is a hash of seed and name, so the order of the cases does not matter. Fewer
    groups than folds give as many folds as there are. Raises AutoconfError for fewer than three groups.
    """
    sizes = Counter(groups)
    if len(sizes) < 3:
        raise AutoconfError(
            f"{len(sizes)} patient(s) with a mask cannot be split into training, validation and test: "
            "at least 3 are needed. Add cases of other patients."
        )
    queue = _in_turn(groups, strata, seed)
    testing = set(_take(queue, sizes, test)) if test else set()  # none where the data have a test set of their own
    side: dict[str, int | str] = dict.fromkeys(testing, TESTING)
    side.update(_assign_folds([name for name in queue if name not in testing], sizes, folds))
    return [side[name] for name in groups]


def quartiles(values: Sequence[float]) -> list[int]:
    """For each value which quarter of the sorted values it lies in, 0 to 3; equal values lie in one quarter."""
    ordered = np.sort(np.asarray(values, dtype=float))
    return [int(STRATA * np.searchsorted(ordered, value) / len(ordered)) for value in values]


def join(groups: Sequence[str], pairs: Iterable[tuple[int, int]]) -> list[str]:
    """Merge the groups of every pair of cases (indices): what is a copy of a patient's case belongs to that patient.

    A merged group bears the name that sorts first.
    """
    leader = {name: name for name in groups}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for a, b in pairs:
        first, second = sorted((find(groups[a]), find(groups[b])))
        leader[second] = first
    return [find(name) for name in groups]


def group_sides(groups: Sequence[str], sides: Sequence[int | str | None]) -> list[int | str | None]:
    """For each case the side of its group's cases that have one (testing, if they are on several); None if none has."""
    of_group: dict[str, int | str] = {}
    for group, side in zip(groups, sides, strict=True):
        if side == TESTING or (side is not None and of_group.get(group) != TESTING):
            of_group[group] = side
    return [of_group.get(group) for group in groups]


def side_name(side: int | str | None) -> str:
    """`fold 0`, `testing`: a side as a person reads it."""
    return f"fold {side}" if isinstance(side, int) else str(side)


def _in_turn(groups: Sequence[str], strata: Sequence[object], seed: int) -> list[str]:
    """The groups stratum by stratum, shuffled within each."""
    counts: dict[str, Counter] = {}
    for group, stratum in zip(groups, strata, strict=True):
        counts.setdefault(group, Counter())[stratum] += 1
    stratum_of = {group: min(found, key=lambda s: (-found[s], s)) for group, found in counts.items()}
    return sorted(counts, key=lambda g: (stratum_of[g], hashlib.sha256(f"{seed}:{g}".encode()).digest()))


def _take(queue: list[str], sizes: Counter[str], share: float) -> list[str]:
    """Groups evenly from the whole queue, until about `share` of the cases are taken; at least one, two are left.

    A group is taken when that brings the share among all cases so far nearer to the one that is wanted, so each
    stratum gives its part and one huge patient is not taken.
    """
    taken: list[str] = []
    cases = seen = 0
    for name in queue:
        seen += sizes[name]
        target = share * seen
        nearer = abs(cases + sizes[name] - target) < abs(cases - target)
        if nearer and len(taken) < len(queue) - 2:
            taken.append(name)
            cases += sizes[name]
    return taken or [min(queue, key=sizes.__getitem__)]


def _assign_folds(queue: list[str], sizes: Counter[str], folds: int) -> dict[str, int]:
    """A fold from 0 for each group, in turn: the fold with fewest cases so far.

    Groups of several cases come first, so that the small ones can even the folds out; `queue` orders the rest.
    """
    cases = dict.fromkeys(range(min(folds, len(queue))), 0)
    fold: dict[str, int] = {}
    for name in sorted(queue, key=lambda name: -sizes[name]):  # stable: strata stay together among equals
        fold[name] = min(cases, key=lambda f: (cases[f], -f))  # fold 0 last: one huge patient is for training
        cases[fold[name]] += sizes[name]
    return fold
