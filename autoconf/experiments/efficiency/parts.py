"""What has to be done: pseudo-masks once, pre-trainings once per seed, and the points of the curve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoconf.experiments.efficiency.settings import SCRATCH, LabelCurve
from autoconf.workers.places import Claim, Place

MARKS = "pseudo-masks"


@dataclass(frozen=True)
class Part:
    """One part of the work. needs: those that come before it. size: 0 for what is no point of the curve."""

    name: str
    place: Place
    seed: int = 0
    start: str = ""
    size: int = 0
    needs: tuple[Part, ...] = ()

    @property
    def is_done(self) -> bool:
        return self.place.is_done

    def take(self) -> Claim | None:
        return self.place.take()

    @property
    def log(self) -> Path:
        return self.place.folder / "log.txt"

    @property
    def run(self) -> Path:
        """Where its training writes."""
        return self.place.folder / "run"

    @property
    def weights(self) -> Path:
        """Of the last epoch: the best one was chosen on cases that are scored (docs/decisions/0015)."""
        return self.run / "model_final.pt"


def marks(job: LabelCurve) -> Part:
    """The pseudo-masks of all scans. The label functions have no seed and learn nothing: once for all."""
    return Part(MARKS, Place(job.home / MARKS))


def parts(job: LabelCurve) -> list[Part]:
    """All parts in their order: seed by seed, so that whole curves come early."""
    first = [marks(job)] if "pseudo" in job.starts else []
    found = list(first)
    for seed in range(1, job.seeds + 1):
        folder = job.home / f"seed-{seed}"
        before: dict[str, tuple[Part, ...]] = {SCRATCH: ()}
        for start in (start for start in job.starts if start != SCRATCH):
            needs = tuple(first) if start == "pseudo" else ()
            part = Part(
                f"seed {seed}, pre-training {start}", Place(folder / f"pretrain-{start}"), seed, start, 0, needs
            )
            before[start] = (part,)
            found.append(part)
        for size in job.sizes:
            for start in job.starts:
                name, place = f"seed {seed}, {size} patients, {start}", Place(folder / f"{size}-{start}")
                found.append(Part(name, place, seed, start, size, before[start]))
    return found


def points(job: LabelCurve) -> list[Part]:
    """Those that are points of the curve."""
    return [part for part in parts(job) if part.size]
