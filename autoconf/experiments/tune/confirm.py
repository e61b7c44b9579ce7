"""Is the best trial better than the plan as it was? Both again, with several seeds, on cases that did not choose it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from autoconf.bundle.runs import bundle_command, drop_weights, run_again
from autoconf.bundle.tables import read_dice
from autoconf.errors import AutoconfError
from autoconf.experiments.tune.search import WAIT, TimeUp, Trial, Worker, best_of, trials
from autoconf.experiments.tune.settings import Search, changed
from autoconf.output import cases_of
from autoconf.score.compare import ALPHA, per_patient, wilcoxon
from autoconf.score.summary import intervals
from autoconf.workers.places import Claim, Place, TakenOver
from autoconf.workers.sealed import CACHE

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
    return [fold for fold in search.data.folds if fold != search.fold] or [search.fold]


@dataclass(frozen=True)
class Run:
    """One training whose last epoch is scored on a fold that did not choose. settings: on top of the plan."""

    name: str
    seed: int
    fold: int
    settings: dict[str, Any]
    place: Place

    def dice(self) -> dict[str, float]:
        """case -> Dice, when it is done."""
        return self.place.result()["dice"]


def to_confirm(search: Search) -> Trial | None:
    """The best of all trials, if it is to be compared with the plan as it was."""
    best = best_of(trials(search))
    return best if best and search.seeds and changed(best.settings, search) else None


def runs_of(search: Search, best: Trial) -> list[tuple[Run, Run]]:
    """Default and tuned with each seed, each seed on another fold."""
    folds = other_folds(search)

    def run(name: str, folder: str, settings: dict[str, Any], seed: int) -> Run:
        place = Place(search.folder / CONFIRM / f"{folder}-{seed}")
        return Run(name, seed, folds[(seed - 1) % len(folds)], settings, place)

    return [
        (run(DEFAULT, DEFAULT, {}, seed), run(TUNED, f"trial-{best.number}", best.settings, seed))
        for seed in range(1, search.seeds + 1)
    ]


def do_runs(search: Search, worker: Worker, best: Trial) -> bool:
    """Do those that nobody is at. Whether all are done now, those of other workers too.

    Raises TimeUp, KeyboardInterrupt, and AutoconfError if one fails.
    """
    runs = [run for both in runs_of(search, best) for run in both]
    for run in runs:
        claim = run.place.take()
        if claim is not None:
            _do(search, worker, run, claim)
    return all(run.place.is_done for run in runs)


def confirm(search: Search, worker: Worker, best: Trial) -> Verdict:
    """Compare the best with the default case by case, when all runs are done, here or by other workers.

    The last epoch's weights are scored: the best epoch was chosen on these very cases. Raises as do_runs does.
    """
    while not do_runs(search, worker, best):
        if worker.late:
            raise TimeUp
        time.sleep(WAIT)
    scores, shown = [], []
    for default, tuned in runs_of(search, best):
        both = {DEFAULT: default.dice(), TUNED: tuned.dice()}
        if both[DEFAULT].keys() != both[TUNED].keys():
            raise AutoconfError(f"{search.folder / CONFIRM}: default and tuned were scored on other cases. Delete it.")
        scores.append(both)
        means = {name: round(float(np.mean(list(dice.values()))), 6) for name, dice in both.items()}
        shown.append({"seed": tuned.seed, "fold": tuned.fold, "cases": len(both[TUNED]), **means})
    return _judge(search, scores, shown)


def _do(search: Search, worker: Worker, run: Run, claim: Claim) -> None:
    """One run, from its last epoch on if it was stopped before."""
    try:
        print(f"confirming: {run.name}, seed {run.seed}, fold {run.fold}", file=sys.stderr, flush=True)
        claim.finish({"settings": run.settings, "fold": run.fold, "dice": _train_and_score(search, worker, run, claim)})
    except TakenOver:  # we were thought dead
        print(f"confirming: {run.name}, seed {run.seed} was taken over by another worker", file=sys.stderr, flush=True)
        return
    except BaseException:
        claim.leave()
        raise
    drop_weights(claim.folder / "run")
    for path in (claim.folder / "evaluation").glob("*.nii.gz"):
        path.unlink()


def _train_and_score(search: Search, worker: Worker, run: Run, claim: Claim) -> dict[str, float]:
    """case -> Dice, on its scan's own grid."""
    override = claim.folder / "override.yaml"
    values = {"max_epochs": search.space.max_epochs, "val_interval": search.space.max_epochs, "fold": run.fold}
    text = yaml.safe_dump(values | {"seed": run.seed} | changed(run.settings, search), sort_keys=False)
    override.write_text(text, encoding="utf-8")
    out, scored = claim.folder / "run", claim.folder / "evaluation"
    device: dict[str, object] = {"device": worker.device} if worker.device else {}
    _process(search, worker, claim, "training", override, search.run_values(out) | {"resume": True} | device)
    asked = search.run_values(scored) | {"section": "validation", "fold": run.fold}
    asked |= {"checkpoint": out / "model_final.pt"} | device
    asked.pop(CACHE, None)
    _process(search, worker, claim, "evaluating", override, asked)
    return read_dice(scored / "dice_raw.csv")


def _process(
    search: Search, worker: Worker, claim: Claim, run_id: str, override: Path, values: dict[str, object]
) -> None:
    configs = search.configs(override)
    if run_id == "evaluating":
        configs[0] = Path(configs[0]).with_name("evaluate.yaml")

    def watch() -> None:
        claim.beat()
        if worker.late:
            raise TimeUp

    ended = run_again(bundle_command(run_id, configs, values), claim.folder / "log.txt", watch)
    if not ended.ok:
        raise AutoconfError(f"confirming failed: {ended.reason} (log: {claim.folder / 'log.txt'})")


def _judge(search: Search, scores: Sequence[dict[str, dict[str, float]]], runs: list[dict[str, Any]]) -> Verdict:
    """A case that was scored with several seeds counts once, with its mean."""
    kept: dict[str, list[tuple[float, float]]] = {}
    for both in scores:
        for case, dice in both[TUNED].items():
            kept.setdefault(case, []).append((both[DEFAULT][case], dice))
    means = np.array([np.mean(pairs, axis=0) for pairs in kept.values()])
    differences = means[:, 1] - means[:, 0]
    named = {case.name: case.patient for case in search.data.training}
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
