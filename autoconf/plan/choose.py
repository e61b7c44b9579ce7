"""The decisions about volumes, one after the other: each takes what was chosen before as given."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autoconf.bundle.overrides import Choice
from autoconf.bundle.settings import Bundle
from autoconf.errors import AutoconfError
from autoconf.output import by
from autoconf.plan import rules
from autoconf.plan.machine import Machine, Speed
from autoconf.plan.memory import StepMemory, correction, count_step, network_step
from autoconf.plan.patch import coverage, fit_patch, min_side
from autoconf.plan.rules import Vec3

USABLE = 0.9  # of the memory: the rest is for the library's workspace and fragmentation
TIME_SHARE = 0.8  # of the time: the rest is for starting, metrics, logs and a machine that does other things too
TIMED_SIDE = 64  # voxels of a patch that says about how large one may be: seconds on a CPU, not too small for a GPU
SURELY_MORE = 0.6  # a patch keeps at least so much of the smallest patch's bytes per voxel, for every network here


@dataclass(frozen=True)
class Limit:
    """A time to train in, and how fast the machine is."""

    seconds: float
    speed: Callable[[Vec3], Speed]  # of a patch, measured


@dataclass(frozen=True)
class Cases:
    """What the datalist says of its training list."""

    training: int  # cases outside the fold that validates
    validation: int  # cases inside it
    missing: dict[str, int] = field(default_factory=dict)  # contrast -> cases that lack it, where any do

    @property
    def both(self) -> int:
        return self.training + self.validation


@dataclass(frozen=True)
class Task:
    """What all decisions look at."""

    bundle: Bundle
    machine: Machine
    spacings: np.ndarray  # (cases, 3), mm
    shapes: np.ndarray  # (cases, 3), voxels of the brains' boxes
    kept: float  # median share of a scan's voxels inside that box
    modalities: tuple[str, ...]
    cases: Cases
    limit: Limit | None

    @property
    def budget(self) -> float:
        return self.machine.memory * USABLE

    @property
    def seconds(self) -> float:
        """To train in, once all cases are loaded; of a limited task."""
        return TIME_SHARE * self.limit.seconds - rules.CASE_SECONDS * self.cases.both  # type: ignore[union-attr]

    @property
    def patch_cap(self) -> tuple[float, str]:
        """Most voxels of a patch that trains in good time, and what says so."""
        if self.limit:
            crops = rules.STEPS_WANTED * (1 if self.machine.device == "cpu" else rules.MIN_BATCH)
            smallest = min_side(self.step)
            speed = self.limit.speed((max(TIMED_SIDE, smallest),) * 3)
            voxels = rules.max_voxels(self.seconds, crops, speed.train, self.machine.device)
            return max(voxels, smallest**3), f"does not train {rules.STEPS_WANTED} steps in the time ({speed.measured})"
        if self.machine.device == "cpu":
            return rules.CPU_PATCH_VOXELS, "is more than a CPU trains in good time"
        return math.inf, ""

    def median_brain(self, spacing: np.ndarray) -> Vec3:
        """Median brain in voxels of `spacing` (mm), each side rounded up."""
        return _voxels(np.median(self.shapes * self.spacings, axis=0), spacing)

    @property
    def step(self) -> int:
        """What the sides of a patch are multiples of."""
        return network_step(self.bundle.configs, self.bundle.channels)

    def count(self, patch: Vec3) -> StepMemory:
        return count_step(self.bundle.configs, self.bundle.channels, patch)


def task(
    fingerprint: dict[str, Any], bundle: Bundle, machine: Machine, cases: Cases, limit: Limit | None = None
) -> Task:
    """Gather what the decisions need."""
    rows = fingerprint["cases"]
    shapes = np.array([row["brain_shape"] for row in rows])
    whole = np.array([math.prod(row.get("shape") or row["brain_shape"]) for row in rows])
    kept = float(np.median(shapes.prod(axis=1) / whole))
    spacings = np.array([row["spacing"] for row in rows])
    return Task(bundle, machine, spacings, shapes, kept, tuple(fingerprint.get("modalities", ())), cases, limit)


class Decisions:
    """A choice for each key that a bundle's config has, made one after the other; what is fixed is taken as it is."""

    def __init__(self, config: dict[str, Any], fixed: dict[str, Any]) -> None:
        self.config = config
        self.chosen = {key: Choice(value, "set by hand") for key, value in fixed.items()}

    def decide(self, key: str, decision: Callable[[], Choice]) -> Any:
        """The key's value: chosen before, or now, or the config's own; None if it has none."""
        if key not in self.chosen and key in self.config:
            self.chosen[key] = decision()
        return self.chosen[key].value if key in self.chosen else self.config.get(key)

    def in_order(self) -> dict[str, Choice]:
        """What was chosen, as the config orders its keys."""
        return {key: self.chosen[key] for key in self.config if key in self.chosen}


