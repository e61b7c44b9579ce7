"""The curve as a picture: Dice against the number of labelled patients, a line per start with its interval."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Of Okabe and Ito: safe for all colour sight; a shape for each as well.
LOOKS = {"scratch": ("#0072B2", "o"), "pseudo": ("#D55E00", "s"), "mae": ("#009E73", "^")}
NAMES = {"scratch": "from nothing", "pseudo": "after pseudo-masks", "mae": "after a masked autoencoder"}
APART = 0.03  # between the intervals of two starts, as a share of a doubling


def draw_curve(found: dict[str, Any], rows: Sequence[dict[str, Any]]) -> bytes:
    """A PNG. found: as in result.json; rows: as in curve.csv, whose single seeds are drawn as pale marks.

    A point that lacks a seed is hollow: it is the mean of fewer patients, and no match for those beside it.
    """
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    seeds = max(len(point["seeds"]) for point in found["points"])
    sizes = sorted({point["patients"] for point in found["points"]})
    starts = [start for start in LOOKS if any(point["start"] == start for point in found["points"])]
    for place, start in enumerate(starts):
        colour, marker = LOOKS[start]
        aside = 2 ** (2 * APART * (place - (len(starts) - 1) / 2))
        points = [point for point in found["points"] if point["start"] == start]
        x, y = [point["patients"] * aside for point in points], [point["dice"] for point in points]
        reach = [[p["dice"] - p["low"] for p in points], [p["high"] - p["dice"] for p in points]]
        panel.errorbar(x, y, reach, color=colour, capsize=3, zorder=2)
        short = [point for point in points if len(point["seeds"]) < seeds]
        name = NAMES[start] + (" (hollow: not every seed)" if short else "")
        panel.plot([], [], color=colour, marker=marker, markersize=6, label=name)
        for point in points:
            face = "white" if point in short else colour
            panel.plot(point["patients"] * aside, point["dice"], marker, color=colour, markerfacecolor=face, zorder=3)
        single = [(row["size"] * aside, row["dice"]) for row in rows if row["start"] == start]
        panel.plot(*zip(*single, strict=True), marker, color=colour, alpha=0.3, markersize=4, zorder=1)
    if found["reference"]:
        worth = found["reference"]["dice"]
        panel.axhline(worth, color="#555555", linestyle="--", linewidth=1.2, label="the pseudo-masks themselves")
    panel.set_xscale("log", base=2)
    panel.set_xlim(sizes[0] / 1.25, sizes[-1] * 1.25)
    panel.set_xticks(sizes, map(str, sizes))
    panel.minorticks_off()
    panel.set_xlabel("labelled patients")
    panel.set_ylabel("Dice, whole tumour")
    panel.grid(alpha=0.3)
    counts = sorted({point["scored_patients"] for point in found["points"]})
    scored = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    panel.set_title(f"Mean and 95 % interval over {scored} held-out patients; pale: single seeds", fontsize=10)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=130, metadata={"Software": None})
    return data.getvalue()
