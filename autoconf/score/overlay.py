"""Draw truth and prediction over one FLAIR slice per case."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from autoconf.data.masks import read_prediction, read_truth
from autoconf.data.pairs import Pair
from autoconf.data.volumes import read_volume
from autoconf.pages.planes import PREDICTION, TRUTH, WHITE_AT, pictured_scan
from autoconf.pages.png import figure, outline_masks, png


def draw(shown: list[tuple[str, float, Pair]], region: str) -> bytes:
    """A PNG with one panel per (name of its place, Dice, pair): the axial slice with most of the region, outlined."""
    # the height leaves room for two lines of title and the legend
    picture, panels = figure(1, len(shown), 4.2 * len(shown), 5.2)
    for panel, (place, dice, pair) in zip(panels[0], shown, strict=True):
        _draw_case(panel, pair, region)
        panel.set_title(f"{place}: {pair.case}\nDice {dice:.3f}", fontsize=10)
    lines = [
        Line2D([], [], color=TRUTH, linewidth=2, label="truth"),
        Line2D([], [], color=PREDICTION, linewidth=2, linestyle="--", label="prediction"),
    ]
    picture.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False)
    return png(picture)


def _draw_case(panel: Any, pair: Pair, region: str) -> None:
    flair, truth, pred, spacing = read_shown(pair, region)
    area = (truth if truth.any() else pred).sum(axis=(0, 1))
    level = int(area.argmax()) if area.any() else flair.shape[2] // 2
    white = np.percentile(flair[flair != 0], WHITE_AT) if flair.any() else 1
    aspect = spacing[1] / spacing[0]  # rows of the picture run along A, columns along R
    panel.imshow(flair[:, :, level].T, cmap="gray", vmin=0, vmax=white, origin="lower", aspect=aspect)
    outline_masks(panel, truth[:, :, level].T, pred[:, :, level].T)
    panel.invert_xaxis()  # the patient's right at the left, as radiologists look at it
    panel.text(0.02, 0.5, "R", color="white", transform=panel.transAxes, va="center")
    panel.set_axis_off()


def read_shown(pair: Pair, region: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[float, ...]]:
    """FLAIR, truth and prediction of a region, axes nearest to R, A, S, and the mm per axis."""
    truth = read_truth("volumes", pair)
    pred = read_prediction("volumes", pair, truth)
    masks = truth.region(pair.read_as[region][0]), pred.region(pair.read_as[region][1])
    scan = pictured_scan(read_volume(pair.flair or ""), {region: masks}, truth.volume.grid)
    assert scan.image is not None
    return scan.image, *scan.masks[region], scan.spacing
