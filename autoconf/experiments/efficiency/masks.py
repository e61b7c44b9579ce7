"""What the pseudo-masks themselves are worth: the row of the curve that needs no label."""

from __future__ import annotations

import os
from pathlib import Path

from autoconf.experiments.efficiency.draw import patient
from autoconf.experiments.efficiency.settings import Job
from autoconf.score.masks import read_prediction, read_truth
from autoconf.score.metrics import overlap
from autoconf.score.pairs import Pair


def dice_of_masks(job: Job, folder: Path) -> dict[str, float]:
    """Dice of the pseudo-masks of all labelled cases, whole tumour, on the scan's own grid. Raises AutoconfError."""
    found = {}
    for item in job.content["training"]:
        values = (item.get("regions") or job.content.get("regions") or {}).get("wt")
        truth = os.path.join(job.content["dataset_dir"], item["label"])  # absolute where `inspect` converted it
        pair = Pair(case=item["case"], patient=patient(item), truth=truth, pred=str(folder / f"{item['case']}.nii.gz"))
        true = read_truth("volumes", pair)
        marked = read_prediction("volumes", pair, true)
        found[item["case"]] = round(overlap(marked.region(None), true.region(values)).dice, 6)
    return found
