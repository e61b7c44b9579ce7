"""Measure contestants in turn, A B A B, and compare them round by round.

A machine's speed drifts while others use it. Two contestants of one round saw nearly the same machine: their ratio can
be believed where single times cannot.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Times = dict[str, list[float]]


@dataclass(frozen=True)
class Result:
    """One line of the table: what two contestants took, and their ratio against its goal.

    figures: contestant -> a number per round, in `unit`. ratio: the two whose quotient is judged, first / second.
    goal: at most (`better` is "low") or at least ("high") this; None: no goal. notes: other things that were seen.
    """

    name: str
    unit: str
    figures: Times
    ratio: tuple[str, str]
    goal: float | None = None
    better: str = "low"
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def quotient(self) -> dict[str, float]:
        return summary(quotients(self.figures[self.ratio[0]], self.figures[self.ratio[1]]))

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.quotient["median"] <= self.goal if self.better == "low" else self.quotient["median"] >= self.goal

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        figures = {name: summary(f) | {"rounds": [rounded(number) for number in f]} for name, f in self.figures.items()}
        ratio = {"of": list(self.ratio), **self.quotient}
        verdict = {"goal": self.goal, "better": self.better, "met": self.met}
        return {"unit": self.unit, "figures": figures, "ratio": ratio, **verdict, "notes": self.notes}


def in_turn(contestants: dict[str, Callable[[], float]], rounds: int, warm_up: int = 1) -> Times:
    """Ask each contestant for its figure, one after the other, `rounds` times; those of the warm-up are lost."""
    for _ in range(warm_up):
        for measure in contestants.values():
            measure()
    figures: Times = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, measure in contestants.items():
            figures[name].append(measure())
    return figures


def quotients(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Round by round. Contestants that answered once are compared by their medians."""
    if len(above) != len(below):
        return [statistics.median(above) / statistics.median(below)]
    return [a / b for a, b in zip(above, below, strict=True)]


def summary(numbers: Sequence[float]) -> dict[str, float]:
    return {
        "median": rounded(statistics.median(numbers)),
        "min": rounded(min(numbers)),
        "max": rounded(max(numbers)),
    }


def rounded(number: float) -> float:
    """Four digits that mean something."""
    return float(f"{number:.4g}")
