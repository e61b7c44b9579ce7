"""What is asked for, checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoconf.arguments import check_own_folder
from autoconf.bundle.settings import read_bundle
from autoconf.errors import AutoconfError
from autoconf.experiments.setup import Setup, chosen_folds, read_setup
from autoconf.workers.parts import Part


@dataclass(frozen=True)
class CrossValidation:
    """A cross-validation: which folds, and whether the probability of every voxel is kept."""

    setup: Setup
    folds: list[int]
    probabilities: bool

    def part(self, fold: int) -> Part[int]:
        return Part(f"fold {fold}", self.setup.home / f"fold-{fold}", fold)

    def masks(self, fold: int) -> Path:
        """Where the evaluation writes the masks; a bundle for images keeps them apart from its tables."""
        masks = self.part(fold).folder / "masks"
        return masks if self.setup.bundle.is_3d else masks / "masks"

    def written(self, case: str) -> list[str]:
        """What the evaluation writes of a case: its mask, and its probabilities if they are asked for."""
        mask = f"{case}.nii.gz" if self.setup.bundle.is_3d else f"{case}.png"
        return [mask, *([f"{case}_probability.nii.gz"] if self.probabilities else [])]

    def cases(self, fold: int) -> list[str]:
        return [case.name for case in self.setup.data.validating(fold)]


def read_job(
    work: str, bundle: str, plan: str, out: str, network: str, folds: str, probabilities: bool, words: tuple[str, ...]
) -> CrossValidation:
    """Read and check all that the flags name; writes nothing. Raises AutoconfError."""
    to = read_bundle(bundle, network)
    if probabilities and not to.is_3d:
        raise AutoconfError(f"bundle '{to.name}' writes no probabilities. Leave --probabilities out.")
    setup = read_setup(out, work, bundle, network, plan, words, reserved=to.of_runs)
    check_own_folder(out, work, setup.data.root)
    return CrossValidation(setup, chosen_folds(folds, setup.data.folds, work), probabilities)
