"""Every case as a dot: one strip per metric, and predicted against true volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoconf.pages.chart import WIDTH, Scale, axes, line, plain, scale, svg, text
from autoconf.pages.html import Section, counted, escape, missing, more, paragraph, table
from autoconf.reading import number
from autoconf.report.read import Row, RunFiles, Scores
from autoconf.report.verdict import score_command
from autoconf.report.words import METRICS, heading, region_name, size

MOST_DOTS = 200  # cases of a plot; more are thinned, the worst are kept
MOST_ROWS = 100  # cases of the table
LEFT, RIGHT, ROW = 108.0, 48.0, 24.0  # of the strips, in units of the picture


@dataclass(frozen=True)
class Limits:
    """Bland and Altman's: mean difference, and the band that holds 95 % of differences if they are normal."""

    bias: float
    low: float | None
    high: float | None


def cases(found: RunFiles) -> Section:
    """Strips, Bland-Altman, and a table of the worst cases, for each region."""
    scores = found.scores
    if scores is None:
        return Section("cases", "Cases", missing("No scores of single cases.", score_command(found)))
    body = [paragraph("A dot is a case. Point at one, or use the arrow keys inside a row, to read its name.")]
    shown = {region: chosen(scores.of(region)) for region in scores.regions}
    count = len(scores.of(scores.regions[0]))
    if count > MOST_DOTS:
        worst = MOST_DOTS // 4
        body.append(
            paragraph(f"{MOST_DOTS} of {count:,} cases are drawn: the worst {worst}, and a share of the others.")
        )
    for region, rows in shown.items():
        body.append(f'<h3>{escape(region_name(scores, region))}</h3><div class="charts">')
        body.append(_strip(scores, region, rows) + _bland_altman(scores, region, rows))
        body.append("</div>")
    body.append(
        '<p class="said" id="case-box"><output id="case-said" aria-live="polite">No case is chosen.</output></p>'
    )
    return Section("cases", "Cases", "".join(body) + _table(scores))


