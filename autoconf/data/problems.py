"""What is wrong or odd with a data set: one row per finding, as CSV for people and as groups on the screen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from autoconf.output import to_csv

LEFT_OUT, WARNING, NOTE = "left out", "warning", "note"
SEVERITIES = (LEFT_OUT, WARNING, NOTE)  # the worst first
COLUMNS = ("severity", "problem", "case", "finding")

KINDS = {  # kind -> (severity, what it means)
    "unreadable": (LEFT_OUT, "a file is truncated, damaged, or no image of a known format"),
    "missing-modality": (LEFT_OUT, "not all four modalities are there"),
    "not-3d": (LEFT_OUT, "a file holds more or fewer than three axes"),
    "grid": (LEFT_OUT, "modalities, or image and mask, lie on different grids"),
    "degenerate-affine": (LEFT_OUT, "the voxel size is unknown, or that of no head"),
    "not-numbers": (LEFT_OUT, "a file holds something else than numbers"),
    "not-finite": (LEFT_OUT, "a file holds NaN or infinity"),
    "constant": (LEFT_OUT, "a file holds one value, so it is no scan"),
    "not-labels": (LEFT_OUT, "a mask holds fractions, negative values, or shades of grey"),
    "labels": (LEFT_OUT, "a mask holds values that its label scheme does not have"),
    "mask-outside-head": (LEFT_OUT, "much of the mask lies where all modalities are 0"),
    "empty-mask": (WARNING, "the mask has no tumour; the case is kept as unlabelled"),
    "no-masks": (WARNING, "no case has a mask, so nothing can be trained or scored"),
    "zero-filled": (WARNING, "a missing contrast is replaced by zeros (--missing zero)"),
    "swapped": (WARNING, "two modalities look swapped"),
    "copy": (WARNING, "the same as another case; both stay on one side of the split"),
    "alike": (WARNING, "nearly the same as another case; both stay on one side of the split"),
    "two-sides": (WARNING, "a given split has the same patient, or copies, on two sides"),
    "anisotropic": (NOTE, "voxels are three times as long along one axis as along another"),
    "orientation": (NOTE, "stored along other axes than most cases; read correctly"),
    "orphan-mask": (WARNING, "a mask has no image; it is not used"),
    "unlabelled-kin": (NOTE, "a scan without a mask, of a patient who is in testing; marked in the datalist"),
    "misnamed-mask": (NOTE, "the mask was found under another name"),
    "layout": (NOTE, "about the data set as a whole"),
}


@dataclass(frozen=True)
class Problem:
    """One finding. `case` is empty for the data set as a whole; `finding` is one sentence, with the cure."""

    kind: str
    case: str
    finding: str

    @property
    def severity(self) -> str:
        """left out, warning or note."""
        return KINDS[self.kind][0]


def as_csv(problems: Iterable[Problem]) -> str:
    """The table of WORK/problems.csv, the worst first; only its head where nothing was found."""
    ordered = sorted(problems, key=lambda p: (SEVERITIES.index(p.severity), list(KINDS).index(p.kind), p.case))
    rows = [dict(zip(COLUMNS, (p.severity, p.kind, p.case, p.finding), strict=True)) for p in ordered]
    return to_csv(rows, COLUMNS)


def grouped(problems: Iterable[Problem]) -> list[tuple[str, str, int, str]]:
    """(severity, kind, count, first finding) for the screen, the worst first."""
    groups: dict[str, list[Problem]] = {}
    for problem in sorted(problems, key=lambda p: p.case):
        groups.setdefault(problem.kind, []).append(problem)
    return [(KINDS[kind][0], kind, len(groups[kind]), groups[kind][0].finding) for kind in KINDS if kind in groups]
