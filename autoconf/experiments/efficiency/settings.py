"""What is asked for: read and checked before anything runs, and remembered in the output folder."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from autoconf.arguments import check_device, check_own_folder
from autoconf.bundle.overrides import Choice, read, render
from autoconf.bundle.settings import Bundle, check_plan, parse_set, read_bundle
from autoconf.data.datalist import Datalist
from autoconf.errors import AutoconfError
from autoconf.experiments.efficiency.draw import order
from autoconf.experiments.folds import chosen_folds, difference
from autoconf.output import write_files
from autoconf.workers.places import write_first, write_json
from autoconf.workers.sealed import read_sealed

SCRATCH = "scratch"
STARTS = (SCRATCH, "pseudo", "mae")
FILES = {
    "pseudo": ("pseudo_label", "pretrain_pseudo", "finetune"),
    "mae": ("pretrain_mae", "finetune"),
}  # that it needs
MINE = ("max_epochs", "val_interval", "seed", "pretrained")  # set by the command itself, beside those of all runs


@dataclass(frozen=True)
class CurveFlags:
    """The flags as they were given. epochs: start -> number of epochs, 0 for the usual one."""

    sizes: str
    starts: str
    seeds: int
    out: str
    folds: str
    epochs: dict[str, int]
    network: str
    device: str


@dataclass(frozen=True)
class LabelCurve:
    """A label-efficiency curve. home: where all is kept. data: the datalist, without its testing list.

    choices: the plan. tuning: keys of configs/finetune.yaml. epochs: start -> epochs of its pre-training; scratch:
    of every training that is a point of the curve.
    """

    home: Path
    work: str
    folder: str  # of the bundle
    bundle: Bundle
    network: str
    heading: list[str]
    choices: dict[str, Choice]
    tuning: dict[str, Any]
    data: Datalist
    sizes: list[int]
    starts: list[str]
    seeds: int
    folds: list[int]
    epochs: dict[str, int]
    device: str

    def fold(self, seed: int) -> int:
        """The fold that a seed is scored on: they take turns."""
        return self.folds[(seed - 1) % len(self.folds)]

    def value(self, key: str) -> Any:
        """The plan's value, else the bundle's."""
        return self.choices[key].value if key in self.choices else self.bundle.config[key]

    def crops(self, fold: int) -> int:
        """Crops of an epoch of every point: as many as if all cases outside the fold had labels."""
        return int(self.value("crops_per_case")) * len(self.data.learning(fold))

    def steps(self, fold: int) -> int:
        """Batches of every point, however few labels it has."""
        return self.epochs[SCRATCH] * math.ceil(self.crops(fold) / int(self.value("batch_size")))

    def config(self, name: str) -> str:
        return os.path.join(self.folder, "configs", f"{name}.yaml")

    def configs(self, name: str, *more: str | Path) -> list[str | Path]:
        """Config files of a run: the bundle's `name`, its network's, what comes before the plan, and the plan."""
        return [self.config(name), *self.bundle.configs[1:], *more, self.home / "plan.yaml"]


def read_job(work: str, bundle: str, plan: str, asked: CurveFlags, words: tuple[str, ...]) -> LabelCurve:
    """Read and check all that the flags name; writes nothing. Raises AutoconfError."""
    to = read_bundle(bundle, asked.network)
    if not to.is_3d:
        raise AutoconfError(f"bundle '{to.name}' is one for images, without true masks. Give --bundle bundles/unetr3d.")
    heading, choices = read(plan)
    check_plan(to, choices)
    starts = _starts(asked.starts, bundle, to)
    sizes = _sizes(asked.sizes)
    tuning = _set(to, bundle, words, choices)
    if "pseudo" in starts and str((choices.get("regions") or Choice(to.config.get("regions"), "")).value) != "wt":
        raise AutoconfError("pseudo-masks hold the whole tumour alone. Leave pseudo out of --starts, or regions at wt.")
    if asked.seeds < 1:
        raise AutoconfError(f"--seeds is {asked.seeds}. It must be at least 1.")
    for flag, number in asked.epochs.items():
        if number < 0:
            name = "epochs" if flag == SCRATCH else f"{flag}-epochs"
            raise AutoconfError(f"--{name} is {number}. It must be at least 1, or 0 for the usual number.")
    check_device(asked.device)
    data = read_sealed(work, to, False)
    folds = chosen_folds(asked.folds, data.folds, work)
    out = asked.out or os.path.join(work, "efficiency")
    check_own_folder(out, work, data.root)
    planned = choices["max_epochs"].value if "max_epochs" in choices else to.config["max_epochs"]
    epochs = {SCRATCH: asked.epochs[SCRATCH] or int(str(planned))}
    epochs |= {start: asked.epochs[start] or epochs[SCRATCH] for start in ("mae", "pseudo")}
    home, folder = Path(os.path.abspath(out)), os.path.abspath(bundle)
    job = LabelCurve(
        *(home, work, folder, to, asked.network, heading, choices, tuning, data),
        *(sizes, starts, asked.seeds, folds, epochs, asked.device),
    )
    _check_sizes(job)
    return job


def _starts(words: str, folder: str, to: Bundle) -> list[str]:
    asked = list(dict.fromkeys(word.strip() for word in words.split(",")))
    for word in asked:
        if word not in STARTS:
            near = difflib.get_close_matches(word, STARTS, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(STARTS)}."
            raise AutoconfError(f"--starts {words}: no start '{word}'. {hint}")
        missing = [name for name in FILES.get(word, ()) if not os.path.exists(f"{folder}/configs/{name}.yaml")]
        if missing:
            raise AutoconfError(f"bundle '{to.name}' has no configs/{missing[0]}.yaml. Leave {word} out of --starts.")
    own = read_bundle(folder).config.get("network_name")
    if "mae" in asked and to.config.get("network_name") != own:
        raise AutoconfError(f"mae pre-trains the transformer of {own}. Leave mae out of --starts, or --network out.")
    return [start for start in STARTS if start in asked]


def _sizes(words: str) -> list[int]:
    """`4,8,16` -> [4, 8, 16]"""
    asked = [word.strip() for word in words.split(",")]
    bad = [word for word in asked if not word.isdecimal() or int(word) < 1]
    if bad:
        raise AutoconfError(f"--sizes {words}: '{bad[0]}' is no number of patients. Write them as 4,8,16.")
    return sorted(set(map(int, asked)))


def _check_sizes(job: LabelCurve) -> None:
    """Refuse more labelled patients than there are outside a fold that is held out."""
    there = {fold: len(order(job.data, fold, 1)) for fold in {job.fold(seed) for seed in range(1, job.seeds + 1)}}
    fold = min(there, key=lambda fold: (there[fold], fold))
    if job.sizes[-1] > there[fold]:
        raise AutoconfError(
            f"--sizes {job.sizes[-1]}: without fold {fold} there are {there[fold]} labelled patients. "
            f"Ask for {there[fold]} at most."
        )


def _set(to: Bundle, folder: str, words: tuple[str, ...], choices: dict[str, Choice]) -> dict[str, Any]:
    """Put the words of --set into the plan; returns those that are keys of configs/finetune.yaml instead."""
    path = os.path.join(folder, "configs", "finetune.yaml")
    of_tuning: dict[str, Any] = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as stream:
            content = yaml.safe_load(stream)
        of_tuning = {key: value for key, value in content.items() if "::" not in key and key not in to.config}
    mine: list[str] = []
    theirs: list[str] = []
    for word in words:
        key = word.partition("=")[0]
        if key in MINE or key in to.of_runs:
            raise AutoconfError(f"--set {word}: efficiency sets '{key}' by itself. Leave it out.")
        (theirs if key in of_tuning else mine).append(word)
    choices |= {key: Choice(value, "given with --set") for key, value in parse_set(to, tuple(mine)).items()}
    tuning = Bundle(to.name, to.configs, of_tuning, to.channels, to.rules)  # the same checks for these keys
    return parse_set(tuning, tuple(theirs))


def remember(job: LabelCurve) -> None:
    """Write what this is into its folder; if it was begun with other settings, refuse. Raises AutoconfError.

    Sizes, starts and seeds may grow from one start to the next.
    """
    values = {key: choice.value for key, choice in job.choices.items()} | job.tuning
    values |= {f"epochs of {start}": number for start, number in job.epochs.items()} | {"folds": job.folds}
    listed = json.dumps(job.data.plain(), sort_keys=True).encode()
    mine = {"bundle": job.bundle.name, "network": job.network, "values": values}
    mine |= {"datalist": hashlib.sha256(listed).hexdigest()}
    mine = json.loads(json.dumps(mine, default=str))
    job.home.mkdir(parents=True, exist_ok=True)
    different = difference(write_first(job.home / "settings.json", mine), mine)
    if different:
        raise AutoconfError(f"{job.home} was begun with {different}. Go on with that, or give another --out.")
    write_json(job.home / "datalist.json", job.data.plain())
    write_files(str(job.home), {"plan.yaml": render(job.heading, job.choices)})
