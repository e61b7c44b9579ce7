"""The steps of `inspect` for volumes: which scans are complete, what their labels mean, who is on which side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autoconf.data.brats import MODALITIES
from autoconf.data.labels import SCHEMES, Scheme, choose_scheme
from autoconf.data.problems import Problem
from autoconf.data.scans import Scan
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
        if self.labels not in ("auto", *SCHEMES):
            choose_scheme("", [], self.labels)
        if not 2 <= self.folds <= 20:
            raise AutoconfError(f"--folds is {self.folds}. Give a whole number from 2 to 20.")
        if not 0 <= self.test < 0.9:
            raise AutoconfError(f"--test is {self.test:g}. Give a share from 0 to below 0.9.")
        if self.jobs < 1:
            raise AutoconfError(f"--jobs is {self.jobs}. Give a whole number of at least 1.")


def keep_complete(scans: Sequence[Scan], missing: str) -> tuple[list[Scan], list[Problem]]:
    """The scans to read, and what is said of those without all modalities.

    missing: error stops, drop leaves them out, zero keeps them if they have at least one. Raises AutoconfError.
    """
    kept, problems = [], []
    for scan in scans:
        if not scan.missing:
            kept.append(scan)
            continue
        what = f"no {' and no '.join(scan.missing)} image beside {next(path for path in scan.files)}"
        if missing == "error":
            raise AutoconfError(
                f"case '{scan.case}': {what}. Add it, or say what to do with such cases: --missing drop (leave them "
                "out) or --missing zero (train with zeros in its place)."
            )
        if missing == "drop" or len(scan.missing) == len(MODALITIES):
            problems.append(Problem("missing-modality", scan.case, f"{what}. Add it, or use --missing zero."))
        else:
            kept.append(scan)
            problems.append(Problem("zero-filled", scan.case, f"{what}; zeros stand in its place. Add it if you can."))
    return kept, problems


def count_tumour(row: dict[str, Any], scheme: Scheme) -> dict[str, Any]:
    """The row with tumour_voxels and tumour_ml of the labels that are tumour: a cavity is none."""
    if not row.get("label_voxels"):
        return row
    per_voxel = row["tumour_ml"] / row["tumour_voxels"]
    voxels = sum(n for label, n in row["label_voxels"].items() if int(label) in scheme.regions["wt"])
    return row | {"tumour_voxels": voxels, "tumour_ml": round(voxels * per_voxel, 4)}


def deal(groups: Sequence[str], strata: Sequence[Any], named: Sequence[str], options: Options) -> list[int | str]:
    """The side of every labelled case, as far as possible the one that the data themselves name.

    named: training, validation, testing or "" of each case, from the folders it lies in. With training and validation
    for all, validation is fold 0 and training fold 1; otherwise what is named testing stays there, and the others are
    split anew, by groups and strata.
    """
    if "" not in named and {"training", "validation"} <= set(named):
        by_name: dict[str, int | str] = {"testing": TESTING, "validation": 0, "training": 1}
        return [by_name[name] for name in named]
    free = [index for index, name in enumerate(named) if name != "testing"]
    share = options.test if len(free) == len(named) else 0.0
    dealt = split([groups[i] for i in free], [strata[i] for i in free], options.seed, share, options.folds)
    sides: list[int | str] = [TESTING] * len(named)
    for index, side in zip(free, dealt, strict=True):
        sides[index] = side
    return sides