def choose(of: Task, fixed: dict[str, Any]) -> dict[str, Choice]:
    """Decide each key that the bundle has; what `fixed` holds is taken as it is and the rest follows from it.

    Raises AutoconfError if the data, the network and the machine do not go together.
    """
    plan = Decisions(of.bundle.config, fixed)
    decide = plan.decide
    decide("normalize_nonzero", lambda: _normalisation(of))
    spacing = np.array(decide("target_spacing", lambda: _spacing(of)), dtype=float)
    brain = of.median_brain(spacing)
    patch = tuple(decide("patch_size", lambda: _patch(of, brain)))
    _check_patch(of, patch)
    batch = decide("batch_size", lambda: _batch(of, patch, spacing))
    device = of.machine.device
    decide("accumulation_steps", lambda: rules.accumulation_steps(batch, device))
    decide("overlap", lambda: rules.overlap(brain, patch, device))
    decide("num_workers", lambda: rules.num_workers(device, of.machine.cores))
    decide("network_name", lambda: _network_name(of.bundle))
    if of.cases.missing:
        decide("modality_dropout", lambda: _modality_dropout(of))
    settings = of.bundle.config | {key: choice.value for key, choice in plan.chosen.items()}
    decide("max_epochs", lambda: _max_epochs(of, settings, brain))
    return plan.in_order()


def _network_name(bundle: Bundle) -> Choice:
    folder = os.path.dirname(bundle.configs[0])
    files = " and ".join(os.path.relpath(path, folder) for path in bundle.configs)
    return Choice(bundle.config["network_name"], f"of {files}: patch and batch are counted for it alone")


def _normalisation(of: Task) -> Choice:
    schemes = {modality: rules.normalisation(modality, of.kept) for modality in of.modalities or ("mr",)}
    for modality, (scheme, _) in schemes.items():
        if scheme != "z-score":
            raise AutoconfError(
                f"contrast '{modality}' has units and is not z-scored, but bundle '{of.bundle.name}' z-scores all. "
                "Leave it out."
            )
    inside = all(nonzero for _, nonzero in schemes.values())
    says = f"the brain's box holds {of.kept:.0%} of a scan"
    if inside:
        return Choice(True, f"{says}: 0 means outside the head (nnU-Net: below {rules.NONZERO_BELOW:.0%})")
    return Choice(False, f"{says}: no background to leave out (nnU-Net: {rules.NONZERO_BELOW:.0%} or more)")


def _spacing(of: Task) -> Choice:
    finest = np.array(rules.target_spacing(of.spacings, of.shapes))
    reason = f"median of {len(of.spacings)} cases"
    median = np.median(of.spacings, axis=0)
    axis = rules.anisotropic_axis(median, np.median(of.shapes, axis=0))
    rejected: tuple[str, ...] = ()
    if axis is not None:
        reason += f"; axis {axis} has thick slices: their 10th percentile, not to blur the thin ones (nnU-Net)"
        rejected = (f"{by(_rounded(median))} mm: the plain median",)
    factor = rules.coarsening(of.median_brain(finest), of.patch_cap[0])
    if factor > 1:
        finer = finest * (factor - 1)
        share = of.patch_cap[0] / math.prod(of.median_brain(finer))
        needed = f"{rules.MIN_COVERAGE:.0%} are needed for context (nnU-Net)"
        shown = f"{by(_rounded(finer))} mm: a patch of {of.patch_cap[0]:.0f} voxels would show {share:.0%} of the brain"
        reason = f"{factor} x the {reason}: a finer patch that shows enough {of.patch_cap[1]}"
        rejected = (*rejected, f"{shown}; {needed}")
    return Choice(_rounded(finest * factor), reason, rejected)


