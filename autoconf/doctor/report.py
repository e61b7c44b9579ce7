"""The table on the screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from autoconf.doctor.checks import FAIL, PASS, SKIPPED, Result
from autoconf.output import table


def print_results(results: Sequence[Result], out: str) -> None:
    """One line per check, then the counts and where they were written."""
    rows = [(r.group, r.check, r.verdict, f"{r.seconds:.1f}", r.expected, _measured(r)) for r in results]
    print(table(rows, ["group", "check", "verdict", "s", "expected", "measured"]))
    counts = Counter(result.verdict for result in results)
    print("\n" + ", ".join(f"{counts[verdict]} {verdict}" for verdict in (PASS, FAIL, SKIPPED)))
    slow = [r.check for r in results if r.measured == "too slow for --quick"]
    if slow:
        print(f"left out by --quick: {', '.join(slow)}")
    if out:
        print(f"wrote  {out}/doctor.json")


def _measured(result: Result) -> str:
    return f"{result.measured}  ({result.note})" if result.note else result.measured
