"""The pictures of a search, as inline SVG in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from autoconf.experiments.tune.search import COMPLETE, Trial
from autoconf.experiments.tune.space import Param
from autoconf.pages.chart import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    axes,
    line,
    plain,
    polyline,
    scale,
    svg,
    text,
)

ROW = 26.0  # units of a bar with its name
AXIS_ROOM = 104.0  # units between two axes
LONGEST = 24  # letters of a name that fit beside a bar


def history(found: Sequence[Trial]) -> str:
    """Dice of each trial, and the best so far as a line."""
    scored = [t for t in found if t.dice is not None]
    x, y = _frame([float(t.number) for t in scored], [t.dice or 0.0 for t in scored])
    best = -math.inf
    steps: list[tuple[float, float]] = []
    for t in scored:
        if t.state == COMPLETE and (t.dice or 0.0) > best:
            if steps:
                steps.append((x.place(t.number), y.place(best)))
            best = t.dice or 0.0
            steps.append((x.place(t.number), y.place(best)))
    if steps:
        steps.append((x.place(scored[-1].number), y.place(best)))
    body = axes(x, y, "trial", "validation Dice", whole=True) + polyline(steps, "curve") + _dots(scored, x, y, number)
    words = f"{len(scored)} trials with a score; the best is {best:.4f}." if steps else "No trial has a score yet."
    return svg("history-dots", "Dice of each trial", words, HEIGHT, body)


def number(trial: Trial) -> float:
    """Where a trial lies along the history."""
    return float(trial.number)


def learning_curves(found: Sequence[Trial]) -> str:
    """Validation Dice of every trial over its epochs, the best one marked."""
    scored = [t for t in found if t.curve]
    longest = max((len(t.curve) for t in scored), default=1)
    x, y = _frame([1.0, float(longest)], [value for t in scored for value in t.curve])
    best = max((t for t in scored if t.state == COMPLETE), key=lambda t: t.dice or 0.0, default=None)
    body = axes(x, y, "epoch", "validation Dice", whole=True)
    for t in [t for t in scored if t is not best] + ([best] if best else []):
        points = [(x.place(epoch), y.place(value)) for epoch, value in enumerate(t.curve, 1)]
        body += polyline(points, "strand best" if t is best else "strand")
    words = f"{len(scored)} curves" + (f"; the best trial is {best.number}." if best else ".")
    return svg("history-curves", "Dice over the epochs", words, HEIGHT, body)


def slices(param: Param, found: Sequence[Trial], planned: Any) -> str:
    """One setting against Dice; a dashed line marks what was planned."""
    scored = [t for t in found if t.dice is not None and param.key in t.settings]
    where = {t.number: _along(param, t.settings[param.key]) for t in scored}
    x, y = _frame([place for place in where.values() if place is not None], [t.dice or 0.0 for t in scored])
    x = Scale(*_ends(param), x.start, x.end)
    body = _y_axis(x, y)
    for at, label in _marks(param):
        place = x.place(at)
        body += line(place, y.start, place, y.end, "grid") + text(place, y.start + 13, label, "middle", "tick")
    body += text((x.start + x.end) / 2, y.start + 28, param.key, "middle")
    mark = _along(param, planned)
    if mark is not None and x.low <= mark <= x.high:
        body += line(x.place(mark), y.start, x.place(mark), y.end, "limit")
    body += _dots(scored, x, y, lambda t: where[t.number])
    words = f"{len(scored)} trials; {param.key} from {param.described()}; planned: {planned}."
    return svg(f"slice-{_ident(param.key)}", f"{param.key} against Dice", words, HEIGHT, body)


def importance(ident: str, title: str, shares: dict[str, float]) -> str:
    """A bar for each setting, the largest first."""
    height = TOP + ROW * len(shares)
    start, end = 150.0, WIDTH - 44.0
    body = text(4, TOP - 8, title)
    for place, (key, share) in enumerate(sorted(shares.items(), key=lambda item: -item[1])):
        middle = TOP + ROW * (place + 0.5)
        length = round((end - start) * min(1.0, max(0.0, share)), 1)
        body += text(start - 6, middle + 4, _short(key), "end")
        body += f'<rect class="bar" x="{start:g}" y="{middle - 8:g}" width="{length:g}" height="16"/>'
        body += text(start + length + 5, middle + 4, f"{share:.2f}")
    words = "; ".join(f"{key} {share:.2f}" for key, share in shares.items())
    return svg(ident, title, words, height, body)


def parallel(params: Sequence[Param], found: Sequence[Trial]) -> str:
    """A line for each trial through all its settings to its Dice; the best one marked."""
    scored = [t for t in found if t.dice is not None and t.state == COMPLETE]
    if not scored:
        return "<p>No trial ran to its end.</p>"
    top, bottom = 34.0, 190.0
    dice = scale([t.dice or 0.0 for t in scored], bottom, top, 0.03)
    width = 90.0 + AXIS_ROOM * len(params)
    columns = [round(54 + AXIS_ROOM * place, 1) for place in range(len(params) + 1)]
    body = ""
    for param, at in zip(params, columns, strict=False):
        low, high = _marks(param)[0], _marks(param)[-1]
        body += line(at, bottom, at, top, "zero") + text(at, top - 20, _short(param.key, 17), "middle")
        body += text(at, top - 6, high[1], "middle", "tick") + text(at, bottom + 14, low[1], "middle", "tick")
    last = columns[-1]
    body += line(last, bottom, last, top, "zero") + text(last, top - 20, "Dice", "middle")
    body += text(last, top - 6, f"{dice.high:.3f}", "middle", "tick")
    body += text(last, bottom + 14, f"{dice.low:.3f}", "middle", "tick")
    for t in sorted(scored, key=lambda t: t.dice or 0.0):
        points = [(at, _height(param, t, top, bottom)) for param, at in zip(params, columns, strict=False)]
        known = [point for point in points if point[1] is not None]
        kind = "strand best" if t is max(scored, key=lambda t: t.dice or 0.0) else "strand"
        body += polyline([*known, (last, dice.place(t.dice or 0.0))], kind)  # type: ignore[list-item]
    described = f"{len(scored)} trials in full, a line each; the best one is marked."
    picture = svg("parallel-lines", "All settings together", described, 212, body, width=width)
    return f'<div class="box wide" tabindex="0" role="region" aria-label="All settings together">{picture}</div>'


def _height(param: Param, trial: Trial, top: float, bottom: float) -> float | None:
    if param.key not in trial.settings:
        return None
    at = _along(param, trial.settings[param.key])
    return None if at is None else Scale(*_ends(param), bottom, top).place(at)


def _along(param: Param, value: Any) -> float | None:
    """Where a value lies along its axis: logarithms for a log range, the number of a listed value."""
    if param.values:
        return float(param.values.index(value)) if value in param.values else None
    if not isinstance(value, (int, float)) or (param.log and value <= 0):
        return None
    return math.log10(value) if param.log else float(value)


def _ends(param: Param) -> tuple[float, float]:
    """A little more than the range, so that no dot lies on the frame."""
    if param.values:
        return -0.5, len(param.values) - 0.5
    low, high = (math.log10(param.low), math.log10(param.high)) if param.log else (param.low, param.high)
    room = (high - low) * 0.04
    return low - room, high + room


def _marks(param: Param) -> list[tuple[float, str]]:
    """Places along the axis with their labels."""
    if param.values:
        return [(float(place), _shown(value)) for place, value in enumerate(param.values)]
    if param.log:
        middle = math.sqrt(param.low * param.high)
        return [(math.log10(value), plain(float(f"{value:.2g}"))) for value in (param.low, middle, param.high)]
    return [(value, plain(float(f"{value:.3g}"))) for value in (param.low, (param.low + param.high) / 2, param.high)]


def _shown(value: Any) -> str:
    return plain(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else _short(str(value), 12)


def _frame(across: Sequence[float], up: Sequence[float]) -> tuple[Scale, Scale]:
    return scale(across, LEFT, WIDTH - RIGHT, 0.05), scale(up, HEIGHT - BOTTOM, TOP, 0.08)


def _y_axis(x: Scale, y: Scale) -> str:
    parts = [text(4, y.end - 8, "validation Dice")]
    for value in y.ticks():
        at = y.place(value)
        parts.append(line(x.start, at, x.end, at, "grid") + text(x.start - 4, at + 3.5, plain(value), "end"))
    return "".join(parts)


def _dots(found: Sequence[Trial], x: Scale, y: Scale, across: Any) -> str:
    marks = []
    for t in found:
        kind = "trial" if t.state == COMPLETE else "trial early"
        words = f"trial {t.number}: Dice {t.dice or 0:.4f}"
        place = f'cx="{x.place(across(t)):g}" cy="{y.place(t.dice or 0.0):g}"'
        marks.append(f'<circle class="{kind}" {place} r="4"><title>{words}</title></circle>')
    return "".join(marks)


def _short(name: str, longest: int = LONGEST) -> str:
    last = name.rpartition("::")[2]
    return last if len(last) <= longest else last[: longest - 1] + "\u2026"


def _ident(key: str) -> str:
    return "".join(sign if sign.isalnum() else "-" for sign in key)
