"""The trials: each is a training run with settings that Optuna chose, reported epoch by epoch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from autoconf.bundle.progress import Epoch, read_progress
from autoconf.bundle.runs import drop_weights
from autoconf.errors import AutoconfError
from autoconf.experiments.training import write_override
from autoconf.experiments.tune.settings import Search, changed
from autoconf.experiments.tune.study import Study
from autoconf.workers.engine import Engine
from autoconf.workers.parts import Part, PartFailed, Worker
from autoconf.workers.work import do_parts

COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
FAILURES_THAT_STOP = 3  # at the start, all for the same reason: then it is not the settings that fail


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


class _Prune(Exception):
    """A trial is not worth its next epoch."""


def do_trials(search: Search, engine: Engine, ends: float | None) -> bool:
    """All trials, stage after stage. Whether all are over; False if the time was up before. Raises AutoconfError."""
    first = 0
    for stage, size in enumerate(search.sizes()):
        numbers = range(first, first + size)
        study = Study(search, stage)
        tell_ended(search, study, first)

        def ended(part: Part[int], reason: str, study: Study = study, numbers: range = numbers) -> None:
            if reason:
                _say(f"{part.name}: {reason}")
                return
            tell_ended(search, study, numbers[0])
            _say(_told(search, Trial(**part.result())))
            _stop_if_nothing_works(search, numbers)

        do = partial(do_trial, search, stage, first, fixed_before(search, stage))
        left = do_parts([search.part(n) for n in numbers], do, engine, search.setup.home, ends, ended)
        if left.failed:
            said = "; ".join(f"{name}: {reason}" for name, reason in left.failed.items())
            raise AutoconfError(f"{said}. The same command tries again.")
        if left.timed_out:
            return False
        first += size
    return True


def tell_ended(search: Search, study: Study, first: int) -> None:
    """Tell Optuna of trials that are over; also of those that ended when nobody could tell it: a kill, a full disk."""
    for asked, index in study.running().items():
        part = search.part(first + index)
        if part.is_done:
            trial = Trial(**part.result())
            study.tell(asked, trial.dice if trial.state != FAILED else None, pruned=trial.state == PRUNED)


def trials(search: Search) -> list[Trial]:
    """Those that are over, in their order."""
    total = sum(search.sizes())
    return [Trial(**part.result()) for part in map(search.part, range(total)) if part.is_done]


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


def do_trial(
    search: Search, stage: int, first: int, fixed: dict[str, Any], part: Part[int], worker: Worker
) -> dict[str, Any]:
    """One trial, from its last epoch on if it was stopped before. Returns a Trial as a dict."""
    study = Study(search, stage)
    asked = study.ask(part.task - first)
    _say(f"trial {part.task} begins: {words(asked.values)}")
    trial = Trial(part.task, stage, FAILED, asked.values, fixed | asked.values)
    own = {"max_epochs": search.space.max_epochs, "val_interval": 1} | changed(trial.settings, search)
    override = write_override(part, own)
    setup = search.setup
    given = {"datalist": setup.datalist, "output_dir": part.run, "resume": True} | setup.cache() | worker.on_device
    try:
        watch = _reporter(part, study, asked.number, search.space.max_epochs)
        worker.run(part, "training", [*setup.configs("train"), override], given, watch)
        state, reason = COMPLETE, ""
    except _Prune as prune:
        state, reason = PRUNED, f"after epoch {prune}: two of three trials were better"
    except PartFailed as error:
        state, reason = FAILED, str(error)
    drop_weights(part.run)
    return asdict(trial) | _end(part, state, reason)


def _reporter(part: Part[int], study: Study, asked: int, last: int) -> Callable[[], None]:
    """Reports each new epoch to Optuna; raises _Prune if the trial is not worth another one."""
    seen = 0

    def report() -> None:
        nonlocal seen
        scored = [epoch for epoch in read_progress(str(part.run / "progress.csv"))[0] if epoch.dice is not None]
        for epoch in scored[seen:]:
            seen += 1
            if study.report(asked, epoch.number, epoch.dice or 0.0) and epoch.number < last:
                raise _Prune(seen)

    return report


def _end(part: Part[int], state: str, reason: str) -> dict[str, Any]:
    epochs: list[Epoch] = read_progress(str(part.run / "progress.csv"))[0]
    scored = [epoch for epoch in epochs if epoch.dice is not None]
    if state == COMPLETE and not scored:
        state, reason = FAILED, "no epoch was validated"
    best = max(scored, key=lambda epoch: epoch.dice or 0.0, default=None)
    known = {"state": state, "reason": reason, "epochs": len(epochs), "seconds": epochs[-1].seconds if epochs else 0.0}
    if best is not None and state != FAILED:
        known |= {"dice": best.dice, "best_epoch": best.number, "curve": [epoch.dice for epoch in scored]}
    return known


def _stop_if_nothing_works(search: Search, numbers: range) -> None:
    """Do not let twenty trials fail one by one for want of a file."""
    done = [Trial(**part.result()) for part in map(search.part, numbers) if part.is_done]
    if len(done) >= FAILURES_THAT_STOP and all(trial.state == FAILED for trial in done):
        raise AutoconfError(
            f"all of the first {len(done)} trials failed; the last: {done[-1].reason} "
            f"(log: {search.part(done[-1].number).log}). Correct that, delete {search.setup.home}, and begin anew."
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
