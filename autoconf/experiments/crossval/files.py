"""What a cross-validation leaves: crossval.csv, folds.yaml for ensemble inference, and the table on the screen."""

from __future__ import annotations

import csv
import os
import shlex
from typing import Any

from autoconf.bundle.overrides import flow
from autoconf.bundle.runs import listed
from autoconf.experiments.crossval.settings import CrossValidation
from autoconf.output import cases_of, table, to_csv, write_files


def write_files_of(job: CrossValidation, found: dict[str, Any]) -> None:
    """Write the two files, print the table and what to do next. found: results of the folds, and all scores."""
    dice = _dice_of_folds(job)
    rows = [
        {"fold": fold, "cases": len(job.cases(fold))}
        | {f"dice_{region}": round(mean, 6) for region, mean in dice[fold].items()}
        | {key: found["folds"][str(fold)][key] for key in ("epochs", "seconds")}
        for fold in job.folds
    ]
    write_files(str(job.setup.home), {"crossval.csv": to_csv(rows), "folds.yaml": _overlay(job, found, dice)})
    print()
    print(table([[f"{v:.3f}" if k.startswith("dice") else v for k, v in row.items()] for row in rows], list(rows[0])))
    print("\n" + "\n".join(_together(job, found)))
    print(
        "\nwrote  " + "\n       ".join(str(job.setup.home / name) for name in ("scores", "crossval.csv", "folds.yaml"))
    )
    print(f"next   {_command(job, 'inferring', 'inference')}")


def _dice_of_folds(job: CrossValidation) -> dict[int, dict[str, float]]:
    """fold -> region -> mean Dice of its cases, from the referee's scores.csv."""
    with open(job.setup.home / "scores" / "scores.csv", newline="", encoding="utf-8") as file:
        scores = list(csv.DictReader(file))
    fold_of = {case: fold for fold in job.folds for case in job.cases(fold)}
    of: dict[int, dict[str, list[float]]] = {fold: {} for fold in job.folds}
    for row in scores:
        case = row["case"] if row["case"] in fold_of else row["case"].removesuffix(".png")
        of[fold_of[case]].setdefault(row["region"], []).append(float(row["dice"]))
    return {fold: {region: sum(v) / len(v) for region, v in dice.items()} for fold, dice in of.items()}


def _together(job: CrossValidation, found: dict[str, Any]) -> list[str]:
    """A line per region: the mean over all cases and its interval over patients."""
    cases = sum(len(job.cases(fold)) for fold in job.folds)
    return [
        f"{region} Dice {dice['mean']:.3f} [{dice['low']:.3f}, {dice['high']:.3f}], "
        f"{cases_of(cases, found['patients'])}, each by a network that never saw it"
        for region, dice in found["dice"].items()
    ]


def _overlay(job: CrossValidation, found: dict[str, Any], dice: dict[int, dict[str, float]]) -> str:
    """folds.yaml: the checkpoints, with what each is worth and how to use them."""
    lines = [f"The networks of a cross-validation of bundle '{job.setup.bundle.name}', for its configs/ensemble.yaml."]
    lines += [*_together(job, found), "Mean of their probabilities; --tta True also asks about mirror images:"]
    lines += [f"  {_command(job, 'inferring', 'inference')}", "Of the test cases, once, with scores:"]
    lines += [f"  {_command(job, 'evaluating', 'evaluate')}"]
    text = [f"# {line}" for line in lines] + ["checkpoints:"]
    for fold in job.folds:
        worth = ", ".join(f"{region} Dice {mean:.3f}" for region, mean in dice[fold].items())
        text.append(f"- {flow(str(job.part(fold).weights))}  # fold {fold}: {worth}, n = {len(job.cases(fold))}")
    return "\n".join(text) + "\n"


def _command(job: CrossValidation, run_id: str, config: str) -> str:
    configs = listed([*job.setup.configs(config, "ensemble"), job.setup.home / "folds.yaml"])
    datalist = shlex.quote(os.path.abspath(os.path.join(job.setup.work, "datalist.json")))
    data = "--dataset_dir NEW_SCANS" if run_id == "inferring" else f"--datalist {datalist}"
    return f"python -m monai.bundle run {run_id} --config_file {configs} {data} --output_dir MASKS"
