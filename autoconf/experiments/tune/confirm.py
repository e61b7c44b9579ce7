"""Is the best trial better than the plan as it was? Both again, with several seeds, on cases that did not choose it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from autoconf.errors import AutoconfError
from autoconf.experiments.training import dice_of_fold, train, write_override
from autoconf.experiments.tune.search import Trial, best_of, trials
from autoconf.experiments.tune.settings import Search, changed
from autoconf.output import cases_of
from autoconf.score.compare import ALPHA, per_patient, wilcoxon
from autoconf.score.summary import intervals
from autoconf.workers.engine import Engine
from autoconf.workers.parts import Part, Worker
from autoconf.workers.work import do_parts

DEFAULT, TUNED = "default", "tuned"
CONFIRM = "confirm"
FEWEST = 6  # patients with which Wilcoxon's p can be below 0.05 at all: 2 / 2^6


@dataclass(frozen=True)
class Verdict:
    """Tuned minus default, paired by case. low, high: 95 % interval over patients. runs: of both, seed by seed."""

    difference: float
    low: float
    high: float
    p: float
    cases: int
    patients: int
    default: float
    tuned: float
    wins: int
    losses: int
    runs: list[dict[str, Any]]

    @property
    def is_better(self) -> bool:
        """Both witnesses say so: the interval leaves out 0, and Wilcoxon's p is small (docs/decisions/0010)."""
        return self.low > 0 and self.p < ALPHA

    def words(self) -> str:
        """One sentence."""
        numbers = f"{self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"
        of = f"over {cases_of(self.cases, self.patients)}, p {self.p:.2g}"
        if self.is_better:
            return f"Tuned minus default: Dice {numbers} {of}. Tuned is better."
        if self.high < 0 and self.p < ALPHA:
            return f"Tuned minus default: Dice {numbers} {of}. Tuned is worse: keep the default."
        if self.patients < FEWEST:
            return f"Tuned minus default: Dice {numbers} {of}: too few to tell. The default is good enough."
        where = "The interval spans 0" if self.low <= 0 <= self.high else "Wilcoxon's test does not agree"
        return f"Tuned minus default: Dice {numbers} {of}. {where}: the default is good enough."


def other_folds(search: Search) -> list[int]:
    """The folds that did not choose: all but the one that validated the trials. Where there is no other, that one."""
    return [fold for fold in search.setup.data.folds if fold != search.fold] or [search.fold]


@dataclass(frozen=True)
class Run:
    """One training run whose last epoch is scored on a fold that did not choose. settings: on top of the plan."""

    seed: int
    fold: int
    settings: dict[str, Any]


def to_confirm(search: Search) -> Trial | None:
    """The best of all trials, if it is to be compared with the plan as it was."""
    best = best_of(trials(search))
    return best if best and search.seeds and changed(best.settings, search) else None


def runs_of(search: Search, best: Trial) -> list[tuple[Part[Run], Part[Run]]]:
    """Default and tuned with each seed, each seed on another fold."""
    folds = other_folds(search)

    def run(name: str, folder: str, settings: dict[str, Any], seed: int) -> Part[Run]:
        fold = folds[(seed - 1) % len(folds)]
        path = search.setup.home / CONFIRM / f"{folder}-{seed}"
        return Part(f"confirming: {name}, seed {seed}, fold {fold}", path, Run(seed, fold, settings))

    return [
        (run(DEFAULT, DEFAULT, {}, seed), run(TUNED, f"trial-{best.number}", best.settings, seed))
        for seed in range(1, search.seeds + 1)
    ]


def confirm(search: Search, engine: Engine, ends: float | None, best: Trial) -> Verdict | None:
    """Compare the best with the default case by case; None if the time was up before.

    The last epoch's weights are scored: the best epoch was chosen on these very cases. Raises AutoconfError.
    """
    runs = runs_of(search, best)
    left = do_parts([run for both in runs for run in both], partial(do_run, search), engine, search.setup.home, ends)
    if left.failed:
        name, reason = next(iter(left.failed.items()))
        raise AutoconfError(f"{name}: {reason}. The same command tries again.")
    if left.timed_out:
        return None
    scores, shown = [], []
    for default, tuned in runs:
        both = {DEFAULT: default.result()["dice"], TUNED: tuned.result()["dice"]}
        scores.append(both)
        means = {name: round(float(np.mean(list(dice.values()))), 6) for name, dice in both.items()}
        shown.append({"seed": tuned.task.seed, "fold": tuned.task.fold, "cases": len(both[TUNED]), **means})
    return _judge(search, scores, shown)


def do_run(search: Search, part: Part[Run], worker: Worker) -> dict[str, Any]:
    """One training run, from its last epoch on if it was stopped before, and its score. Raises PartFailed."""
    run, setup, epochs = part.task, search.setup, search.space.max_epochs
    own = {"max_epochs": epochs, "val_interval": epochs, "fold": run.fold, "seed": run.seed}
    override = write_override(part, own | changed(run.settings, search))
    train(setup, part, worker, [*setup.configs("train"), override], {})
    dice = dice_of_fold(setup, part, worker, [*setup.configs("evaluate"), override], run.fold)
    return {"settings": run.settings, "fold": run.fold, "dice": dice}


def _judge(search: Search, scores: Sequence[dict[str, dict[str, float]]], runs: list[dict[str, Any]]) -> Verdict:
    """A case that was scored with several seeds counts once, with its mean."""
    kept: dict[str, list[tuple[float, float]]] = {}
    for both in scores:
        for case, dice in both[TUNED].items():
            kept.setdefault(case, []).append((both[DEFAULT][case], dice))
    means = np.array([np.mean(pairs, axis=0) for pairs in kept.values()])
    differences = means[:, 1] - means[:, 0]
    named = {case.name: case.patient for case in search.setup.data.training}
    patients = [named.get(case, case) for case in kept]
    (low,), (high,) = intervals(differences[:, None], patients)
    return Verdict(
        difference=round(float(differences.mean()), 6),
        low=round(float(low), 6),
        high=round(float(high), 6),
        p=round(wilcoxon(per_patient(differences, patients)), 6),
        cases=len(kept),
        patients=len(set(patients)),
        default=round(float(means[:, 0].mean()), 6),
        tuned=round(float(means[:, 1].mean()), 6),
        wins=int((differences > 1e-6).sum()),
        losses=int((differences < -1e-6).sum()),
        runs=runs,
    )
