"""Who does which fold, and the doing: train, then segment the cases that were left out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from autoconf.crossval.settings import Job
from autoconf.jobs.data import prepared
from autoconf.jobs.places import RESULT, Claim, TakenOver
from autoconf.jobs.runs import Ended, bundle_command, run
from autoconf.jobs.tables import Shown, last_row

LOOK_EVERY = 2.0  # seconds between two looks at the folds of others


@dataclass(frozen=True)
class Left:
    """What is not done when no fold is free any more: fold -> reason of a failure; folds that others are at."""

    failed: dict[int, str]
    others: list[int]


def do_folds(job: Job, wait: bool) -> Left:
    """Do one free fold after the other. wait: until no other worker is at one.

    A fold that failed since we began, here or elsewhere, is not tried again; one that failed before is.
    """
    old = {path for fold in job.folds for path in job.place(fold).failures()}
    while True:
        todo = [fold for fold in job.folds if not job.is_done(fold)]
        failed = {fold: reason for fold in todo if (reason := job.place(fold).failure(old))}
        todo = [fold for fold in todo if fold not in failed]
        taken = next(((fold, claim) for fold in todo if (claim := _take(job, fold))), None)
        if taken:
            _do(job, *taken)
        elif not todo or not wait:
            return Left(failed, todo)
        else:
            time.sleep(LOOK_EVERY)


def _take(job: Job, fold: int) -> Claim | None:
    """Make it ours, if it is free; also one that was done without the probabilities that are asked for now."""
    place = job.place(fold)
    if place.is_done and not job.is_done(fold) and not place.is_taken():
        (place.folder / RESULT).unlink(missing_ok=True)
    return place.take()


def _do(job: Job, fold: int, claim: Claim) -> None:
    """One fold as far as it goes; its end is a result or a failure, in its folder."""
    try:
        ended, seconds = _train(job, fold, claim), 0.0
        if ended.ok:
            began = time.monotonic()
            ended = _segment(job, fold, claim)
            seconds = time.monotonic() - began
        reason = ended.reason if not ended.ok else _missing(job, fold)
        if reason:
            claim.fail(reason)
            say(fold, f"failed: {reason}")
            return
        claim.finish(_result(job, fold, seconds))
        say(fold, "done")
    except TakenOver:  # we were taken for dead: a suspended machine, a disk that hung
        say(fold, "taken over by another worker")
    except BaseException:
        claim.leave()
        raise


def _train(job: Job, fold: int, claim: Claim) -> Ended:
    checkpoint = job.checkpoint(fold)
    if checkpoint.exists():  # it is written when all epochs are done
        return Ended(0)
    say(fold, f"training; its log: {job.log(fold)}")
    values = {"output_dir": checkpoint.parent, "resume": True} | prepared(job.work, job.bundle, job.choices, job.home)
    return _run(job, fold, claim, "training", "train", values)


def _segment(job: Job, fold: int, claim: Claim) -> Ended:
    say(fold, f"segmenting {len(job.cases(fold))} cases")
    values: dict[str, object] = {
        "section": "validation",
        "checkpoint": job.checkpoint(fold),
        "output_dir": claim.folder / "masks",
    }
    values |= {"save_probability": True} if job.probabilities else {}
    return _run(job, fold, claim, "evaluating", "evaluate", values)


def _run(job: Job, fold: int, claim: Claim, run_id: str, config: str, values: dict[str, object]) -> Ended:
    values = {"datalist": job.datalist, "fold": fold} | values | ({"device": job.device} if job.device else {})
    shown = Shown(f"fold {fold}", job.checkpoint(fold).with_name("progress.csv"))

    def watch() -> None:
        claim.beat()
        shown.look()

    return run(bundle_command(run_id, job.configs(config), values), job.log(fold), watch)


def _missing(job: Job, fold: int) -> str:
    """A missing mask would be scored as an empty one."""
    folder = job.masks(fold)
    missing = [case for case in job.cases(fold) if not all((folder / name).exists() for name in job.written(case))]
    return f"the evaluation wrote no mask of {missing[0]} (and {len(missing) - 1} others)" if missing else ""


def _result(job: Job, fold: int, seconds: float) -> dict[str, Any]:
    """seconds: of the segmentation. Those of the training are as its table has them, stops not counted."""
    row = last_row(job.checkpoint(fold).with_name("progress.csv"))
    taken = round(float(row.get("seconds") or 0) + seconds, 1)
    # when it ended, by which a fold that is done again is known from what was scored before
    known = {"epochs": int(row.get("epoch") or 0), "seconds": taken, "probabilities": job.probabilities}
    return known | {"ended": round(time.time(), 3)}


def say(fold: int, what: str) -> None:
    print(f"fold {fold}: {what}", flush=True)
