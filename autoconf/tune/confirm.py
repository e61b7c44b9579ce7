"""Is the best trial better than the plan as it was? Both again, with several seeds, on cases that did not choose it."""

from __future__ import annotations

import csv
import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from autoconf.errors import AutoconfError
from autoconf.jobs.data import CACHE
from autoconf.jobs.places import Claim, Place
from autoconf.jobs.runs import bundle_command, run_again
from autoconf.score.compare import ALPHA, per_patient, wilcoxon
from autoconf.score.summary import intervals
from autoconf.tune.search import TimeUp, Worker, drop_weights
from autoconf.tune.settings import Search, changed

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
        of = f"over {self.cases} cases of {self.patients} patients, p {self.p:.2g}"
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
    folds = sorted({item["fold"] for item in search.content["training"]})
    return [fold for fold in folds if fold != search.fold] or [search.fold]


def confirm(search: Search, worker: Worker, settings: dict[str, Any], seeds: int) -> Verdict:
    """Train default and tuned with each seed, each seed on another fold, and compare them case by case.

    What is done already is not done again. The last epoch's weights are scored: the best epoch was chosen on these
    very cases. Raises TimeUp, KeyboardInterrupt, and AutoconfError if a run fails.
    """
    folds = other_folds(search)
    runs, scores = [], []
    for seed in range(seeds):
        fold = folds[seed % len(folds)]
        both = {name: _run(search, worker, name, values, seed, fold) for name, values in _pair(settings)}
        if both[DEFAULT].keys() != both[TUNED].keys():
            raise AutoconfError(f"{search.folder / CONFIRM}: default and tuned were scored on other cases. Delete it.")
        scores.append(both)
        means = {name: round(float(np.mean(list(dice.values()))), 6) for name, dice in both.items()}
        runs.append({"seed": seed + 1, "fold": fold, "cases": len(both[TUNED]), **means})
    return _judge(search, scores, runs)


def _pair(settings: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(DEFAULT, {}), (TUNED, settings)]


def _run(search: Search, worker: Worker, name: str, settings: dict[str, Any], seed: int, fold: int) -> dict[str, float]:
    """case -> Dice of one training, on its scan's own grid."""
    place = Place(search.folder / CONFIRM / f"{name}-{seed + 1}")
    said = {"settings": settings, "fold": fold, "epochs": search.space.max_epochs}
    if place.is_done:
        found = place.result()
        if {key: found.get(key) for key in said} == said:
            return found["dice"]
        (place.folder / "result.json").unlink()  # of another best: more trials were added since
        _clear(place.folder)
    claim = place.take()
    if claim is None:
        raise AutoconfError(f"{place.folder}: another worker is at it. Wait for it, or stop it.")
    try:
        print(f"confirming: {name}, seed {seed + 1}, fold {fold}", file=sys.stderr, flush=True)
        dice = _train_and_score(search, worker, claim, settings, seed, fold)
        claim.finish(said | {"dice": dice})
        _clear(claim.folder, keep_scores=True)
        return dice
    except BaseException:
        claim.leave()
        raise


def _train_and_score(
    search: Search, worker: Worker, claim: Claim, settings: dict[str, Any], seed: int, fold: int
) -> dict[str, float]:
    override = claim.folder / "override.yaml"
    values = {"max_epochs": search.space.max_epochs, "val_interval": search.space.max_epochs, "fold": fold}
    text = yaml.safe_dump(values | {"seed": seed + 1} | changed(settings, search), sort_keys=False)
    if not override.exists() or override.read_text(encoding="utf-8") != text:  # of another best
        _clear(claim.folder)
        override.write_text(text, encoding="utf-8")
    out, scored = claim.folder / "run", claim.folder / "evaluation"
    device = {"device": worker.device} if worker.device else {}
    _process(search, worker, claim, "training", override, search.run_values(out) | {"resume": True} | device)
    asked = search.run_values(scored) | {"section": "validation", "fold": fold, "checkpoint": out / "model_final.pt"}
    asked.pop(CACHE, None)
    _process(search, worker, claim, "evaluating", override, asked | device)
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


def read_dice(path: Path) -> dict[str, float]:
    """case -> Dice of the table that `evaluating` writes; of several regions the first. Raises AutoconfError."""
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))[1:]
        found = {name: float(value) for name, value, *_ in rows}
    except (OSError, ValueError) as error:
        raise AutoconfError(f"{path}: cannot be read ({type(error).__name__}). Run the same command again.") from None
    if not found or not all(map(math.isfinite, found.values())):
        raise AutoconfError(f"{path}: holds no score for each case. Look at the log beside it.")
    return found


def _judge(search: Search, scores: Sequence[dict[str, dict[str, float]]], runs: list[dict[str, Any]]) -> Verdict:
    """A case that was scored with several seeds counts once, with its mean."""
    kept: dict[str, list[tuple[float, float]]] = {}
    for both in scores:
        for case, dice in both[TUNED].items():
            kept.setdefault(case, []).append((both[DEFAULT][case], dice))
    means = np.array([np.mean(pairs, axis=0) for pairs in kept.values()])
    differences = means[:, 1] - means[:, 0]
    named = {str(item["case"]): str(item.get("patient", item["case"])) for item in search.content["training"]}
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


def _clear(folder: Path, keep_scores: bool = False) -> None:
    """Take away what a run left: its weights, which are large; or all of it."""
    drop_weights(folder / "run")
    for path in (folder / "evaluation").glob("*.nii.gz"):
        path.unlink()
    if not keep_scores:
        for name in ("run", "evaluation"):
            shutil.rmtree(folder / name, ignore_errors=True)
