"""Fail when a measured ratio got worse than the committed one."""

from __future__ import annotations

import json
from pathlib import Path

from .rounds import Result

COMMITTED = Path(__file__).with_name("ratios.json")
LOSS = 0.15  # of the committed ratio, at most


def read(path: Path = COMMITTED) -> dict[str, dict]:
    return json.loads(path.read_text())["ratios"] if path.exists() else {}


def ratios(results: list[Result]) -> dict[str, dict]:
    return {one.name: {"ratio": one.quotient["median"], "better": one.better} for one in results}


def losses(committed: dict[str, dict], measured: dict[str, dict]) -> list[str]:
    """A line for each ratio that is more than LOSS worse than committed, or that is missing on either side."""
    lines = []
    for name in [*committed, *(n for n in measured if n not in committed)]:
        if name not in measured:
            lines.append(f"{name}: was not measured")
            continue
        if name not in committed:
            lines.append(f"{name}: no ratio is committed. Add it with `python -m benchmarks guard --update`.")
            continue
        was, now = committed[name]["ratio"], measured[name]["ratio"]
        loss = now / was - 1 if committed[name]["better"] == "low" else was / now - 1
        if loss > LOSS:
            lines.append(f"{name}: {now:.3g}, was {was:.3g}: {loss:.0%} worse, {LOSS:.0%} are allowed")
    return lines
