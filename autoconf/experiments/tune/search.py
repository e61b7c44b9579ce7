"""The search itself: one worker, which takes trials until none is left. Any number of them may share a folder."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from autoconf.bundle.progress import Epoch, read_progress
from autoconf.bundle.runs import bundle_command, drop_weights, run_again
from autoconf.errors import AutoconfError
from autoconf.experiments.tune.settings import Search, changed
from autoconf.experiments.tune.study import Study
from autoconf.workers.places import Claim, TakenOver

COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
FAILURES_THAT_STOP = 3  # at the start, all for the same reason: then it is not the settings that fail
WAIT = 1.0  # seconds, for trials of other workers


@dataclass(frozen=True)
class Trial:
    """A trial that is over. values: of its stage; dice: the best epoch's, None if there was none."""

    number: int
    stage: int
    state: str
    values: dict[str, Any]
    settings: dict[str, Any]  # values and what earlier stages fixed
    dice: float | None = None
    best_epoch: int | None = None
    epochs: int = 0
    seconds: float = 0.0
    reason: str = ""
    curve: list[float] = field(default_factory=list)  # validation Dice of each epoch


@dataclass
class Worker:
    """What one worker needs beside the search. device: empty: the bundle's own choice. deadline: monotonic."""

    device: str = ""
    deadline: float | None = None

    @property
    def late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline


class TimeUp(Exception):
    """The time that was given is over."""


class _Prune(Exception):
    """A trial is not worth its next epoch."""


def work(search: Search, worker: Worker) -> None:
    """Take trials, stage after stage, until none is left. Raises TimeUp, KeyboardInterrupt, AutoconfError.

    What is under way then is left so that the next start goes on from its last epoch.
    """
    first = 0
    for stage, size in enumerate(search.sizes()):
        numbers = range(first, first + size)
        study = Study(search, stage)
        _settle(search, study, first)
        fixed = fixed_before(search, stage)
        while not all(search.place(number).is_done for number in numbers):
            claim, number = _next(search, numbers)
            if worker.late:
                if claim:
                    claim.leave()
                raise TimeUp
            if claim is None:
                time.sleep(WAIT)
                continue
            _take(search, study, worker, claim, stage, number, number - first, fixed)
            _stop_if_nothing_works(search, numbers)
        first += size


def _tell(study: Study, asked: int, trial: Trial) -> None:
    study.tell(asked, trial.dice if trial.state != FAILED else None, pruned=trial.state == PRUNED)


def _settle(search: Search, study: Study, first: int) -> None:
    """Tell Optuna of trials that were over when their worker died, or the disk was full, before it could."""
    for asked, index in study.running().items():
        place = search.place(first + index)
        if place.is_done:
            _tell(study, asked, Trial(**place.result()))


def trials(search: Search) -> list[Trial]:
    """Those that are over, in their order."""
    total = sum(search.sizes())
    found = [search.place(number) for number in range(total)]
    return [Trial(**place.result()) for place in found if place.is_done]


def best_of(found: list[Trial]) -> Trial | None:
    """The trial with the highest Dice that ran in full; the first of equals."""
    return max(
        (t for t in found if t.state == COMPLETE and t.dice is not None), key=lambda t: t.dice or 0.0, default=None
    )


def fixed_before(search: Search, stage: int) -> dict[str, Any]:
    """The settings of the best trial of the stage before, which this stage goes on from; none for the first."""
    if stage == 0:
        return {}
    best = best_of([trial for trial in trials(search) if trial.stage == stage - 1])
    if best is None:
        raise AutoconfError(
            f"no trial of stage {stage} ran to its end, so that stage {stage + 1} has nothing to go on from."
        )
    return best.settings


def _next(search: Search, numbers: range) -> tuple[Claim | None, int]:
    """A trial that nobody is at: the first whose worker died, else the first that is new."""
    places = [(number, search.place(number)) for number in numbers]
    open_ones = [(number, place) for number, place in places if not place.is_done]
    for number, place in sorted(open_ones, key=lambda item: item[1].attempts() == 0):
        claim = place.take()
        if claim is not None:
            return claim, number
    return None, -1


