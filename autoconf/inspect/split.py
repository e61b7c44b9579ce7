"""Decide which patients train, validate and test. Pure: no disk, no random state."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

from autoconf.errors import AutoconfError

TEST_SHARE = 0.15  # of the cases; sealed until the end
VALIDATION_SHARE = 0.15  # of the cases; becomes fold 0
TRAINING_FOLDS = 4  # the other 70 % lie in folds 1 to 4, so that each fold can take its turn as validation
TESTING = "testing"


def split(patients: list[str], seed: int = 0) -> list[int | str]:
    """One side per case: "testing", 0 (validation) or 1..4 (training), never one patient on two sides.

    patients: the patient of each case. About 15 % of the cases are for testing and 15 % for validation, whole
    patients only. A patient's turn is a hash of seed and name, so the order of the cases does not matter
    and a new patient leaves most others where they are. Raises AutoconfError for fewer than three patients.
    """
    sizes = Counter(patients)
    if len(sizes) < 3:
        raise AutoconfError(
            f"{len(sizes)} patient(s) with a mask cannot be split into training, validation and test: "
            "at least 3 are needed. Add cases of other patients."
        )
    queue = sorted(sizes, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    side: dict[str, int | str] = {}
    testing = _take(queue, sizes, TEST_SHARE * len(patients), leave=2)
    side.update(dict.fromkeys(testing, TESTING))
    queue = [name for name in queue if name not in side]
    validation = _take(queue, sizes, VALIDATION_SHARE * len(patients), leave=1)
    side.update(dict.fromkeys(validation, 0))
    side.update(_deal([name for name in queue if name not in side], sizes))
    return [side[name] for name in patients]


def _take(queue: list[str], sizes: Counter[str], target: float, leave: int) -> list[str]:
    """Patients from the queue whose cases add up to about `target`; at least one, at most all but `leave`."""
    taken: list[str] = []
    cases = 0
    for name in queue:
        nearer = abs(cases + sizes[name] - target) < abs(cases - target)
        if nearer and len(taken) < len(queue) - leave:
            taken.append(name)
            cases += sizes[name]
    return taken or [min(queue, key=sizes.__getitem__)]


def _deal(queue: Iterable[str], sizes: Counter[str]) -> dict[str, int]:
    """Folds 1.. for the patients, the one with most cases first, each into the fold with fewest cases so far."""
    cases = dict.fromkeys(range(1, TRAINING_FOLDS + 1), 0)
    fold: dict[str, int] = {}
    for name in sorted(queue, key=sizes.__getitem__, reverse=True):
        fold[name] = min(cases, key=cases.__getitem__)
        cases[fold[name]] += sizes[name]
    return fold
