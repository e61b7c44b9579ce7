"""python -m benchmarks.promises REPORT.xml ...: the promises that tests keep, and what they measured, as a table.

A report is what `pytest --junitxml REPORT.xml` writes (`make promises` runs the tests). Of several tests that keep one
promise each gives its figure. docs/evidence/results/promises.json keeps what docs/evidence/robustness.md shows.
"""

from __future__ import annotations

import argparse
import json
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autoconf.output import to_json

from .machine import machine
from .results import RAW, table
from .table import fill, marks

PAGE = Path(__file__).parents[1] / "docs" / "evidence" / "robustness.md"
BEGIN, END = marks("promises")
TOPICS = ("Resume", "Disk", "Data", "Numbers", "Load", "Security")
KEPT = "kept"  # where a test measures nothing but that
Row = dict[str, Any]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.promises", description=__doc__)
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT.xml")
    rows = rows_of(parser.parse_args(words).reports)
    broken = [f"{row['promise']} ({row['tests'][0]})" for row in rows if row["broken"]]
    if broken or not rows:
        print(
            f"promises: {broken[0] if broken else 'no test in these reports makes one'}: nothing written",
            file=sys.stderr,
        )
        return 1
    content = {"machine": machine("cpu"), "rows": rows}
    (RAW / "promises.json").write_text(to_json(content), encoding="utf-8")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), content), encoding="utf-8")
    print(f"wrote {RAW / 'promises.json'} and {PAGE}")
    return 0


def rows_of(reports: Sequence[Path]) -> list[Row]:
    """A row per promise: topic, promise, figures, tests, and whether one of them failed or was left out."""
    found: dict[tuple[str, str], Row] = {}
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - our own report
            said = [(str(p.get("name")), str(p.get("value") or p.text or "")) for p in case.iter("property")]
            told = dict(said)
            if "promise" not in told:
                continue
            row = {"topic": told["topic"], "promise": told["promise"], "figures": [], "tests": [], "broken": False}
            row = found.setdefault((told["topic"], told["promise"]), row)
            row["figures"] += [value for name, value in said if name == "figure" and value not in row["figures"]]
            test = str(case.get("classname")).replace(".", "/") + ".py"
            row["tests"] += [test] if test not in row["tests"] else []
            row["broken"] |= any(case.find(end) is not None for end in ("failure", "error", "skipped"))
    return sorted(found.values(), key=lambda row: TOPICS.index(row["topic"]))


def filled(page: str, content: Row) -> str:
    """The page with the table between its marks."""
    head = ("of", "what is promised", "measured", "by")
    lines = [
        (
            row["topic"],
            row["promise"],
            "; ".join(row["figures"]) or KEPT,
            ", ".join(f"`{test}`" for test in row["tests"]),
        )
        for row in content["rows"]
    ]
    ran = content["machine"]
    text = f"{ran['date']}, commit {ran['commit']}, {ran['cores']} cores of {ran['processor']}.\n\n{table(head, lines)}"
    return fill(page, "promises", text)


def read() -> Row:
    content: Row = json.loads((RAW / "promises.json").read_text(encoding="utf-8"))
    return content


if __name__ == "__main__":
    sys.exit(main())
