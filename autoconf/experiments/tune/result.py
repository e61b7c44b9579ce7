"""What a search leaves: tuned.yaml, trials.csv, the page, and the lines on the screen."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any

from autoconf.bundle.overrides import Choice, render
from autoconf.experiments.tune.confirm import Verdict
from autoconf.experiments.tune.page import page
from autoconf.experiments.tune.search import COMPLETE, FAILED, PRUNED, Trial, best_of
from autoconf.experiments.tune.settings import Search, changed
from autoconf.experiments.tune.study import Study
from autoconf.output import table, to_csv, write_files

FEW_SHOWN = 5  # trials on the screen


def write(search: Search, found: list[Trial], verdict: Verdict | None, out: str, command: str, finished: bool) -> None:
    """Write all of it, and print the best trials and the verdict.

    command: that searches in the same way, for the head of the file. finished: all trials are over.
    """
    importances = _importances(search)
    summary = _summary(search, found, verdict, importances, finished)
    files: dict[str, str | bytes] = {
        "trials.csv": _csv(search, found),
        "result.json": json.dumps(summary, indent=1) + "\n",
        "report.html": page(search, found, verdict, importances, finished),
    }
    write_files(str(search.setup.home), files)
    best = best_of(found)
    if best is not None:
        text = tuned_file(search, found, best, verdict, command)
        write_files(os.path.dirname(os.path.abspath(out)), {os.path.basename(out): text})
    _print(search, found, verdict, out if best else "")


def tuned_file(search: Search, found: list[Trial], best: Trial, verdict: Verdict | None, command: str) -> str:
    """The plan with the best trial's values in it: an override file that takes the plan's place."""
    default = default_trial(search, found)
    told = f"trial {best.number} of {len(found)}: validation Dice {best.dice:.4f} after {best.epochs} epochs"
    if default is not None and default is not best:
        told += f" (as planned: {default.dice:.4f})" if default.dice is not None else f" (as planned: {default.state})"
    heading = [
        command,
        told,
        *at_the_ends(search, best),
        verdict.words() if verdict else "Not confirmed with other seeds and folds.",
    ]
    choices = dict(search.setup.plan)
    for key, value in best.settings.items():
        own = search.value(key)
        reason = f"trial {best.number}: Dice {best.dice:.4f}" + (f"; planned {own}" if own != value else "; as planned")
        choices[key] = Choice(value, reason)
    return render([*heading, *(line for line in search.setup.heading if line)], choices)


def default_trial(search: Search, found: list[Trial]) -> Trial | None:
    """The trial that ran the plan as it is, if there was one."""
    default = search.default()
    return next((t for t in found if all(default[key] == value for key, value in t.settings.items())), None)


def at_the_ends(search: Search, best: Trial | None) -> list[str]:
    """A line for each setting of the best trial that lies at an end of its range."""
    settings = best.settings if best else {}
    found = [param for param in search.space.params if param.key in settings]
    return [
        f"{param.key} {settings[param.key]:g} lies at an end of {param.described()}: a wider range may hold better."
        for param in found
        if param.at_its_end(settings[param.key])
    ]


def _importances(search: Search) -> list[dict[str, float]]:
    """Of each stage."""
    return [Study(search, stage).importances() for stage in range(len(search.space.stages))]


def _summary(
    search: Search, found: list[Trial], verdict: Verdict | None, importances: list[dict[str, float]], finished: bool
) -> dict[str, Any]:
    best, default = best_of(found), default_trial(search, found)
    return {
        "bundle": search.setup.bundle.name,
        "sampler": search.sampler,
        "seed": search.seed,
        "epochs_per_trial": search.space.max_epochs,
        "validation_fold": search.fold,
        "finished": finished,
        "trials": [asdict(trial) for trial in found],
        "best": best.number if best else None,
        "default": default.number if default else None,
        "importances": importances,
        "confirmed": asdict(verdict) | {"verdict": verdict.words(), "is_better": verdict.is_better}
        if verdict
        else None,
    }


def _csv(search: Search, found: list[Trial]) -> str:
    keys = [param.key for param in search.space.params]
    columns = ["trial", "stage", "state", "dice", "best_epoch", "epochs", "seconds", *keys, "reason"]
    rows = []
    for trial in found:
        values = [trial.settings.get(key, search.value(key)) for key in keys]
        dice = "" if trial.dice is None else trial.dice
        head = [trial.number, trial.stage, trial.state, dice, trial.best_epoch or "", trial.epochs, trial.seconds]
        rows.append(dict(zip(columns, [*head, *values, trial.reason], strict=True)))
    return to_csv(rows, columns)


def _print(search: Search, found: list[Trial], verdict: Verdict | None, out: str) -> None:
    done = sorted((t for t in found if t.state == COMPLETE), key=lambda t: -(t.dice or 0.0))
    keys = [param.key for param in search.space.params]
    shown = [[t.number, t.dice, *(t.settings.get(key, search.value(key)) for key in keys)] for t in done[:FEW_SHOWN]]
    if shown:
        print(table([[str(v) if i > 1 else v for i, v in enumerate(row)] for row in shown], ["trial", "Dice", *keys]))
    counts = {state: sum(t.state == state for t in found) for state in (COMPLETE, PRUNED, FAILED)}
    minutes = sum(t.seconds for t in found) / 60
    print(
        f"\n{counts[COMPLETE]} trials in full, {counts[PRUNED]} ended early, {counts[FAILED]} failed; {minutes:.0f} min"
    )
    for line in at_the_ends(search, best_of(found)):
        print(line)
    if verdict:
        print(verdict.words())
    elif done and not changed(done[0].settings, search):
        print("The plan as it is was the best trial: nothing to confirm.")
    elif done:
        print("The best was not confirmed: one validation fold, used to choose, flatters what it chose.")
    if out:
        print(f"\nwrote  {out}")
    for name in ("trials.csv", "result.json", "report.html"):
        print(f"       {search.setup.home / name}")
