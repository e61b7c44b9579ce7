"""Pictures as PNG files, by matplotlib without a window."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from autoconf.pages.planes import PREDICTION, TRUTH


def figure(rows: int, columns: int, width: float, height: float) -> tuple[Any, Any]:
    """A figure of so many inches, and its panels, (rows, columns)."""
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made, made.subplots(rows, columns, squeeze=False)


def png(figure: Any) -> bytes:
    """The same figure gives the same bytes."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110, metadata={"Software": None})
    return data.getvalue()


def outline_masks(panel: Any, truth: np.ndarray, pred: np.ndarray) -> None:
    """Outlines of two boolean slices over the picture of a panel: truth solid, prediction dashed."""
    for mask, colour, style in ((truth, TRUTH, "solid"), (pred, PREDICTION, "dashed")):
        if mask.any():
            panel.contour(mask, [0.5], colors=colour, linestyles=style, linewidths=1.6)
