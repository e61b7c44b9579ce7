"""Everything that a report is made of, read once and checked. What is not there is None or empty; nothing is drawn."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any

from autoconf.bundle.progress import Epoch, read_progress
from autoconf.data.datalist import NAME, Datalist, read_datalist
from autoconf.errors import AutoconfError
from autoconf.reading import at, read_dict, read_json, read_table

TEXT_COLUMNS = ("case", "patient", "region")


@dataclass(frozen=True)
class Row:
    """A line of scores.csv: one case in one region. values: column -> finite number."""

    case: str
    patient: str
    region: str
    values: dict[str, float]


@dataclass(frozen=True)
class Scores:
    """What `autoconf score` wrote. threshold_curve: (threshold, Dice); triage: (case, entropy).

    calibration and comparison: the JSON files of that name.
    """

    folder: str
    rows: list[Row]
    summary: dict[str, Any]
    threshold_curve: list[tuple[float, float]] = field(default_factory=list)
    calibration: dict[str, Any] = field(default_factory=dict)
    triage: list[tuple[str, float]] = field(default_factory=list)
    comparison: dict[str, Any] = field(default_factory=dict)

    @property
    def images(self) -> bool:
        """Whether 2D images were scored, in pixels."""
        return self.summary.get("kind") == "images"

    @property
    def regions(self) -> list[str]:
        """wt, tc, et: those that were scored, in their order in scores.csv."""
        return list(dict.fromkeys(row.region for row in self.rows))

    def of(self, region: str) -> list[Row]:
        """The rows of one region, in the order of the file."""
        return [row for row in self.rows if row.region == region]

    def worst_first(self, region: str) -> list[Row]:
        """The same by Dice."""
        return sorted(self.of(region), key=lambda row: (row.values.get("dice", 0.0), row.case))


@dataclass(frozen=True)
class RunFiles:
    """A run and what lies around it. record: run.json. work: the folder of the datalist, as far as it is known."""

    run: str
    record: dict[str, Any] | None = None
    epochs: list[Epoch] = field(default_factory=list)
    damaged: int = 0  # lines of progress.csv that could not be read
    scores: Scores | None = None
    work: str | None = None
    datalist: Datalist | None = None
    fingerprint: dict[str, Any] | None = None
    problems: list[dict[str, str]] | None = None
    doctor: list[dict[str, Any]] | None = None

    @property
    def bundle(self) -> str:
        """Its folder, as far as it is known."""
        return f"bundles/{at(self.record, 'bundle') or 'unetr3d'}"

    @property
    def command(self) -> str:
        """What makes such a run."""
        usual = "python -m monai.bundle run training --config_file ... --datalist FILE --output_dir " + self.run
        return at(self.record, "command") or usual

    @property
    def best(self) -> Epoch | None:
        """The epoch with the highest validation Dice; the first of equals."""
        return max((e for e in self.epochs if e.dice is not None), key=lambda e: e.dice or 0.0, default=None)


def find(run: str, scores: str = "", doctor: str = "") -> RunFiles:
    """Read a run's folder and what belongs to it. scores, doctor: where they lie; empty: the usual places.

    Raises AutoconfError if there is nothing to report, if a given place is empty, or if a file is damaged.
    """
    if not os.path.isdir(run):
        raise AutoconfError(f"{run}: no such folder. Give the --output_dir of a training.")
    beside = os.path.dirname(os.path.abspath(run))
    record = read_dict(os.path.join(run, "run.json"))
    epochs, damaged = read_progress(os.path.join(run, "progress.csv"))
    table = _scores(scores, [os.path.join(run, "scores"), os.path.join(beside, "scores")])
    if record is None and not epochs and table is None:
        raise AutoconfError(
            f"{run}: holds no run.json, no progress.csv and no scores. Give the --output_dir of a training."
        )
    work = _work(record, beside)
    return RunFiles(
        run=run,
        record=record,
        epochs=epochs,
        damaged=damaged,
        scores=table,
        work=work,
        datalist=read_datalist(_in(work, NAME)) if work else None,
        fingerprint=read_dict(_in(work, "fingerprint.json")),
        problems=read_table(_in(work, "problems.csv")),
        doctor=_doctor(doctor, [run, beside, os.path.join(beside, "doctor")]),
    )


def _work(record: dict[str, Any] | None, beside: str) -> str | None:
    """The folder that `inspect` wrote: where the run's datalist lies, or the run itself."""
    datalist = at(record, "datalist")
    places = [os.path.dirname(datalist)] if isinstance(datalist, str) else []
    return next((place for place in [*places, beside] if os.path.isfile(os.path.join(place, NAME))), None)


def _in(folder: str | None, name: str) -> str:
    return os.path.join(folder, name) if folder else ""


def _scores(given: str, usual: list[str]) -> Scores | None:
    folder = given or next((place for place in usual if os.path.isdir(place)), "")
    if not folder:
        return None
    rows, summary = read_table(os.path.join(folder, "scores.csv")), read_dict(os.path.join(folder, "summary.json"))
    how = "Make it with: python -m autoconf score PRED TRUTH --out DIR"
    if rows is None or summary is None:
        raise AutoconfError(f"{folder}: holds no scores.csv and summary.json. {how}")
    if not rows or not set(TEXT_COLUMNS) <= set(rows[0]) or not isinstance(summary.get("regions"), dict):
        raise AutoconfError(f"{folder}: scores of another form, without regions. {how}")
    return Scores(
        folder,
        [_row(row) for row in rows],
        summary,
        _pairs(os.path.join(folder, "threshold_curve.csv"), "threshold", "dice"),
        read_dict(os.path.join(folder, "calibration.json")) or {},
        [(row["case"], _number(row["entropy"])) for row in _known(os.path.join(folder, "triage.csv"), "entropy")],
        read_dict(os.path.join(folder, "comparison.json")) or {},
    )


def _row(row: dict[str, str]) -> Row:
    values = {name: _number(text) for name, text in row.items() if name not in TEXT_COLUMNS and text}
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    return Row(row["case"], row["patient"], row["region"], finite)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _known(path: str, column: str) -> list[dict[str, str]]:
    return [row for row in read_table(path) or [] if math.isfinite(_number(row.get(column, "")))]


def _pairs(path: str, first: str, second: str) -> list[tuple[float, float]]:
    return [(_number(row[first]), _number(row[second])) for row in _known(path, second) if first in row]


def _doctor(given: str, usual: list[str]) -> list[dict[str, Any]] | None:
    path = given or next((p for p in (os.path.join(f, "doctor.json") for f in usual) if os.path.isfile(p)), "")
    if not path:
        return None
    content = read_json(path)
    if content is None:
        raise AutoconfError(f"{path}: no such file. Give --doctor the doctor.json that doctor wrote.")
    if not isinstance(content, list):
        raise AutoconfError(f"{path}: holds no list of checks. Give --doctor the doctor.json that doctor wrote.")
    return [item for item in content if isinstance(item, dict)]
