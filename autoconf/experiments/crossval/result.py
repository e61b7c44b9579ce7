"""All out-of-fold masks scored together, once."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from autoconf.commands import run_command
from autoconf.experiments.crossval.files import write_files_of
from autoconf.experiments.crossval.settings import CrossValidation
from autoconf.experiments.sealed import MASKS
from autoconf.output import write_json

SCORED = "scored.json"


def score_folds(job: CrossValidation) -> None:
    """Score all folds that were asked for, unless that is done, and print the table."""
    results = {str(fold): job.part(fold).result() for fold in job.folds}
    found = _known(job, results)
    if found is None:
        found = {"folds": results, **_score(job)}
        write_json(job.setup.home / SCORED, found)
    write_files_of(job, found)


def _known(job: CrossValidation, results: dict[str, Any]) -> dict[str, Any] | None:
    """What was found before, if it was of these folds as they are now."""
    try:
        found = json.loads((job.setup.home / SCORED).read_text(encoding="utf-8"))
        return found if found["folds"] == results else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _score(job: CrossValidation) -> dict[str, Any]:
    """Gather, let the referee score, and read what it says of each case and of all."""
    predictions, scores = job.setup.home / "predictions", job.setup.home / "scores"
    _gather(job, predictions)
    (job.setup.home / SCORED).unlink(missing_ok=True)
    shutil.rmtree(scores, ignore_errors=True)  # nothing may stay there of other folds, or of probabilities
    print(run_command("score", predictions, _truth(job), "--out", scores, "--split", "folds"), end="", flush=True)
    summary = json.loads((scores / "summary.json").read_text(encoding="utf-8"))
    spread = {region: found["dice"] for region, found in summary["regions"].items()}
    return {"patients": summary["patients"], "dice": spread}


def _gather(job: CrossValidation, predictions: Path) -> None:
    """The masks of these folds and no others, in one folder, with probabilities if they are asked for.

    Of one file where the disk allows it, else copied.
    """
    partial = predictions.with_name("predictions.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for fold in job.folds:
        for name in [name for case in job.cases(fold) for name in job.written(case)]:
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(job.masks(fold) / name, target)
            except OSError:
                shutil.copyfile(job.masks(fold) / name, target)
    shutil.rmtree(predictions, ignore_errors=True)
    os.replace(partial, predictions)


def _truth(job: CrossValidation) -> str:
    """What the masks are scored against: a datalist of exactly these cases, or the folder of pseudo-masks."""
    if MASKS in job.setup.plan:
        return os.path.abspath(str(job.setup.plan[MASKS].value))
    cases = [case for case in job.setup.data.training if case.fold in job.folds]
    path = job.setup.home / "truth.json"
    write_json(path, job.setup.data.with_cases(cases).plain())
    return str(path)
