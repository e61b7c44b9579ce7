"""What the pseudo-masks themselves are worth: the row of the curve that needs no label."""

from __future__ import annotations

from pathlib import Path

from autoconf.data.datalist import Datalist
from autoconf.data.masks import read_prediction, read_truth
from autoconf.data.pairs import Pair
from autoconf.score.metrics import overlap


def dice_of_masks(data: Datalist, folder: Path) -> dict[str, float]:
    """Dice of the pseudo-masks of all labelled cases, whole tumour, on the scan's own grid. Raises AutoconfError."""
    found = {}
    for case in data.training:
        values = (data.regions_of(case) or {}).get("wt")
        pair = Pair(
            case=case.name, patient=case.patient, truth=case.label or "", pred=str(folder / f"{case.name}.nii.gz")
        )
        true = read_truth("volumes", pair)
        marked = read_prediction("volumes", pair, true)
        found[case.name] = round(overlap(marked.region(None), true.region(values)).dice, 6)
    return found
