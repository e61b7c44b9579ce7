"""What a search is: the data without their test list, the bundle, the plan, the space. Checked, and kept in a file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autoconf.bundle.overrides import Choice, read
from autoconf.bundle.settings import Bundle, check_plan, parse_set, read_bundle
from autoconf.data.datalist import Datalist
from autoconf.errors import AutoconfError
from autoconf.experiments.tune.space import Space, own_value, read_space
from autoconf.workers.places import Place, write_json
from autoconf.workers.sealed import prepared

SAMPLERS = ("tpe", "grid", "random")
HOW_FAR = ("trials", "seeds")  # what may change between two starts of a search
STUDY_FILE, SEALED = "study.json", "datalist.json"


@dataclass(frozen=True)
class Search:
    """A search, as all its workers know it.

    folder: shared by the workers. datalist: a copy without the test list. plan: key -> Choice, --set included.
    trials: of each stage; a grid has as many as it has points, whatever stands here. seeds: of the confirmation.
    """

    folder: Path
    work: str
    bundle: Bundle
    plan: dict[str, Choice]
    heading: list[str]
    space: Space
    sampler: str
    trials: int
    seeds: int
    seed: int
    storage: str
    data: Datalist = field(repr=False)  # without its testing list

    @property
    def datalist(self) -> Path:
        return self.folder / SEALED

    @property
    def fold(self) -> int:
        return int(self.value("fold"))

    def value(self, key: str) -> Any:
        """What a key is if it is not tuned."""
        return own_value(self.bundle, {name: choice.value for name, choice in self.plan.items()}, key)

    def default(self) -> dict[str, Any]:
        """The plan's values of all keys of the space."""
        return {param.key: self.value(param.key) for param in self.space.params}

    def sizes(self) -> list[int]:
        """How many trials each stage has."""
        if self.sampler != "grid":
            return [self.trials] * len(self.space.stages)
        sizes = []
        for stage in self.space.stages:
            size = 1
            for param in stage:
                size *= len(param.values)
            sizes.append(size)
        return sizes

    def place(self, number: int) -> Place:
        """Where trial `number` lies; they are counted through all stages."""
        return Place(self.folder / "trials" / f"{number:03d}")

    def configs(self, *more: Path) -> list[str | Path]:
        """The config files of a run: the bundle's, the plan's values, and more on top of them."""
        return [*map(os.path.abspath, self.bundle.configs), self.folder / "plan.yaml", *more]

    def run_values(self, out: Path) -> dict[str, object]:
        """What every run is told on its command line. out: its output folder."""
        cache = prepared(self.work, self.bundle, self.plan, self.folder)
        return {"datalist": self.datalist, "output_dir": out} | cache


def read_search(
    bundle: str, network: str, plan: str, words: tuple[str, ...], space: str, preset: str, stages: bool
) -> tuple[Bundle, dict[str, Choice], list[str], Space]:
    """Read and check what the flags name. Raises AutoconfError."""
    heading, choices = read(plan) if plan else ([], {})
    named = choices.get("network_name")
    own = read_bundle(bundle)
    if not network and named is not None and named.value != own.config.get("network_name"):
        network = str(named.value)
    to = read_bundle(bundle, network) if network else own
    check_plan(to, choices)
    choices |= {key: Choice(value, "given with --set") for key, value in parse_set(to, words).items()}
    if preset and space:
        raise AutoconfError("--preset and --space both name a space. Give one of them.")
    name = f"tuning_{preset}.yaml" if preset else "tuning.yaml"
    path = space or os.path.join(bundle, "configs", name)
    if preset and not os.path.exists(path):
        raise AutoconfError(f"--preset {preset}: bundle '{to.name}' has no configs/{name}. Leave --preset out.")
    return to, choices, heading, read_space(path, to, stages or bool(preset))


def check_sampler(sampler: str, space: Space) -> None:
    """Refuse an unknown sampler, and a grid over a range."""
    if sampler not in SAMPLERS:
        raise AutoconfError(f"--sampler is '{sampler}'. It must be one of {', '.join(SAMPLERS)}.")
    ranges = [param.key for param in space.params if not param.values]
    if sampler == "grid" and ranges:
        raise AutoconfError(f"a grid needs values, but {', '.join(ranges)} has a range. Write {{values: [...]}} there.")


def check_fold(search: Search) -> None:
    """Raises AutoconfError if no trial could be validated on the search's fold."""
    if search.fold not in search.data.folds or search.data.folds == [search.fold]:
        where = os.path.join(search.work, SEALED)
        raise AutoconfError(
            f"{where}: fold {search.fold} needs cases that validate and others that train. Choose --set fold=N."
        )


def begin(search: Search, join: bool) -> Search:
    """Write what the search is into its folder, or make sure that the one there is the same.

    Returns it; whoever joins goes as far as was asked for where it was begun. Raises AutoconfError if it is another,
    which must not be mixed with this one.
    """
    says = _says(search)
    path = search.folder / STUDY_FILE
    if not path.exists():
        if join:
            raise AutoconfError(f"{search.folder}: no search has begun there. Start one first, without --join.")
        write_json(search.datalist, search.data.plain())
        plan = "".join(f"{key}: {json.dumps(choice.value)}\n" for key, choice in search.plan.items())
        (search.folder / "plan.yaml").write_text(plan or "{}\n", encoding="utf-8")
        write_json(path, says)
        return search
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        how_far = {name: there[name] for name in HOW_FAR}
    except (ValueError, KeyError):
        raise AutoconfError(f"{path}: is damaged. Give --folder another one, or delete {search.folder}.") from None
    differ = [name for name in says if name not in HOW_FAR and there.get(name) != says[name]]
    if differ:
        raise AutoconfError(
            f"{search.folder} holds another search: its {' and '.join(differ)} differ from what is given now. "
            "Give --folder another one."
        )
    if join:
        return replace(search, **how_far)
    if there != says:  # more trials than before, say: the search goes on
        write_json(path, says)
    return search


def _says(search: Search) -> dict[str, Any]:
    """What makes two searches the same one, in words that a message can name. Paths are left out: they may differ."""
    stages = [[[param.key, param.described()] for param in stage] for stage in search.space.stages]
    data = json.dumps([search.data.plain()["training"], search.fold], sort_keys=True)
    return {
        "bundle": [search.bundle.name, *map(os.path.basename, search.bundle.configs)],
        "plan": {key: choice.value for key, choice in search.plan.items()},
        "space": [search.space.max_epochs, stages],
        "sampler": search.sampler,
        "seed": search.seed,
        "data": hashlib.sha256(data.encode()).hexdigest()[:16],
        "trials": search.trials,
        "seeds": search.seeds,
    }


def changed(values: Mapping[str, Any], search: Search) -> dict[str, Any]:
    """Those of the values that differ from what a key is without tuning."""
    return {key: value for key, value in values.items() if value != search.value(key)}