def _patch(of: Task, brain: Vec3) -> Choice:
    device, (cap, slow) = of.machine.device, of.patch_cap
    batch = 1 if device == "cpu" else rules.MIN_BATCH  # two crops a step steady the gradient
    smallest = (min_side(of.step),) * 3
    per_voxel = of.count(smallest).per_sample / math.prod(smallest)

    def fits(patch: Vec3) -> bool:
        voxels = math.prod(patch)
        if voxels > cap or SURELY_MORE * batch * per_voxel * voxels > of.budget:
            return False
        return of.count(patch).total(batch, device) <= of.budget

    patch, larger = fit_patch(brain, of.step, fits)
    reason = f"covers {coverage(patch, brain):.0%} of the median brain of {by(brain)} voxels; multiples of {of.step}"
    if larger is None:
        return Choice(list(patch), f"{reason}; as many voxels as the brain has")
    needed = of.count(larger).total(batch, device) / USABLE / 1e9
    why = slow if math.prod(larger) > cap else f"would need {needed:.1f} GB for {batch} crop{'s' * (batch > 1)}"
    return Choice(list(patch), f"{reason}; no better one fits", (f"{by(larger)}: {why}",))


def _check_patch(of: Task, patch: Vec3) -> None:
    """Of a patch that was set by hand."""
    step = of.step
    if any(side % step for side in patch):
        near = [max(step, round(side / step) * step) for side in patch]
        raise AutoconfError(f"'patch_size' is {list(patch)}. This network takes multiples of {step}: give {near}.")


def _batch(of: Task, patch: Vec3, spacing: np.ndarray) -> Choice:
    device, step = of.machine.device, of.count(patch)
    each = step.each(device)
    fitting = int((of.budget - step.total(0, device)) // each)
    if fitting < 1:
        raise AutoconfError(
            f"a patch of {by(patch)} needs {step.total(1, device) / USABLE / 1e9:.1f} GB for one crop. "
            "Give more --memory, or a smaller patch_size."
        )
    if device == "cpu":
        return Choice(1, "a CPU computes crops one after the other: more steps are worth more than larger ones")
    dataset_voxels = float(np.prod(of.shapes * of.spacings / spacing, axis=1).sum())
    choice = rules.batch_size(patch, fitting, dataset_voxels)
    batch: int = choice.value  # type: ignore[assignment]
    parts = f"{step.total(0, device) / 1e9:.1f} GB for weights, gradients and optimiser and {each / 1e9:.1f} GB a crop"
    more = step.total(batch + 1, device) / USABLE / 1e9
    reason = f"{choice.reason}; {parts}, {correction(device, step.network).source}"
    return Choice(batch, reason, (f"{batch + 1}: would need {more:.1f} GB",) if fitting == batch else ())


def _modality_dropout(of: Task) -> Choice:
    own = of.bundle.config["modality_dropout"]
    return rules.modality_dropout(of.cases.missing, of.cases.both, of.bundle.channels, own)


def _max_epochs(of: Task, settings: dict[str, Any], brain: Vec3) -> Choice:
    """settings: of the bundle, with what was chosen so far. brain: the median's voxels, for the time of validation."""
    own, per_epoch = of.bundle.config["max_epochs"], settings["crops_per_case"] * of.cases.training
    if of.limit is None:
        return rules.max_epochs(own, per_epoch, None)
    patch = tuple(settings["patch_size"])
    speed, voxels = of.limit.speed(patch), math.prod(patch)
    crop = voxels * speed.train + rules.crop_seconds(voxels, of.machine.device)
    case = rules.windows(brain, patch, settings["overlap"]) * voxels * speed.forward
    epoch = per_epoch * crop + of.cases.validation * case / settings.get("val_interval", 1)
    fitting = int(of.seconds / epoch)
    if fitting < 1:
        loading = rules.CASE_SECONDS * of.cases.both
        raise AutoconfError(
            f"one epoch of {per_epoch} crops takes {_clock((epoch + loading) / TIME_SHARE)}, more than --time. "
            "Give more --time, or a smaller crops_per_case with --set."
        )
    batches = math.ceil(per_epoch / settings["batch_size"])
    steps = fitting * math.ceil(batches / settings.get("accumulation_steps", 1))
    few = f", of {rules.STEPS_WANTED} wanted," if steps < rules.STEPS_WANTED else ""
    parts = f"{speed.measured}; a crop takes {crop:.2f} s with its augmentation"
    return rules.max_epochs(own, per_epoch, fitting, f"{steps} steps{few} fit: {parts}")


def _rounded(spacing: np.ndarray) -> list[float]:
    return [float(round(s, 4)) for s in spacing]


def _voxels(lengths: np.ndarray, spacing: np.ndarray) -> Vec3:
    return tuple(int(math.ceil(round(mm / s, 3))) for mm, s in zip(lengths, spacing, strict=True))  # type: ignore[return-value]


def _clock(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
