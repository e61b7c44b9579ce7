"""The folds: each is a training run, and the masks of the cases that it did not see."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from autoconf.bundle.tables import last_row
from autoconf.experiments.crossval.settings import CrossValidation
from autoconf.experiments.training import evaluate, seconds_of, train
from autoconf.workers.engine import Engine
from autoconf.workers.parts import RESULT, Part, PartFailed, Worker
from autoconf.workers.work import Unfinished, do_parts


def do_folds(job: CrossValidation, engine: Engine) -> Unfinished:
    """Do all folds that are not done; one that was done without the probabilities asked for now is segmented again."""
    parts = [job.part(fold) for fold in job.folds]
    for part in parts:
        if job.probabilities and part.is_done and not part.result().get("probabilities"):
            (part.folder / RESULT).unlink()
    return do_parts(parts, partial(do_fold, job), engine, job.setup.home)


def do_fold(job: CrossValidation, part: Part[int], worker: Worker) -> dict[str, Any]:
    """Train and segment; returns what is known of it. Raises PartFailed."""
    fold, setup = part.task, job.setup
    train(setup, part, worker, setup.configs("train"), {"fold": fold})
    print(f"{part.name}: segmenting {len(job.cases(fold))} cases", flush=True)
    began = time.monotonic()
    values = {"save_probability": True} if job.probabilities else {}
    evaluate(setup, part, worker, setup.configs("evaluate"), fold, part.folder / "masks", values)
    seconds = time.monotonic() - began
    missing = [case for case in job.cases(fold) if not all((job.masks(fold) / f).exists() for f in job.written(case))]
    if missing:  # it would be scored as an empty mask
        raise PartFailed(f"the evaluation wrote no mask of {missing[0]} (and {len(missing) - 1} others)")
    epochs = int(last_row(part.run / "progress.csv").get("epoch") or 0)
    # `ended`, by which a fold that is done again is known from what was scored before
    known = {"epochs": epochs, "seconds": round(seconds_of(part) + seconds, 1), "ended": round(time.time(), 3)}
    return known | {"probabilities": job.probabilities}
