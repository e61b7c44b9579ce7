"""The pictures once more as PNG files, for a talk or a paper."""

from __future__ import annotations

import re
from typing import Any

from matplotlib.patheffects import withStroke

from autoconf.pages.chart import thin
from autoconf.pages.overlays import PicturedCase
from autoconf.pages.planes import Stack, stacks
from autoconf.pages.png import figure, outline_masks, png
from autoconf.report.cases import limits, volumes
from autoconf.report.overlays import read_cases
from autoconf.report.read import RunFiles, Scores
from autoconf.report.words import METRICS, region_name, size, unit

BLUE, VERMILION = "#0072B2", "#D55E00"  # of Okabe and Ito: safe for all colour sight


def figures(found: RunFiles) -> dict[str, bytes]:
    """name -> PNG, of what there is: curves.png, strip.png, bland_altman.png, overlay_<case>.png."""
    files = {}
    if found.epochs:
        files["curves.png"] = _curves(found)
    if found.scores:
        files["strip.png"] = _strip(found.scores)
        if volumes(found.scores, found.scores.rows):
            files["bland_altman.png"] = _bland_altman(found.scores)
    for case in read_cases(found)[0]:
        files[unused(f"overlay_{re.sub(r'[^A-Za-z0-9._-]+', '_', case.case)[:80]}", files)] = _overlay(case)
    return files


def unused(stem: str, taken: dict[str, bytes]) -> str:
    """`stem.png`, or `stem_2.png` and so on where two cases would share a name."""
    name, number = f"{stem}.png", 2
    while name.lower() in map(str.lower, taken):
        name, number = f"{stem}_{number}.png", number + 1
    return name


def _curves(found: RunFiles) -> bytes:
    picture, panels = figure(1, 3, 12, 3.4)
    curves = {
        "training loss": [(e.number, e.loss) for e in found.epochs],
        "learning rate": [(e.number, e.rate) for e in found.epochs],
        "validation Dice": [(e.number, e.dice) for e in found.epochs if e.dice is not None],
    }
    for panel, (title, points) in zip(panels[0], curves.items(), strict=True):
        shown = thin(points)
        panel.plot([x for x, _ in shown], [y for _, y in shown], color=BLUE, marker="." if len(shown) < 40 else None)
        panel.set_title(title)
        panel.set_xlabel("epoch")
        panel.grid(alpha=0.3)
    if found.best and found.best.dice is not None:
        panels[0][2].plot(found.best.number, found.best.dice, "o", color=VERMILION, fillstyle="none", markersize=9)
        panels[0][2].set_title(f"validation Dice: best {found.best.dice:.3f}, epoch {found.best.number}")
    panels[0][2].set_ylim(0, 1)
    return png(picture)


def _strip(scores: Scores) -> bytes:
    picture, panels = figure(len(scores.regions), 2, 11, 1 + 3 * len(scores.regions))
    for row, region in zip(panels, scores.regions, strict=True):
        rows = scores.of(region)
        for panel, length in zip(row, (False, True), strict=True):
            known = [n for n, m in METRICS.items() if m.length == length and any(n in r.values for r in rows)]
            for place, name in enumerate(known):
                values = [r.values[name] for r in rows if name in r.values]
                shifts = [place + (i % 5 - 2) * 0.06 for i in range(len(values))]
                panel.plot(shifts, sorted(values), ".", color=BLUE, alpha=0.7)
                panel.hlines(sum(values) / len(values), place - 0.3, place + 0.3, color=VERMILION)
            panel.set_xticks(range(len(known)), [METRICS[name].label for name in known], rotation=20)
            panel.set_title(f"{region_name(scores, region)}, {unit(scores) if length else 'ratios'} (line: mean)")
            panel.grid(alpha=0.3, axis="y")
            largest = max((r.values[n] for r in rows for n in known if n in r.values), default=1.0)
            panel.set_ylim(0, max(largest, 1e-3) * 1.05 if length else 1.02)
    return png(picture)


def _bland_altman(scores: Scores) -> bytes:
    picture, panels = figure(1, len(scores.regions), 5 * len(scores.regions), 4)
    name = size(scores)[2]
    for panel, region in zip(panels[0], scores.regions, strict=True):
        points = volumes(scores, scores.of(region))
        panel.set_title(region_name(scores, region))
        panel.set_xlabel(f"mean of prediction and truth, {name}")
        panel.set_ylabel(f"prediction minus truth, {name}")
        panel.grid(alpha=0.3)
        if points:
            panel.plot([mean for _, mean, _ in points], [difference for *_, difference in points], "o", color=BLUE)
            found = limits([difference for *_, difference in points])
            panel.axhline(found.bias, color=VERMILION)
            for level in (found.low, found.high):
                if level is not None:
                    panel.axhline(level, color=VERMILION, linestyle="--")
    return png(picture)


def _overlay(case: PicturedCase) -> bytes:
    planes = stacks(case.scan)
    picture, panels = figure(1, len(planes), 4.2 * len(planes), 4.8)
    for panel, stack in zip(panels[0], planes, strict=True):
        _draw(panel, stack)
    picture.suptitle(f"{case.place}: {case.case}, Dice {case.dice:.3f} (orange: truth, blue dashed: prediction)")
    return png(picture)


def _draw(panel: Any, stack: Stack) -> None:
    start = stack.start
    panel.imshow(stack.grey[start], cmap="gray", vmin=0, vmax=255, aspect=stack.pixel[1] / stack.pixel[0])
    truth, pred = next(iter(stack.masks.values()))
    outline_masks(panel, truth[start], pred[start])
    places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.97), (0.5, 0.03))
    for letter, (x, y) in zip(stack.sides, places, strict=False):
        words = panel.text(x, y, letter, color="white", transform=panel.transAxes, ha="center", va="center")
        words.set_path_effects([withStroke(linewidth=3, foreground="black")])
    which = f", slice {stack.first + start + 1} of {stack.total}" if stack.sides else ""
    panel.set_title(stack.name + which)
    panel.set_axis_off()
