"""What the run was made of: its plan, the data, the checks of the machine, and the commands."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections import Counter
from typing import Any

from autoconf import __version__
from autoconf.bundle.overrides import flow, parse
from autoconf.data.datalist import Datalist
from autoconf.data.problems import SEVERITIES
from autoconf.errors import AutoconfError
from autoconf.output import by
from autoconf.pages.html import Section, bullets, code, counted, escape, facts, missing, more, paragraph, shell, table
from autoconf.reading import at, number
from autoconf.report.read import RunFiles

MOST_KEYS = 200  # of one plan
MOST_KINDS = 40  # of problems
MOST_CHECKS = 300  # of the doctor


def plan(found: RunFiles) -> Section:
    """Each override file of the training: keys, values, reasons, and what was rejected."""
    command = _autoconf("plan", found.work or "WORK", "--bundle", found.bundle, "--out", "plan.yaml")
    if found.record is None:
        return Section("plan", "Plan", missing("Without run.json the plan of this run is not known.", command))
    files = at(found.record, "files")
    if not isinstance(files, dict) or not files:
        return Section("plan", "Plan", missing("The run had no plan on top of the bundle's own settings.", command))
    return Section("plan", "Plan", "".join(_plan_file(name, content) for name, content in files.items()))


def audit(found: RunFiles) -> Section:
    """How the data were split, what is wrong with them, and their measures."""
    command, measured = _autoconf("inspect", "DATA", "--out", found.work or "WORK"), found.fingerprint
    parts = []
    if found.datalist is None:
        parts.append(missing("The datalist of this run was not found.", command))
    else:
        parts.append(table(split_sizes(found.datalist), ("part", "cases", "patients"), "Split by patient", "numbers"))
    parts.append(missing("No problems.csv.", command) if found.problems is None else _problems(found.problems))
    parts.append(missing("No fingerprint.json.", command) if measured is None else _measures(measured))
    return Section("audit", "Data", "".join(parts))


def doctor(found: RunFiles) -> Section:
    """The table of the doctor: what fails first."""
    command = _autoconf("doctor", "--bundle", found.bundle, "--work", found.work or "WORK", "--out", found.run)
    if found.doctor is None:
        return Section("doctor", "Checks", missing("No doctor.json.", command))
    columns = ("check", "verdict", "expected", "measured", "seconds", "note", "group")
    rows = [[_short(check.get(name)) for name in columns] for check in found.doctor[:MOST_CHECKS]]
    rows.sort(key=lambda row: row[1] != "FAIL")
    counts = Counter(str(row[1]) for row in rows)
    said = ", ".join(f"{count} {verdict or 'without a verdict'}" for verdict, count in sorted(counts.items()))
    if not rows:
        return Section("doctor", "Checks", paragraph("The doctor made no check."))
    body = paragraph(f"{counted(len(rows), 'check')}: {said}.")
    return Section("doctor", "Checks", body + table(rows, columns, "Checks of the doctor"))


def environment(found: RunFiles) -> Section:
    """What is needed to repeat the run, with the exact command."""
    record = found.record
    parts = []
    if record is None:
        parts.append(missing("No run.json, so the command, the seed and the versions are not known.", found.command))
    else:
        names = ("bundle", "started", "device", "system", "seed", "cases", "max_epochs", "weights")
        labels = ("Bundle", "Started", "Device", "System", "Seed", "Training cases", "Epochs asked for", "Weights")
        parts.append(facts((label, _short(record.get(name))) for label, name in zip(labels, names, strict=True)))
        parts.append("<h3>The command of the training</h3>" + shell(record.get("command", "unknown")))
        parts.append(paragraph(f"Run in the folder {record.get('folder', 'unknown')}."))
        versions = record.get("versions")
        if isinstance(versions, dict):
            rows = [(name, "not installed" if version is None else version) for name, version in versions.items()]
            parts.append(table(rows, ("package", "version"), "Versions of the training"))
    if found.scores:
        summary = found.scores.summary
        words = [str(at(summary, "pred")), str(at(summary, "truth")), "--out", found.scores.folder]
        for flag in ("split", "dataset_dir"):
            words += [f"--{flag.replace('_', '-')}", str(summary[flag])] if flag in summary else []
        parts.append("<h3>The command of the scores</h3>" + shell(_autoconf("score", *words)))
    parts.append(paragraph(f"This page: autoconf {__version__}, Python {platform.python_version()} on {sys.platform}."))
    return Section("environment", "Environment and commands", "".join(parts))


def split_sizes(datalist: Datalist) -> list[tuple[str, int, int]]:
    """(part, cases, patients) of training, validation (fold 0), testing, and unlabelled cases if there are any."""
    parts = {
        "training": datalist.learning(),
        "validation (fold 0)": datalist.validating(),
        "testing": datalist.testing,
        "unlabelled": datalist.unlabelled,
    }
    return [
        (name, len(cases), len({case.patient for case in cases}))
        for name, cases in parts.items()
        if cases or name != "unlabelled"
    ]


def group(problems: list[dict[str, str]]) -> list[tuple[str, str, int, str]]:
    """(severity, problem, count, first finding), the worst first."""
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for problem in problems:
        groups.setdefault((problem.get("severity", ""), problem.get("problem", "")), []).append(problem)
    rank = {severity: place for place, severity in enumerate(SEVERITIES)}
    ordered = sorted(groups.items(), key=lambda item: (rank.get(item[0][0], len(rank)), item[0]))
    return [(*key, len(found), found[0].get("finding", "")) for key, found in ordered]


def _autoconf(*words: str) -> str:
    """A command as it is typed."""
    return shlex.join(["python", "-m", "autoconf", *words])


def _plan_file(name: str, content: Any) -> str:
    title = f"<h3>{escape(name)}</h3>"
    text = content if isinstance(content, str) else ""
    try:
        if "\n" not in text and os.path.isfile(text):  # a path in place of the content
            with open(text, encoding="utf-8") as file:
                text = file.read()
        heading, choices = parse(text, name)
    except (AutoconfError, OSError, UnicodeDecodeError):
        return title + paragraph("Not a file of `key: value` lines, so shown as it is.") + code(content)
    rows = []
    for key, choice in list(choices.items())[:MOST_KEYS]:
        rows.append((key, flow(choice.value), choice.reason or "no reason given"))
        rows += [("", "rejected", alternative) for alternative in choice.rejected[:20]]
    return title + bullets(heading[:20]) + table(rows, ("key", "value", "reason"), f"Plan {name}", "plan")


def _problems(problems: list[dict[str, str]]) -> str:
    if not problems:
        return paragraph("inspect found nothing wrong with the data.")
    rows = group(problems)[:MOST_KINDS]
    return table(rows, ("severity", "problem", "count", "first finding"), "What inspect found", "problems")


def _measures(fingerprint: dict[str, Any]) -> str:
    """Sizes and intensities; keys that a fingerprint of another kind lacks are left out."""
    pairs = (
        ("Cases", fingerprint.get("n_cases")),
        ("Median voxel, mm", _by(fingerprint, "median_spacing")),
        ("Median brain, voxels", _by(fingerprint, "median_brain_shape")),
        ("Median brain, mm", _by(fingerprint, "median_brain_mm")),
        ("Median size, pixels", _by(fingerprint, "median_size")),
    )
    body = facts((name, None if value is None else _short(value)) for name, value in pairs)
    for key, what in (("modalities", "Intensities of the head"), ("foreground", "Intensities in the masks")):
        found = fingerprint.get(key)
        if isinstance(found, dict) and found:
            names = list(dict.fromkeys(n for entry in found.values() if isinstance(entry, dict) for n in entry))[:12]
            rows = [
                (contrast, *("" if (value := number(entry, name)) is None else f"{value:g}" for name in names))
                for contrast, entry in list(found.items())[:12]
            ]
            body += more(what, table(rows, ("contrast", *names), what, "numbers"))
    return body


def _by(content: dict[str, Any], key: str) -> str | None:
    value = content.get(key)
    return by(value) if isinstance(value, list) else None


def _short(value: Any) -> object:
    """A value of a JSON file as one cell."""
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)
