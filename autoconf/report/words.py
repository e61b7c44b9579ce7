"""What the columns of scores.csv are called on the page, and how their numbers are written."""

from __future__ import annotations

from dataclasses import dataclass

from autoconf.pages.planes import REGION_NAMES
from autoconf.report.read import Scores

REFERENCES = {
    "all_background": "all background",
    "all_foreground": "all foreground (the head)",
    "training_atlas": "mean mask of the training cases",
    "flair_threshold": "FLAIR threshold",
}


@dataclass(frozen=True)
class Metric:
    """label: on the page. length: a distance in mm (images: pixels), lower is better; else a ratio, higher is."""

    label: str
    length: bool = False

    def text(self, value: float | None) -> str:
        """A value as it is shown; nothing for None."""
        return "" if value is None else f"{value:.1f}" if self.length else f"{value:.3f}"


METRICS = {  # in the order of scores.csv; docs/scoring.md says what they mean
    "dice": Metric("Dice"),
    "iou": Metric("IoU"),
    "nsd": Metric("surface Dice"),
    "sensitivity": Metric("sensitivity"),
    "precision": Metric("precision"),
    "lesion_dice": Metric("lesion Dice"),
    "lesion_f1": Metric("lesion F1"),
    "hd95": Metric("HD95", length=True),
    "lesion_hd95": Metric("lesion HD95", length=True),
}


def region_name(scores: Scores, region: str) -> str:
    """`Whole tumour`; images have masks, of whatever they show."""
    return "Mask" if scores.images and region == "wt" else REGION_NAMES.get(region, region)


def heading(scores: Scores, name: str) -> str:
    """`HD95, mm`; a ratio has no unit."""
    return f"{METRICS[name].label}, {unit(scores)}" if METRICS[name].length else METRICS[name].label


def unit(scores: Scores) -> str:
    """Of lengths."""
    return "pixels" if scores.images else "mm"


def size(scores: Scores) -> tuple[str, str, str]:
    """Columns of the predicted and the true size, and their unit."""
    return ("pred_pixels", "true_pixels", "pixels") if scores.images else ("pred_ml", "true_ml", "mL")
