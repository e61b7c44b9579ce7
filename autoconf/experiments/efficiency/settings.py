"""What is asked for: read and checked before anything runs."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from autoconf.arguments import check_own_folder
from autoconf.bundle.settings import Bundle, parse_set, read_bundle
from autoconf.errors import AutoconfError
from autoconf.experiments.efficiency.draw import order
from autoconf.experiments.setup import Setup, chosen_folds, read_setup

SCRATCH = "scratch"
STARTS = (SCRATCH, "pseudo", "mae")
FILES = {
    "pseudo": ("pseudo_label", "pretrain_pseudo", "finetune"),
    "mae": ("pretrain_mae", "finetune"),
}  # that it needs
MINE = ("max_epochs", "val_interval", "seed", "pretrained")  # set by the command itself, beside those of all runs


@dataclass(frozen=True)
class LabelCurve:
    """A label-efficiency curve.

    tuning: keys of configs/finetune.yaml. epochs: start -> epochs of its pre-training; scratch: of every training run
    that is a point of the curve.
    """

    setup: Setup
    tuning: dict[str, Any]
    sizes: list[int]
    starts: list[str]
    seeds: int
    folds: list[int]
    epochs: dict[str, int]

    def fold(self, seed: int) -> int:
        """The fold that a seed is scored on: they take turns."""
        return self.folds[(seed - 1) % len(self.folds)]

    def crops(self, fold: int) -> int:
        """Crops of an epoch of every point: as many as if all cases outside the fold had labels."""
        return int(self.setup.value("crops_per_case")) * len(self.setup.data.learning(fold))

    def steps(self, fold: int) -> int:
        """Batches of every point, however few labels it has."""
        return self.epochs[SCRATCH] * math.ceil(self.crops(fold) / int(self.setup.value("batch_size")))

    def same(self) -> dict[str, Any]:
        """What else makes two curves the same one. Sizes, starts and seeds may grow from one start to the next."""
        return self.tuning | {f"epochs of {start}": n for start, n in self.epochs.items()} | {"folds": self.folds}


def read_curve(
    work: str,
    bundle: str,
    plan: str,
    out: str,
    network: str,
    sizes: str,
    starts: str,
    seeds: int,
    folds: str,
    epochs: Mapping[str, int],
    words: tuple[str, ...],
) -> LabelCurve:
    """Read and check all that the flags name; writes nothing. Raises AutoconfError.

    epochs: start -> number of epochs, 0 for the usual one.
    """
    to = read_bundle(bundle, network)
    if not to.is_3d:
        raise AutoconfError(f"bundle '{to.name}' is one for images, without true masks. Give --bundle bundles/unetr3d.")
    tuning, mine = _split(to, bundle, words)
    home = out or os.path.join(work, "efficiency")
    setup = read_setup(home, work, bundle, network, plan, mine, reserved=(*MINE, *to.of_runs))
    named = _starts(starts, bundle, to)
    if "pseudo" in named and str(setup.value("regions")) != "wt":
        raise AutoconfError("pseudo-masks hold the whole tumour alone. Leave pseudo out of --starts, or regions at wt.")
    if seeds < 1:
        raise AutoconfError(f"--seeds is {seeds}. It must be at least 1.")
    for start, number in epochs.items():
        if number < 0:
            name = "epochs" if start == SCRATCH else f"{start}-epochs"
            raise AutoconfError(f"--{name} is {number}. It must be at least 1, or 0 for the usual number.")
    check_own_folder(home, work, setup.data.root)
    usual = epochs[SCRATCH] or int(setup.value("max_epochs"))
    lengths = {SCRATCH: usual} | {start: epochs[start] or usual for start in ("mae", "pseudo")}
    held_out = chosen_folds(folds, setup.data.folds, work)
    curve = LabelCurve(setup, tuning, _sizes(sizes), named, seeds, held_out, lengths)
    _check_sizes(curve)
    return curve


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


def _check_sizes(curve: LabelCurve) -> None:
    """Refuse more labelled patients than there are outside a fold that is held out."""
    there = {
        fold: len(order(curve.setup.data, fold, 1)) for fold in {curve.fold(seed) for seed in range(1, curve.seeds + 1)}
    }
    fold = min(there, key=lambda fold: (there[fold], fold))
    if curve.sizes[-1] > there[fold]:
        raise AutoconfError(
            f"--sizes {curve.sizes[-1]}: without fold {fold} there are {there[fold]} labelled patients. "
            f"Ask for {there[fold]} at most."
        )


def _split(to: Bundle, folder: str, words: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    """The words of --set: values of keys that configs/finetune.yaml alone has, and the words that are for the plan."""
    path = os.path.join(folder, "configs", "finetune.yaml")
    keys: dict[str, Any] = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as stream:
            content = yaml.safe_load(stream)
        keys = {key: value for key, value in content.items() if "::" not in key and key not in to.config}
    of_tuning = [word for word in words if word.partition("=")[0] in keys and word.partition("=")[0] not in MINE]
    tuning = replace(to, config=keys)  # the same checks for these keys
    return parse_set(tuning, tuple(of_tuning)), [word for word in words if word not in of_tuning]
