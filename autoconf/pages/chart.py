"""Charts as inline SVG: scales, ticks, and a frame. 360 units wide, so that their words can be read on a phone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autoconf.pages.html import escape

WIDTH = 360.0  # units of an SVG; a phone shows one per pixel
LEFT, RIGHT, TOP, BOTTOM, HEIGHT = 44.0, 12.0, 24.0, 36.0, 200.0  # of a curve
TICKS = 4  # of an axis, about
MOST_POINTS = 400  # of a curve: more are not seen on 360 units
MOST_MARKED = 30  # points of a curve that get a dot each

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """From values low..high to places start..end of the picture."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Units, with one decimal; a value outside is put on the edge."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Round numbers inside low..high, about TICKS: steps of 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def scale(values: Iterable[float], start: float, end: float, margin: float = 0.05) -> Scale:
    """A scale that holds all values, with a margin; one value, or none, gets room around it."""
    known = list(values) or [0.0, 1.0]
    low, high = min(known), max(known)
    room = (high - low) * margin or abs(low) * 0.5 or 1.0
    return Scale(low - room, high + room, start, end)


def thin(points: Points, most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """At most that many of the finite points, evenly chosen, the last among them."""
    finite = [point for point in points if all(map(math.isfinite, point))]
    step = max(1, math.ceil(len(finite) / most))
    return finite[::-1][::step][::-1]


def curve(
    ident: str, title: str, x_label: str, points: Points, best: tuple[float, float] | None = None, unit: bool = False
) -> str:
    """One curve over epochs, or over thresholds. best: the point to mark. unit: the heights go from 0 to 1."""
    shown = thin(points)
    x = scale((p[0] for p in shown), LEFT, WIDTH - RIGHT, 0.03)
    y = scale((p[1] for p in shown), HEIGHT - BOTTOM, TOP, 0.08)
    y = Scale(0.0, 1.0, y.start, y.end) if unit else y
    places = [(x.place(a), y.place(b)) for a, b in shown]
    body = axes(x, y, x_label, title, whole=x_label == "epoch") + polyline(places, "curve")
    if len(places) <= MOST_MARKED:
        body += dots(places, 2.5)
    words = f"{len(points)} values"
    if shown:
        (a, b), (c, d) = shown[0], shown[-1]
        words += f", from {b:.4g} at {x_label} {a:g} to {d:.4g} at {x_label} {c:g}"
    if best:
        label = f"best {best[1]:.3f}, {x_label} {best[0]:g}"
        body += _mark(x.place(best[0]), y.place(best[1]), label)
        words += f"; {label}"
    return svg(f"curve-{ident}", title, words + ".", HEIGHT, body)


def _mark(x: float, y: float, label: str) -> str:
    """A ring with its label, which stays inside the picture."""
    height = y + (18 if y < TOP + 20 else -10)
    return f'<circle class="best" cx="{x:g}" cy="{y:g}" r="5"/>' + text(
        x, height, label, "end" if x > WIDTH * 0.6 else "start"
    )


def svg(
    ident: str, title: str, description: str, height: float, body: str, role: str = "img", width: float = WIDTH
) -> str:
    """A picture with its text alternative. role: "img", or "group" where parts of it can be reached by keyboard."""
    return (
        f'<svg class="chart" id="{ident}" viewBox="0 0 {width:g} {height:g}" role="{role}" '
        f'aria-labelledby="{ident}-title {ident}-desc"><title id="{ident}-title">{escape(title)}</title>'
        f'<desc id="{ident}-desc">{escape(description, 2000)}</desc>{body}</svg>'
    )


def axes(x: Scale, y: Scale | None, x_label: str, y_label: str = "", whole: bool = False) -> str:
    """Grid lines with their numbers, and the names of the axes. whole: only whole numbers along x."""
    bottom = y.start if y else 0.0
    top = y.end if y else 0.0
    parts = []
    for value in x.ticks():
        if not whole or value == round(value):
            at = x.place(value)
            parts.append(line(at, bottom, at, top, "grid") + text(at, bottom + 13, plain(value), "middle"))
    for value in y.ticks() if y else ():
        at = y.place(value)  # type: ignore[union-attr]
        parts.append(line(x.start, at, x.end, at, "grid") + text(x.start - 4, at + 3.5, plain(value), "end"))
    parts.append(text((x.start + x.end) / 2, bottom + 28, x_label, "middle"))
    if y_label:
        parts.append(text(4, top - 8, y_label, "start"))
    return "".join(parts)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line. kind: its class."""
    return f'<line class="{kind}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'


def polyline(points: Iterable[tuple[float, float]], kind: str) -> str:
    """Joined points."""
    return f'<polyline class="{kind}" points="{" ".join(f"{x:g},{y:g}" for x, y in points)}"/>'


def dots(points: Iterable[tuple[float, float]], radius: float) -> str:
    """The points of a curve."""
    return "".join(f'<circle class="curve-dot" cx="{x:g}" cy="{y:g}" r="{radius:g}"/>' for x, y in points)


def text(x: float, y: float, words: object, anchor: str = "start", kind: str = "") -> str:
    """A text. anchor: "start", "middle" or "end"."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{f" class={kind}" if kind else ""}>{escape(words)}</text>'


def plain(value: float) -> str:
    """A tick's number in a few signs: 0.2, 40, 3e-4."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e5):
        digits, power = f"{value:.1e}".split("e")
        return f"{digits.removesuffix('.0')}e{int(power)}"
    return f"{value:.6g}"
