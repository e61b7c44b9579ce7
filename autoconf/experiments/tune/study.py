"""The study in Optuna's hands: which values to try next, and whether a trial is worth its next epoch."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoconf.errors import AutoconfError
from autoconf.experiments.tune.settings import Search
from autoconf.experiments.tune.space import Param

REDUCTION = 3  # of three trials that reach a rung, one goes on
FIRST_RUNG = 2  # epochs: earlier scores are noise
STARTUP_SHARE = 3  # a third of the trials is drawn at random, before the rest follows what they showed
LEAST_STARTUP = 4
LEAST_FOR_IMPORTANCE = 10  # trials in full: of 6 on real cases it ranked the learning rate, which decided all, last


def load_optuna() -> Any:
    """Optuna, quiet. Raises AutoconfError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise AutoconfError("tune needs optuna. Install it with: pip install optuna") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", module="optuna")
    return optuna


@dataclass(frozen=True)
class Asked:
    """A trial that Optuna knows of: its number there, and the bundle's values."""

    number: int
    values: dict[str, Any]


class Study:
    """One stage's study, in a storage that all workers share."""

    def __init__(self, search: Search, stage: int) -> None:
        optuna = load_optuna()
        self.search = search
        self.params: tuple[Param, ...] = search.space.stages[stage]
        try:
            self.study = optuna.create_study(
                study_name=f"stage-{stage}",
                storage=_storage(search),
                direction="maximize",
                load_if_exists=True,
                pruner=_pruner(search),
            )
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - of a data base, whichever it is
            raise AutoconfError(
                f"--storage {search.storage or search.setup.home}: {_line(error)}. Check the URL."
            ) from error

    def ask(self, index: int) -> Asked:
        """The trial of place `index` of this stage: the one that a dead worker began there, or a new one."""
        trials = self.study.get_trials(deepcopy=False)
        trial: Any = next((t for t in trials if t.user_attrs.get("index") == index), None)
        if trial is None:
            self.study.sampler = self._sampler(index)
            trial = self.study.ask({param.key: param.distribution() for param in self.params})
            trial.set_user_attr("index", index)
        return Asked(trial.number, {param.key: param.decode(trial.params[param.key]) for param in self.params})

    def running(self) -> dict[int, int]:
        """Number -> place of the trials that Optuna believes are running."""
        from optuna.trial import TrialState

        found = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return {trial.number: trial.user_attrs["index"] for trial in found if "index" in trial.user_attrs}

    def report(self, number: int, epoch: int, dice: float) -> bool:
        """Tell the Dice of an epoch; whether the trial should end here. The best so far counts, as in model.pt."""
        from optuna.trial import Trial

        kept = self.study.trials[number]
        trial = Trial(self.study, kept._trial_id)
        if epoch not in kept.intermediate_values:
            trial.report(max([dice, *kept.intermediate_values.values()]), epoch)
        return kept.user_attrs.get("index") != 0 and trial.should_prune()  # what all are compared with goes on

    def tell(self, number: int, dice: float | None, pruned: bool = False) -> None:
        """The end of a trial; dice None: it failed. Nothing happens if that was told before."""
        from optuna.trial import TrialState

        state = TrialState.PRUNED if pruned else TrialState.FAIL if dice is None else TrialState.COMPLETE
        value = dice if state == TrialState.COMPLETE else None
        self.study.tell(number, value, state=state, skip_if_finished=True)

    def importances(self) -> dict[str, float]:
        """How much of the differences each key explains, as shares of 1; empty with too few trials.

        Source: Watanabe et al., PED-ANOVA, IJCAI (2023), as in Optuna.
        """
        optuna = load_optuna()
        done = [t for t in self.study.trials if t.state == optuna.trial.TrialState.COMPLETE]
        if len(done) < LEAST_FOR_IMPORTANCE or len({t.value for t in done}) < 2 or len(self.params) < 2:
            return {}
        try:
            return dict(optuna.importance.get_param_importances(self.study, evaluator=importance_evaluator()))
        except (ValueError, RuntimeError, ZeroDivisionError):  # all of one value, say
            return {}

    def _sampler(self, index: int) -> Any:
        """Seeded by the place, so that the workers' order does not matter and no two of them draw alike."""
        optuna = load_optuna()
        seed = (self.search.seed * 10_007 + index) % 2**31
        if self.search.sampler == "grid":
            return _fixed(grid_point(self.params, index))
        if index == 0:
            default = {param.key: param.encode(self.search.value(param.key)) for param in self.params}
            if None not in default.values():
                return _fixed(default)
        startup = max(LEAST_STARTUP, self.search.trials // STARTUP_SHARE)
        if self.search.sampler == "random" or index < startup:
            return optuna.samplers.RandomSampler(seed)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, constant_liar=True)


def importance_evaluator() -> Any:
    return load_optuna().importance.PedAnovaImportanceEvaluator()


def _pruner(search: Search) -> Any:
    """A grid shows every point in full, as the study did; else successive halving (Li et al., ASHA, MLSys 2020)."""
    optuna = load_optuna()
    if search.sampler == "grid":
        return optuna.pruners.NopPruner()
    return optuna.pruners.SuccessiveHalvingPruner(FIRST_RUNG, REDUCTION)


def grid_point(params: tuple[Param, ...], index: int) -> dict[str, int]:
    """The numbers of the values at place `index` of a grid; the last key changes fastest."""
    point = {}
    for param in reversed(params):
        index, point[param.key] = divmod(index, len(param.values))
    return point


def repair_journal(path: Path) -> int:
    """Take out of a journal what cannot be read: the half line of a full disk or a kill. Returns how many lines.

    Call it before workers open the journal; a lock keeps others from writing meanwhile.
    """
    from optuna.storages.journal import JournalFileSymlinkLock

    if not path.exists():
        return 0
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        lines = path.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n") and _is_json(line)]
        if len(whole) < len(lines):
            partial = path.with_name(path.name + ".partial")
            partial.write_bytes(b"".join(whole))
            os.replace(partial, path)
        return len(lines) - len(whole)
    finally:
        lock.release()


def _storage(search: Search) -> Any:
    optuna = load_optuna()
    if search.storage:
        return search.storage
    path = search.setup.home / "journal.log"
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))


def _fixed(values: dict[str, Any]) -> Any:
    """A sampler that draws these values."""
    optuna = load_optuna()
    return optuna.samplers.PartialFixedSampler(values, optuna.samplers.RandomSampler(0))


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