def _take(
    search: Search,
    study: Study,
    worker: Worker,
    claim: Claim,
    stage: int,
    number: int,
    index: int,
    fixed: dict[str, Any],
) -> None:
    """Run one trial and write what came out."""
    try:
        asked = study.ask(index)
        settings = fixed | asked.values
        _say(f"trial {number} begins: {words(asked.values)}")
        trial = _run(search, study, worker, claim, asked.number, Trial(number, stage, FAILED, asked.values, settings))
        claim.finish(asdict(trial))
        _tell(study, asked.number, trial)
    except TakenOver:  # we were thought dead, and another worker has it now
        _say(f"trial {number} was taken over by another worker")
        return
    except BaseException:
        claim.leave()
        raise
    drop_weights(claim.folder / "run")
    _say(_told(search, trial))


def _run(search: Search, study: Study, worker: Worker, claim: Claim, asked: int, trial: Trial) -> Trial:
    """The trial's process, from its last epoch on if it was stopped before. Returns the trial with its end."""
    out = claim.folder / "run"
    override = claim.folder / "override.yaml"
    override.write_text(_override(search, trial), encoding="utf-8")
    values = search.run_values(out) | {"resume": True} | ({"device": worker.device} if worker.device else {})
    command = bundle_command("training", search.configs(override), values)
    seen = 0

    def watch() -> None:
        nonlocal seen
        claim.beat()
        if worker.late:
            raise TimeUp
        scored = [epoch for epoch in read_progress(str(out / "progress.csv"))[0] if epoch.dice is not None]
        for epoch in scored[seen:]:
            seen += 1
            if study.report(asked, epoch.number, epoch.dice or 0.0) and epoch.number < search.space.max_epochs:
                raise _Prune

    def again(reason: str) -> None:
        _say(f"trial {trial.number}: its process was {reason}; going on from its last epoch")

    try:
        ended = run_again(command, claim.folder / "log.txt", watch, again)
    except _Prune:
        return _ended(trial, PRUNED, out, f"after epoch {seen}: two of three trials were better")
    return _ended(trial, COMPLETE if ended.ok else FAILED, out, ended.reason)


def _ended(trial: Trial, state: str, out: Path, reason: str) -> Trial:
    epochs: list[Epoch] = read_progress(str(out / "progress.csv"))[0]
    scored = [epoch for epoch in epochs if epoch.dice is not None]
    if state == COMPLETE and not scored:
        state, reason = FAILED, "no epoch was validated"
    best = max(scored, key=lambda epoch: epoch.dice or 0.0, default=None)
    known = {"state": state, "reason": reason, "epochs": len(epochs), "seconds": epochs[-1].seconds if epochs else 0.0}
    if best is not None and state != FAILED:
        known |= {"dice": best.dice, "best_epoch": best.number, "curve": [epoch.dice for epoch in scored]}
    return Trial(**(asdict(trial) | known))


def _override(search: Search, trial: Trial) -> str:
    """The trial as an override file, on top of the plan."""
    values = {"max_epochs": search.space.max_epochs, "val_interval": 1} | changed(trial.settings, search)
    head = f"# trial {trial.number}; fold {search.fold} validates\n"
    return head + yaml.safe_dump(values, sort_keys=False, default_flow_style=None)


def _stop_if_nothing_works(search: Search, numbers: range) -> None:
    """Do not let twenty trials fail one by one for want of a file."""
    done = [Trial(**search.place(number).result()) for number in numbers if search.place(number).is_done]
    if len(done) >= FAILURES_THAT_STOP and all(trial.state == FAILED for trial in done):
        log = search.place(done[-1].number).folder / "log.txt"
        raise AutoconfError(
            f"all of the first {len(done)} trials failed; the last: {done[-1].reason} (log: {log}). "
            f"Correct that, delete {search.folder}, and begin anew."
        )


def _told(search: Search, trial: Trial) -> str:
    total, spent = sum(search.sizes()), f"{trial.seconds / 60:.1f} min"
    best = best_of(trials(search))
    so_far = f"; best so far {best.dice:.4f}, trial {best.number}" if best and best.dice is not None else ""
    if trial.state == FAILED:
        return f"trial {trial.number} of {total} failed: {trial.reason}"
    what = "" if trial.state == COMPLETE else f", ended {trial.reason.partition(':')[0]}"
    return f"trial {trial.number} of {total}: Dice {trial.dice or 0:.4f}{what} ({spent}){so_far}"


def words(values: dict[str, Any]) -> str:
    """`learning_rate 0.0004, dice_weight 0.5`."""
    return ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()
    )


def _say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {message}", file=sys.stderr, flush=True)
