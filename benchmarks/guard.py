"""Fail when a measured ratio got worse than the committed one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from .machine import machine
from .rounds import Result

COMMITTED = Path(__file__).with_name("ratios.json")
# benchmark -> the result that counts: none that needs an optional package, so that all machines measure the same
GUARDED = {"step": "step", "loader": "loader", "inference": "inference", "memory": "memory of training"}
LOSS = 0.15  # of the committed ratio, at most: medians of a busy machine differ by 5 %
UPDATE = "Measure it on an idle machine: `python -m benchmarks guard --update`."


def run(results: list[Result], device: str, update: bool) -> int:
    """Compare what was measured on a device with what is committed for it, or commit it; returns the exit status."""
    found, kind = ratios(results), device.partition(":")[0]
    if update:
        content = read() | {kind: {"machine": machine(device), "ratios": found}}
        COMMITTED.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {COMMITTED.name}")
        return 0
    lines = losses(read().get(kind, {}).get("ratios", {}), found)
    for line in lines:
        print(f"benchmarks: {line}", file=sys.stderr)
    if not lines:
        print(f"no ratio got more than {LOSS:.0%} worse")
    return int(bool(lines))


def read(path: Path = COMMITTED) -> dict[str, Any]:
    """{"cpu": {"machine": ..., "ratios": ...}, "cuda": ...}; empty where nothing was committed."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def ratios(results: list[Result]) -> dict[str, dict]:
    """What the guard remembers of each result that counts: its ratio, and whether a low or a high one is better."""
    counting = [one for one in results if one.name in GUARDED.values()]
    return {one.name: {"ratio": one.quotient["median"], "better": one.better} for one in counting}


def losses(committed: dict[str, dict], measured: dict[str, dict]) -> list[str]:
    """A line for each ratio that is more than LOSS worse than committed, or that is missing on either side.

    A loss is relative to the committed ratio: 1.00 -> 1.15 where low is better, 1.00 -> 0.85 where high is.
    """
    lines = [f"{name}: no ratio is committed. {UPDATE}" for name in measured if name not in committed]
    for name, was in committed.items():
        if name not in measured:
            lines.append(f"{name}: committed ratio {was['ratio']:.3g}, but it was not measured")
            continue
        now = measured[name]["ratio"]
        loss = now / was["ratio"] - 1 if was["better"] == "low" else 1 - now / was["ratio"]
        if loss > LOSS:
            lines.append(f"{name}: ratio {now:.3g}, committed {was['ratio']:.3g}: {loss:.0%} worse, {LOSS:.0%} allowed")
    return lines
