"""What a network marks while it learns: outlines over a few validation images, as a picture and in TensorBoard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events

from .files import whole_file

TRUTH, PREDICTION = "#E69F00", "#56B4E9"  # orange and sky blue of Okabe and Ito: safe for all colour sight
WHITE_AT = 99.5  # percentile of the head that is shown white, so that a few bright pixels do not darken the rest


@dataclass(frozen=True)
class Shown:
    """One panel: a slice of the last channel, what is true of the first region there, and what was marked."""

    case: str
    image: np.ndarray  # (rows, columns) float
    truth: np.ndarray  # (rows, columns) bool
    pred: np.ndarray  # (rows, columns) bool


class Overlays:
    """Draw the first `cases` validation images after each validation: overlays.png, and an image in TensorBoard.

    output_dir: where overlays.png goes; log_dir: TensorBoard's. Attach to the evaluator, whose batch has the items'
    `case`, and whose output after postprocessing has `image`, and binary `pred` and `label`. Without matplotlib nothing
    is drawn.
    """

    def __init__(self, output_dir: str, log_dir: str, cases: int = 6) -> None:
        self.path = Path(output_dir) / "overlays.png"
        self.log_dir = log_dir
        self.cases = cases
        self.shown: list[Shown] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self.shown.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)

    def _iteration(self, engine: Engine) -> None:
        for source, item in zip(engine.state.batch, engine.state.output, strict=True):
            if len(self.shown) < self.cases:
                self.shown.append(pick(item["image"], item["label"], item["pred"], str(source.get("case", ""))))

    def _epoch(self, engine: Engine) -> None:
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.image import imsave
        except ImportError:
            return
        from torch.utils.tensorboard import SummaryWriter

        canvas = FigureCanvasAgg(_figure(self.shown))
        canvas.draw()
        picture = np.asarray(canvas.buffer_rgba())[..., :3]
        with whole_file(self.path) as file:
            imsave(file, picture, format="png")
        with SummaryWriter(self.log_dir) as writer:
            writer.add_image("validation", picture, engine.state.epoch, dataformats="HWC")


def pick(image: torch.Tensor, label: torch.Tensor, pred: torch.Tensor, case: str) -> Shown:
    """The slice with most of the first region, seen from below with the nose up, as radiologists look at it.

    image: (C, H, W, D) in R, A, S order, or (C, H, W); label, pred: (R, ...) binary. The whole of a 2D image is shown.
    """
    last, truth, found = (part[place].detach().cpu() for part, place in ((image, -1), (label, 0), (pred, 0)))
    if last.ndim == 3:
        area = (truth if truth.any() else found).sum(dim=(0, 1))
        level = int(area.argmax()) if area.any() else last.shape[2] // 2
        # Rows from front to back, columns from the patient's right to the left.
        last, truth, found = (part[..., level].flip(0, 1).T for part in (last, truth, found))
    return Shown(case, np.asarray(last.float()), np.asarray(truth > 0), np.asarray(found > 0))


def _figure(shown: list[Shown]):  # noqa: ANN202 - matplotlib is not there for certain
    """One panel each, three in a row."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    height = 3.4 * rows + 0.4
    figure = Figure(figsize=(3.2 * columns, height), dpi=90)
    # Places that are set: to find them takes as long as to draw all else.
    figure.subplots_adjust(0.01, 0.4 / height, 0.99, 1 - 0.25 / height, wspace=0.02, hspace=0.08)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, one in zip(panels, shown, strict=False):
        head = one.image[one.image != 0]  # what is 0 lies outside of it, also after z-scoring: shown black
        low, high = np.percentile(head, [100 - WHITE_AT, WHITE_AT]) if head.size else (0, 1)
        panel.imshow(np.where(one.image == 0, low, one.image), cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
        for mask, colour, style in ((one.truth, TRUTH, "solid"), (one.pred, PREDICTION, "dashed")):
            if mask.any() and not mask.all():
                panel.contour(mask, [0.5], colors=colour, linestyles=style, linewidths=1.5)
        panel.set_title(one.case, fontsize=8)
    lines = [
        Line2D([], [], color=TRUTH, linewidth=2, label="truth"),
        Line2D([], [], color=PREDICTION, linewidth=2, linestyle="--", label="prediction"),
    ]
    figure.legend(handles=lines, loc="lower center", ncols=2, frameon=False)
    return figure
