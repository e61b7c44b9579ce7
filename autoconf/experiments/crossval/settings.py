"""What is asked for: read and checked before anything runs, and remembered in the output folder."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from autoconf.arguments import check_device, check_own_folder
from autoconf.bundle.overrides import Choice, read, render
from autoconf.bundle.settings import Bundle, check_plan, parse_set, read_bundle
from autoconf.data.datalist import Datalist
from autoconf.errors import AutoconfError
from autoconf.experiments.folds import chosen_folds, difference
from autoconf.output import write_files
from autoconf.workers.places import Place, write_first, write_json
from autoconf.workers.sealed import MASKS, read_sealed


@dataclass(frozen=True)
class CrossValidation:
    """A cross-validation. home: where all is kept. data: the datalist, without its testing list."""

    home: Path
    work: str
    folder: str  # of the bundle
    bundle: Bundle
    network: str
    heading: list[str]
    choices: dict[str, Choice]
    data: Datalist
    folds: list[int]
    device: str
    probabilities: bool

    @property
    def datalist(self) -> Path:
        return self.home / "datalist.json"

    def place(self, fold: int) -> Place:
        """Where one fold is kept."""
        return Place(self.home / f"fold-{fold}")

    def is_done(self, fold: int) -> bool:
        """Whether it was trained and segmented, with the probabilities if they are asked for."""
        place = self.place(fold)
        return place.is_done and (not self.probabilities or bool(place.result().get("probabilities")))

    def log(self, fold: int) -> Path:
        return self.place(fold).folder / "log.txt"

    def checkpoint(self, fold: int) -> Path:
        """The weights of the last epoch: the best epoch was chosen on the very cases that are scored here."""
        return self.place(fold).folder / "run" / "model_final.pt"

    def masks(self, fold: int) -> Path:
        """Where the evaluation writes the masks; a bundle for images keeps them apart from its tables."""
        masks = self.place(fold).folder / "masks"
        return masks if self.bundle.is_3d else masks / "masks"

    def mask_name(self, case: str) -> str:
        return f"{case}.nii.gz" if self.bundle.is_3d else f"{case}.png"

    def written(self, case: str) -> list[str]:
        """What the evaluation writes of a case: its mask, and its probabilities if they are asked for."""
        return [self.mask_name(case), *([f"{case}_probability.nii.gz"] if self.probabilities else [])]

    def cases(self, fold: int) -> list[str]:
        return [case.name for case in self.data.validating(fold)]

    def configs(self, *names: str) -> list[str]:
        """Config files of a run: those of the bundle's `configs` named here, its network's, and the plan."""
        first, *more = (os.path.join(self.folder, "configs", f"{name}.yaml") for name in names)
        return [first, *self.bundle.configs[1:], *more, str(self.home / "plan.yaml")]


def read_job(
    work: str,
    bundle: str,
    plan: str,
    out: str,
    network: str,
    folds: str,
    device: str,
    probabilities: bool,
    words: tuple[str, ...],
) -> CrossValidation:
    """Read and check all that the flags name; writes nothing. Raises AutoconfError."""
    to = read_bundle(bundle, network)
    heading, choices = read(plan)
    check_plan(to, choices)
    for word in words:
        if word.partition("=")[0] in to.of_runs:
            raise AutoconfError(f"--set {word}: crossval sets '{word.partition('=')[0]}' by itself. Leave it out.")
    choices |= {key: Choice(value, "given with --set") for key, value in parse_set(to, words).items()}
    if probabilities and not to.is_3d:
        raise AutoconfError(f"bundle '{to.name}' writes no probabilities. Leave --probabilities out.")
    check_device(device)
    data = read_sealed(work, to, MASKS in choices)
    check_own_folder(out, work, data.root)
    home = Path(os.path.abspath(out))
    asked = chosen_folds(folds, data.folds, work)
    return CrossValidation(
        home, work, os.path.abspath(bundle), to, network, heading, choices, data, asked, device, probabilities
    )


def remember(job: CrossValidation) -> None:
    """Write what this is into its folder; if it was begun with other settings, refuse. Raises AutoconfError."""
    values = {key: choice.value for key, choice in job.choices.items()}
    listed = json.dumps(job.data.plain(), sort_keys=True).encode()
    mine = {"bundle": job.bundle.name, "network": job.network, "values": values}
    mine |= {"datalist": hashlib.sha256(listed).hexdigest()}
    mine = json.loads(json.dumps(mine, default=str))
    job.home.mkdir(parents=True, exist_ok=True)
    path = job.home / "settings.json"
    theirs = write_first(path, mine)
    different = difference(theirs, mine)
    if different:
        raise AutoconfError(f"{job.home} was begun with {different}. Go on with that, or give another --out.")
    write_json(job.datalist, job.data.plain())
    write_files(str(job.home), {"plan.yaml": render(job.heading, job.choices)})
