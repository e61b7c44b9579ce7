"""What has to be done: pseudo-masks once, pre-trainings once per seed, and the points of the curve."""

from __future__ import annotations

from dataclasses import dataclass

from autoconf.experiments.efficiency.settings import SCRATCH, LabelCurve
from autoconf.workers.parts import Part

PSEUDO_MASKS = "pseudo-masks"


@dataclass(frozen=True)
class CurveTask:
    """size: labelled patients, 0 for what is no point of the curve. start: empty for the pseudo-masks."""

    seed: int = 0
    start: str = ""
    size: int = 0


def pseudo_masks(curve: LabelCurve) -> Part[CurveTask]:
    """The pseudo-masks of all scans. The labeling functions have no seed and learn nothing: once for all."""
    return Part(PSEUDO_MASKS, curve.setup.home / PSEUDO_MASKS, CurveTask())


def all_parts(curve: LabelCurve) -> list[Part[CurveTask]]:
    """In their order: seed by seed, so that whole curves come early."""
    masks = (pseudo_masks(curve),) if "pseudo" in curve.starts else ()
    parts = list(masks)
    for seed in range(1, curve.seeds + 1):
        folder = curve.setup.home / f"seed-{seed}"
        before: dict[str, tuple[Part[CurveTask], ...]] = {SCRATCH: ()}
        for start in (start for start in curve.starts if start != SCRATCH):
            name, needs = f"seed {seed}, pre-training {start}", masks if start == "pseudo" else ()
            before[start] = (Part(name, folder / f"pretrain-{start}", CurveTask(seed, start), needs),)
            parts += before[start]
        for size in curve.sizes:
            for start in curve.starts:
                name = f"seed {seed}, {size} patients, {start}"
                parts.append(Part(name, folder / f"{size}-{start}", CurveTask(seed, start, size), before[start]))
    return parts


def points(curve: LabelCurve) -> list[Part[CurveTask]]:
    """Those that are points of the curve."""
    return [part for part in all_parts(curve) if part.task.size]
