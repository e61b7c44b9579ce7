"""What a user may decide about reading and splitting, and the side of each case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autoconf.data.labels import check_scheme
from autoconf.data.split import FOLDS, TEST_SHARE, TESTING, split
from autoconf.errors import AutoconfError

Sides = list[int | str | None]  # of each case: a fold, testing, or None without a mask
MISSING = ("error", "drop", "zero")


@dataclass(frozen=True)
class Options:
    """What a user may decide about reading and splitting."""

    labels: str = "auto"
    missing: str = "error"
    strict: bool = False
    folds: int = FOLDS
    test: float = TEST_SHARE
    seed: int = 0
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.missing not in MISSING:
            raise AutoconfError(f"--missing {self.missing}: it must be one of {', '.join(MISSING)}.")
        check_scheme(self.labels)
        if not 2 <= self.folds <= 20:
            raise AutoconfError(f"--folds is {self.folds}. Give a whole number from 2 to 20.")
        if not 0 <= self.test < 0.9:
            raise AutoconfError(f"--test is {self.test:g}. Give a share from 0 to below 0.9.")
        if self.jobs < 1:
            raise AutoconfError(f"--jobs is {self.jobs}. Give a whole number of at least 1.")


def assign_sides(
    labelled: Sequence[int], groups: Sequence[str], strata: Sequence[Any], named: Sequence[str], options: Options
) -> Sides:
    """The side of every case, as far as possible the one that the data themselves name; None of the unlabelled ones.

    labelled: indices of the cases with a mask; strata: of these. groups: what stays together, of all cases. named:
    training, validation, testing or "" of each case, from the folders it lies in. With training and validation for all
    labelled ones, validation is fold 0 and training fold 1; otherwise what is named testing stays there, and the others
    are split anew, by groups and strata.
    """
    by_name: dict[str, int | str] = {"testing": TESTING, "validation": 0, "training": 1}
    names = {named[index] for index in labelled}
    if "" not in names and {"training", "validation"} <= names:
        side: dict[int, int | str] = {index: by_name[named[index]] for index in labelled}
    else:
        free = {index: stratum for index, stratum in zip(labelled, strata, strict=True) if named[index] != "testing"}
        share = options.test if len(free) == len(labelled) else 0.0
        parts = split([groups[i] for i in free], list(free.values()), options.seed, share, options.folds)
        side = {**dict.fromkeys(labelled, TESTING), **dict(zip(free, parts, strict=True))}
    return [side.get(index) for index in range(len(groups))]
