"""What a search is: bundle, plan, data and space. Checked before anything runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from autoconf.bundle.overrides import read
from autoconf.bundle.settings import read_bundle
from autoconf.data.datalist import NAME
from autoconf.errors import AutoconfError
from autoconf.experiments.setup import Setup, read_setup
from autoconf.experiments.tune.space import Space, own_value, read_space
from autoconf.workers.parts import Part

SAMPLERS = ("tpe", "grid", "random")


@dataclass(frozen=True)
class Search:
    """A search.

    trials: of each stage; a grid has as many as it has points, whatever stands here. seeds: of the confirmation.
    """

    setup: Setup
    space: Space
    sampler: str
    trials: int
    seeds: int
    seed: int
    storage: str

    @property
    def fold(self) -> int:
        return int(self.value("fold"))

    def value(self, key: str) -> Any:
        """What a key is if it is not tuned."""
        plan = {name: choice.value for name, choice in self.setup.plan.items()}
        return own_value(self.setup.bundle, plan, key)

    def default(self) -> dict[str, Any]:
        """The plan's values of all keys of the space."""
        return {param.key: self.value(param.key) for param in self.space.params}

    def sizes(self) -> list[int]:
        """How many trials each stage has."""
        if self.sampler != "grid":
            return [self.trials] * len(self.space.stages)
        return [prod(len(param.values) for param in stage) for stage in self.space.stages]

    def part(self, number: int) -> Part[int]:
        """Trial `number`; they are counted through all stages."""
        return Part(f"trial {number}", self.setup.home / "trials" / f"{number:03d}", number)

    def same(self) -> dict[str, Any]:
        """What else makes two searches the same one. There may be more trials and seeds from one start to the next."""
        stages = [[[param.key, param.described()] for param in stage] for stage in self.space.stages]
        return {"space": [self.space.max_epochs, stages], "sampler": self.sampler, "search seed": self.seed}


def read_search(
    home: str,
    work: str,
    bundle: str,
    network: str,
    plan: str,
    words: tuple[str, ...],
    space: str,
    preset: str,
    stages: bool,
    sampler: str,
    trials: int,
    seeds: int,
    seed: int,
    storage: str,
) -> Search:
    """Read and check what the flags name. Raises AutoconfError."""
    for name, value, least in (("trials", trials, 1), ("seeds", seeds, 0), ("seed", seed, 0)):
        if value < least:
            raise AutoconfError(f"--{name} is {value}. It must be at least {least}.")
    planned = read(plan)[1].get("network_name") if plan else None
    if not network and planned is not None and planned.value != read_bundle(bundle).config.get("network_name"):
        network = str(planned.value)
    setup = read_setup(home, work, bundle, network, plan, words)
    to = setup.bundle
    if preset and space:
        raise AutoconfError("--preset and --space both name a space. Give one of them.")
    name = f"tuning_{preset}" if preset else "tuning"
    path = space or setup.config(name)
    if preset and not os.path.exists(path):
        raise AutoconfError(f"--preset {preset}: bundle '{to.name}' has no configs/{name}.yaml. Leave --preset out.")
    found = read_space(path, to, stages or bool(preset))
    sampler = "grid" if preset else sampler
    check_sampler(sampler, found)
    search = Search(setup, found, sampler, trials, seeds, seed, storage)
    check_fold(search)
    return search


def check_sampler(sampler: str, space: Space) -> None:
    """Refuse an unknown sampler, and a grid over a range."""
    if sampler not in SAMPLERS:
        raise AutoconfError(f"--sampler is '{sampler}'. It must be one of {', '.join(SAMPLERS)}.")
    ranges = [param.key for param in space.params if not param.values]
    if sampler == "grid" and ranges:
        raise AutoconfError(f"a grid needs values, but {', '.join(ranges)} has a range. Write {{values: [...]}} there.")


def check_fold(search: Search) -> None:
    """Raises AutoconfError if no trial could be validated on the search's fold."""
    if search.fold not in search.setup.data.folds or search.setup.data.folds == [search.fold]:
        where = os.path.join(search.setup.work, NAME)
        raise AutoconfError(
            f"{where}: fold {search.fold} needs cases that validate and others that train. Choose --set fold=N."
        )


def changed(values: Mapping[str, Any], search: Search) -> dict[str, Any]:
    """Those of the values that differ from what a key is without tuning."""
    return {key: value for key, value in values.items() if value != search.value(key)}
