"""Who does which fold, and the doing: train, then segment the cases that were left out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoconf.bundle.runs import Ended, bundle_command, run
from autoconf.bundle.tables import Shown, last_row
from autoconf.experiments.crossval.settings import CrossValidation
from autoconf.workers.places import RESULT, Claim, Place
from autoconf.workers.sealed import prepared
from autoconf.workers.turns import AnyPart, Failed, Left, in_turn, say


@dataclass(frozen=True)
class Fold:
    """A fold as a part of the work."""

    job: CrossValidation
    number: int
    needs: tuple[AnyPart, ...] = ()

    @property
    def name(self) -> str:
        return f"fold {self.number}"

    @property
    def place(self) -> Place:
        return self.job.place(self.number)

    @property
    def log(self) -> Path:
        return self.job.log(self.number)

    @property
    def is_done(self) -> bool:
        return self.job.is_done(self.number)

    def take(self) -> Claim | None:
        """Make it ours, if it is free; also one that was done without the probabilities that are asked for now."""
        if self.place.is_done and not self.is_done and not self.place.is_taken():
            (self.place.folder / RESULT).unlink(missing_ok=True)
        return self.place.take()


def do_folds(job: CrossValidation, wait: bool) -> Left:
    """Do one free fold after the other. wait: until no other worker is at one."""
    return in_turn([Fold(job, number) for number in job.folds], _do, wait)


def _do(fold: Fold, claim: Claim) -> dict[str, Any]:
    """Train and segment; returns what is known of it. Raises Failed."""
    _require(_train(fold, claim))
    began = time.monotonic()
    _require(_segment(fold, claim))
    seconds = time.monotonic() - began
    missing = _missing(fold)
    if missing:
        raise Failed(missing)
    return _result(fold, seconds)


def _require(ended: Ended) -> None:
    if not ended.ok:
        raise Failed(ended.reason)


def _train(fold: Fold, claim: Claim) -> Ended:
    job, checkpoint = fold.job, fold.job.checkpoint(fold.number)
    if checkpoint.exists():  # it is written when all epochs are done
        return Ended(0)
    say(fold, f"training; its log: {fold.log}")
    values = {"output_dir": checkpoint.parent, "resume": True} | prepared(job.work, job.bundle, job.choices, job.home)
    return _run(fold, claim, "training", "train", values)


def _segment(fold: Fold, claim: Claim) -> Ended:
    job = fold.job
    say(fold, f"segmenting {len(job.cases(fold.number))} cases")
    values: dict[str, object] = {
        "section": "validation",
        "checkpoint": job.checkpoint(fold.number),
        "output_dir": claim.folder / "masks",
    }
    values |= {"save_probability": True} if job.probabilities else {}
    return _run(fold, claim, "evaluating", "evaluate", values)


def _run(fold: Fold, claim: Claim, run_id: str, config: str, values: dict[str, object]) -> Ended:
    job = fold.job
    values = {"datalist": job.datalist, "fold": fold.number} | values | ({"device": job.device} if job.device else {})
    shown = Shown(fold.name, job.checkpoint(fold.number).with_name("progress.csv"))

    def watch() -> None:
        claim.beat()
        shown.look()

    return run(bundle_command(run_id, job.configs(config), values), fold.log, watch)


def _missing(fold: Fold) -> str:
    """A missing mask would be scored as an empty one."""
    job, folder = fold.job, fold.job.masks(fold.number)
    missing = [
        case for case in job.cases(fold.number) if not all((folder / name).exists() for name in job.written(case))
    ]
    return f"the evaluation wrote no mask of {missing[0]} (and {len(missing) - 1} others)" if missing else ""


def _result(fold: Fold, seconds: float) -> dict[str, Any]:
    """seconds: of the segmentation. Those of the training are as its table has them, stops not counted."""
    row = last_row(fold.job.checkpoint(fold.number).with_name("progress.csv"))
    taken = round(float(row.get("seconds") or 0) + seconds, 1)
    # when it ended, by which a fold that is done again is known from what was scored before
    known = {"epochs": int(row.get("epoch") or 0), "seconds": taken, "probabilities": fold.job.probabilities}
    return known | {"ended": round(time.time(), 3)}
