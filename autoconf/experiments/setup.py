"""What every experiment starts from: bundle, plan and datalist, checked before anything runs, and remembered."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoconf.bundle.overrides import Choice, read, render
from autoconf.bundle.settings import Bundle, check_plan, parse_set, read_bundle
from autoconf.data.datalist import Datalist
from autoconf.errors import AutoconfError
from autoconf.experiments.sealed import MASKS, read_sealed
from autoconf.output import write_files, write_json

CACHE = "cache_dir"  # a key of the bundle for volumes


@dataclass(frozen=True)
class Setup:
    """home: where all is kept. work: of the datalist. folder: of the bundle. heading: the plan's first lines.

    plan: key -> Choice, `--set` included. data: the datalist without its testing list.
    """

    home: Path
    work: str
    folder: str
    bundle: Bundle
    network: str
    heading: list[str]
    plan: dict[str, Choice]
    data: Datalist = field(repr=False)

    @property
    def datalist(self) -> Path:
        return self.home / "datalist.json"

    def value(self, key: str) -> Any:
        """The plan's value of a key, else the bundle's."""
        return self.plan[key].value if key in self.plan else self.bundle.config[key]

    def config(self, name: str) -> str:
        return os.path.join(self.folder, "configs", f"{name}.yaml")

    def configs(self, name: str, *more: str) -> list[str | Path]:
        """Config files of a run: the bundle's `name`, its network's, more of the bundle's, and the plan."""
        return [self.config(name), *self.bundle.configs[1:], *map(self.config, more), self.home / "plan.yaml"]

    def cache(self) -> dict[str, object]:
        """Where preprocessed cases lie, as a training run is told: the same for all parts, in `work` if it can be."""
        if CACHE not in self.bundle.config:
            return {}
        beside = self.work if os.access(self.work, os.W_OK) else self.home
        return {CACHE: os.path.abspath(str(self.value(CACHE) or "") or os.path.join(beside, "preprocessed"))}


def read_setup(
    home: str, work: str, bundle: str, network: str, plan: str, words: Iterable[str], reserved: Iterable[str] = ()
) -> Setup:
    """Read and check what the flags name; writes nothing. Raises AutoconfError.

    plan: empty: none. words: of --set. reserved: keys that the experiment sets by itself.
    """
    heading, choices = read(plan) if plan else ([], {})
    to = read_bundle(bundle, network)
    check_plan(to, choices)
    for word in words:
        if word.partition("=")[0] in reserved:
            raise AutoconfError(f"--set {word}: '{word.partition('=')[0]}' is set by this command. Leave it out.")
    choices |= {key: Choice(value, "given with --set") for key, value in parse_set(to, tuple(words)).items()}
    data = read_sealed(work, to, MASKS in choices)
    folder = os.path.abspath(bundle)
    return Setup(Path(os.path.abspath(home)), work, folder, to, network, heading, choices, data)


def remember(setup: Setup, more: Mapping[str, Any]) -> None:
    """Write the setup into its folder; if another one is there, refuse. Raises AutoconfError.

    more: what else makes two experiments the same one, by name.
    """
    values = {key: choice.value for key, choice in setup.plan.items()} | dict(more)
    listed = json.dumps(setup.data.plain(), sort_keys=True).encode()
    mine = {"bundle": setup.bundle.name, "network": setup.network, "values": values}
    mine |= {"datalist": hashlib.sha256(listed).hexdigest()}
    mine = json.loads(json.dumps(mine, default=str))
    path = setup.home / "settings.json"
    if path.exists():
        try:
            theirs = json.loads(path.read_text(encoding="utf-8"))
            difference = _difference(theirs, mine)
        except (ValueError, KeyError, TypeError):
            raise AutoconfError(
                f"{path} is damaged. Give another folder, or delete {setup.home} to begin anew."
            ) from None
        if difference:
            raise AutoconfError(f"{setup.home} was begun with {difference}. Go on with that, or give another folder.")
    else:
        write_json(path, mine)
    write_json(setup.datalist, setup.data.plain())
    text = render(setup.heading, setup.plan) if setup.plan else "{}\n"
    write_files(str(setup.home), {"plan.yaml": text})


def _difference(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """What one of the two has that the other has not, in words; empty if they are the same."""
    if theirs["bundle"] != mine["bundle"]:
        return f"bundle '{theirs['bundle']}', not '{mine['bundle']}'"
    if theirs["network"] != mine["network"]:
        return f"--network '{theirs['network']}', not '{mine['network']}'"
    for key in [*theirs["values"], *mine["values"]]:
        then, now = (one["values"].get(key, "the bundle's own") for one in (theirs, mine))
        if then != now:
            return f"{key} {then}, not {now}"
    return "another datalist" if theirs["datalist"] != mine["datalist"] else ""


def chosen_folds(words: str, known: list[int], work: str) -> list[int]:
    """`0,2` -> [0, 2]; all of them for an empty text. Raises AutoconfError."""
    listed = ", ".join(map(str, known)) or "none"
    if len(known) < 2:
        raise AutoconfError(f"{work} has too few folds to leave one out (it has: {listed}). Inspect more patients.")
    if not words:
        return known
    asked = []
    for word in words.split(","):
        if not word.strip().isdecimal() or int(word) not in known:
            raise AutoconfError(f"--folds {words}: no fold '{word.strip()}'. There are: {listed}.")
        asked.append(int(word))
    return sorted(set(asked))