def chosen(rows: Sequence[Row], most: int = MOST_DOTS) -> list[Row]:
    """The rows by Dice, worst first; of too many the worst quarter of `most`, and every so many of the others."""
    ordered = sorted(rows, key=lambda row: (row.values.get("dice", 0.0), row.case))
    if len(ordered) <= most:
        return ordered
    worst, others = ordered[: most // 4], ordered[most // 4 :]
    places = np.linspace(0, len(others) - 1, most - len(worst)).round().astype(int)
    return worst + [others[place] for place in places]


def volumes(scores: Scores, rows: Sequence[Row]) -> list[tuple[Row, float, float]]:
    """(row, mean of both sizes, predicted minus true) of rows that have both."""
    pred, true, _ = size(scores)
    both = [row for row in rows if pred in row.values and true in row.values]
    return [(row, (row.values[pred] + row.values[true]) / 2, row.values[pred] - row.values[true]) for row in both]


def limits(differences: Sequence[float]) -> Limits:
    """Mean, and mean -+ 1.96 sample standard deviations; no band for fewer than three cases.

    Source: Bland and Altman, Lancet 327, 307-310 (1986).
    """
    bias = float(np.mean(differences))
    if len(differences) < 3:
        return Limits(bias, None, None)
    band = 1.96 * float(np.std(differences, ddof=1))
    return Limits(bias, bias - band, bias + band)


def _strip(scores: Scores, region: str, rows: Sequence[Row]) -> str:
    """One row of dots per metric: ratios on one scale from 0 to 1, below them lengths on one from 0 to the largest."""
    body, words, top = [], [], 4.0
    for length in (False, True):
        names = [n for n, m in METRICS.items() if m.length == length and any(n in row.values for row in rows)]
        if not names:
            continue
        largest = max(row.values.get(name, 0.0) for row in rows for name in names)
        x = Scale(0.0, max(largest, 1.0), LEFT, WIDTH - RIGHT)
        start = top
        for name in names:
            metric, values = METRICS[name], [row.values[name] for row in rows if name in row.values]
            label = f"{metric.label}, {'px' if scores.images else 'mm'}" if metric.length else metric.label
            mean = metric.text(number(scores.summary, "regions", region, name, "mean"))
            body.append(_row(name, region, label, x, top, rows, scores))
            body.append(text(WIDTH - 2, top + 15, mean, "end", "mean"))
            words.append(f"{label}: {metric.text(min(values))} to {metric.text(max(values))}, mean {mean}")
            top += ROW
        marks = [(x.place(value), plain(value)) for value in x.ticks()]
        body[:0] = [line(at, start, at, top, "grid") for at, _ in marks]
        body += [text(at, top + 11, value, "middle", "tick") for at, value in marks]
        top += 24
    body.append(text(WIDTH - 2, top - 12, "mean", "end", "tick"))
    title = f"{region_name(scores, region)}: each case by metric"
    description = f"{counted(len(rows), 'case')}. {'; '.join(words)}. Bars: 95 % interval of the mean."
    return svg(f"strip-{region}", title, description, top, "".join(body), "group")


def _row(name: str, region: str, label: str, x: Scale, top: float, rows: Sequence[Row], scores: Scores) -> str:
    """The line, the interval and the dots of one metric; three heights by turns tell equal dots apart."""
    metric, middle = METRICS[name], top + ROW / 2
    low, high = (number(scores.summary, "regions", region, name, key) for key in ("low", "high"))
    parts = [text(2, middle + 4, label), line(x.start, middle, x.end, middle, "grid")]
    if low is not None and high is not None:
        left, wide = x.place(low), max(x.place(high) - x.place(low), 1)
        parts.append(f'<rect class="interval" x="{left:g}" y="{middle - 8:g}" width="{wide:g}" height="16"/>')
    ordered = sorted((row for row in rows if name in row.values), key=lambda row: (row.values[name], row.case))
    words = f"{label}, {counted(len(ordered), 'case')}: arrow keys go from case to case"
    parts.append(f'<g class="dots" tabindex="0" role="group" aria-label="{escape(words)}">')
    for place, row in enumerate(ordered):
        shift = 0 if len(ordered) < 4 else (place % 3 - 1) * 4
        said = f"{label} {metric.text(row.values[name])}"
        parts.append(dot(x.place(row.values[name]), middle + shift, row.case, said))
    return "".join(parts) + "</g>"


def dot(x: float, y: float, case: str, said: str) -> str:
    """A case; the page says its name and `said` when it is pointed at or reached, and marks it in the other rows."""
    name = escape(case, 80)
    return f'<circle cx="{x:g}" cy="{y:g}" r="4"><title>{name}: {escape(said, 80)}</title></circle>'


def _bland_altman(scores: Scores, region: str, rows: Sequence[Row]) -> str:
    """Predicted minus true size against their mean; the limits are of all cases, drawn or not."""
    points, name = volumes(scores, rows), size(scores)[2]
    if not points:
        return ""
    found = limits([difference for *_, difference in volumes(scores, scores.of(region))])
    height = 270.0
    levels = [level for level in (found.bias, found.low, found.high) if level is not None]
    x = scale([0.0, *(mean for _, mean, _ in points)], 52.0, WIDTH - 12)
    y = scale([0.0, *levels, *(difference for *_, difference in points)], height - 36, 26.0, 0.1)
    body = axes(x, y, f"mean of prediction and truth, {name}", f"prediction minus truth, {name}")
    body += line(x.start, y.place(0), x.end, y.place(0), "zero")
    for level, kind in ((found.bias, "bias"), (found.low, "limit"), (found.high, "limit")):
        if level is not None:
            at_level = y.place(level)
            body += line(x.start, at_level, x.end, at_level, kind)
            below = level < 0  # away from the line of no difference
            name_of = "mean" if kind == "bias" else "limit"
            if kind == "limit" and abs(at_level - y.place(found.bias)) < 12:
                continue  # no room for its label; the description has the number
            body += text(x.end, at_level + (11 if below else -4), f"{name_of} {level:+.1f}", "end", "tick")
    body += '<g class="dots" tabindex="0" role="group" aria-label="Volumes: arrow keys go from case to case">'
    for row, mean, difference in sorted(points, key=lambda point: (point[1], point[0].case)):
        said = f"{difference:+.1f} {name}, mean {mean:.1f} {name}"
        body += dot(x.place(mean), y.place(difference), row.case, said)
    band = "no limits of agreement: fewer than three cases"
    if found.low is not None and found.high is not None:
        band = f"limits of agreement {found.low:+.1f} to {found.high:+.1f} {name}"
    title = f"{region_name(scores, region)}: sizes by Bland and Altman"
    description = f"Mean difference {found.bias:+.1f} {name}; {band}."
    return svg(f"sizes-{region}", title, description, height, body + "</g>", "group")


def _table(scores: Scores) -> str:
    """The worst cases in numbers."""
    parts = []
    pred, true, name = size(scores)
    for region in scores.regions:
        rows = scores.worst_first(region)
        known = [metric for metric in METRICS if any(metric in row.values for row in rows)]
        lines = [
            (
                row.case + (" (missing)" if row.values.get("missing") else ""),
                *(METRICS[metric].text(row.values.get(metric)) for metric in known),
                *(f"{row.values[key]:.1f}" if key in row.values else "" for key in (pred, true)),
            )
            for row in rows[:MOST_ROWS]
        ]
        labels = [heading(scores, metric) for metric in known]
        rest = f"; {len(rows) - MOST_ROWS:,} better ones are in scores.csv" if len(rows) > MOST_ROWS else ""
        caption = f"{region_name(scores, region)}, worst first{rest}"
        parts.append(table(lines, ("case", *labels, f"predicted, {name}", f"true, {name}"), caption, "numbers"))
    return more("All numbers, worst cases first", "".join(parts))
