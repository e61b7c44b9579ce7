"""The decisions of a plan that need no network: spacing, normalisation, batch, windows, cache, schedule.

Pure functions: no disk, no device. Axes are RAS+; lengths are mm. Rules of nnU-Net are marked: F. Isensee et al.,
Nat. Methods 18, 203-211 (2021). Where ours differ, docs/decisions/0005 says why. The patch has its own file.
"""

from __future__ import annotations

import math

import numpy as np

from autoconf.bundle.overrides import Choice
from autoconf.errors import AutoconfError

Vec3 = tuple[int, int, int]

ANISOTROPY = 3.0  # an axis so many times coarser, with so many times fewer voxels, is anisotropic (nnU-Net)
NONZERO_BELOW = 0.75  # of the voxels left by cropping: then z-scores are taken inside the brain (nnU-Net)
MIN_COVERAGE = 0.25  # of the median brain: a smaller patch sees too little context (nnU-Net's low-resolution rule)
BATCH_SHARE = 0.05  # of the data set's voxels in one batch, at most (nnU-Net)
MIN_BATCH = 2  # crops that one optimiser step should see on a GPU (nnU-Net's smallest batch)
MAX_BATCH = 8  # larger batches gain nothing on few cases
CPU_PATCH_VOXELS = 64 * 80 * 64  # a UNETR step of this size takes 0.4 s (with AVX512-BF16) to 2 s on two cores
CACHE_SHARE = 0.5  # of the free main memory: the other half is for reading, augmenting and the batches under way
MAX_WORKERS = 2  # cut crops out of memory-mapped cases; what varies them runs on the device
MAX_CROPS = 1000 * 250 * 2  # nnU-Net's whole training: epochs x steps x crops; more cases get fewer epochs instead
STEPS_WANTED = 5000  # the published CPU run had 5,120 (docs/evidence/results/unetr3d_22_cases_cpu.json)
# Measured with the unetr3d bundle on one core of an AMD EPYC, BraTS, crops of 64 x 80 x 64 (2026-11-26):
CASE_SECONDS = 0.5  # to load and prepare a case, once
CUT_SECONDS_PER_VOXEL = 2.5e-9  # to cut a crop out of a preprocessed case
AUGMENT_SECONDS_PER_VOXEL = 8e-8  # to vary it there
MAX_MODALITY_DROPOUT = 0.5  # half of the crops, at least, keep all modalities that their case has
OVERLAP, CPU_OVERLAP = 0.5, 0.25  # of neighbouring windows: nnU-Net's; MONAI's default


def target_spacing(spacings: np.ndarray, shapes: np.ndarray) -> tuple[float, float, float]:
    """Choose one voxel size for the whole data set (nnU-Net).

    spacings: (cases, 3) floats, mm; shapes: (cases, 3) voxels of the boxes around the brains, same axes.
    The median of each axis. An axis that is more than ANISOTROPY times coarser than both others, and has less than
    1/ANISOTROPY of their voxels, takes its 10th percentile, so that thin slices are not blurred away, but never
    gets finer than the others. Raises AutoconfError if a spacing is not a positive number.
    """
    spacings = np.asarray(spacings, dtype=float)
    if spacings.ndim != 2 or not np.all(np.isfinite(spacings)) or np.any(spacings <= 0):
        raise AutoconfError("the fingerprint holds a spacing that is not a positive number. Run inspect again.")
    chosen, voxels = np.median(spacings, axis=0), np.median(np.asarray(shapes, dtype=float), axis=0)
    axis = anisotropic_axis(chosen, voxels)
    if axis is not None:
        finest = np.delete(chosen, axis).max()
        chosen[axis] = max(np.percentile(spacings[:, axis], 10), finest)
    return tuple(round(float(s), 4) for s in chosen)  # type: ignore[return-value]


def anisotropic_axis(spacing: np.ndarray, voxels: np.ndarray) -> int | None:
    """The axis of thick, few slices, or None (nnU-Net): both its spacing and its voxel count must tell.

    Spacing alone would call a stack of 200 slices of 4 mm anisotropic; counts alone a thin slab of 1 mm.
    """
    axis = int(np.argmax(spacing))
    thick = spacing[axis] > ANISOTROPY * np.delete(spacing, axis).max()
    few = voxels[axis] * ANISOTROPY < np.delete(voxels, axis).min()
    return axis if thick and few else None


def normalisation(contrast: str, kept: float) -> tuple[str, bool]:
    """How to scale one contrast, and whether only by its voxels inside the brain (nnU-Net).

    kept: median share of a scan's voxels that cropping to the non-zero box leaves. CT has physical units: "ct" clips
    to the data set's p0.5 and p99.5 and scales with its mean and std, never masked. All else is z-scored case by
    case: inside the brain where cropping removed over a quarter, because then 0 means "outside" and nothing else.
    """
    if contrast.lower() == "ct":
        return "ct", False
    return "z-score", kept < NONZERO_BELOW


def coarsening(brain: Vec3, max_voxels: float) -> int:
    """The smallest whole factor by which to coarsen the voxels so that a patch of `max_voxels` shows enough brain.

    brain: voxels of the median brain at the factor 1. Enough is MIN_COVERAGE of it.
    """
    factor = 1
    while max_voxels * factor**3 < MIN_COVERAGE * math.prod(brain):
        factor += 1
    return factor


def batch_size(patch: tuple[int, ...], fitting: int, dataset_voxels: float, most: int = MAX_BATCH) -> Choice:
    """Crops per step: what fits, under nnU-Net's cap of BATCH_SHARE of the data, from 1 to `most`.

    fitting: the largest batch that fits the budget. dataset_voxels: of all training brains at the target spacing
    (or pixels, of 2D images). The cap never goes below MIN_BATCH (nnU-Net).
    """
    cap = max(MIN_BATCH, int(BATCH_SHARE * dataset_voxels / math.prod(patch)))
    limits = {
        f"{fitting} fit the memory": fitting,
        f"the cap of {BATCH_SHARE:.0%} of the data's voxels allows {cap}": cap,
        f"more than {most} gain nothing on few cases": most,
    }
    chosen = max(1, min(limits.values()))
    decisive = next(text for text, limit in limits.items() if limit <= chosen)
    return Choice(chosen, decisive)


def accumulation_steps(batch: int, device: str) -> Choice:
    """Mini-batches per optimiser step, so that on a GPU each sees at least MIN_BATCH crops."""
    if device == "cpu":
        return Choice(1, "a CPU's time is better spent on more optimiser steps than on larger ones")
    steps = math.ceil(MIN_BATCH / batch)
    if steps == 1:
        return Choice(1, f"a batch of {batch} is enough for one optimiser step")
    return Choice(steps, f"{steps} x {batch} crops: each optimiser step should see at least {MIN_BATCH}")


def windows(brain: Vec3, patch: Vec3, overlap: float) -> int:
    """How many windows MONAI's sliding window slides over a brain; at least one per axis."""
    counts = []
    for length, side in zip(brain, patch, strict=True):
        stride = max(1, int(side * (1 - overlap)))
        counts.append(1 if length <= side else math.ceil((length - side) / stride) + 1)
    return math.prod(counts)


def overlap(brain: Vec3, patch: Vec3, device: str) -> Choice:
    """How much neighbouring windows share: nnU-Net's half, on a CPU a quarter where that saves windows."""
    many, few = windows(brain, patch, OVERLAP), windows(brain, patch, CPU_OVERLAP)
    if device == "cpu" and few < many:
        rejected = (f"{OVERLAP}: {many} windows for the median brain, {many / few:.1f} x the time",)
        return Choice(CPU_OVERLAP, f"{few} windows for the median brain on a CPU", rejected)
    reason = f"nnU-Net's; {many} window{'s' * (many > 1)} for the median brain"
    return Choice(OVERLAP, reason, (f"{CPU_OVERLAP}: {few} windows, with more visible seams",) if few < many else ())


def modality_dropout(missing: dict[str, int], cases: int, channels: int, own: float) -> Choice:
    """Probability p that training sets one contrast of a crop to 0, for data of which some cases lack a contrast.

    missing: contrast -> how many of `cases` lack it. own: the bundle's p, which is never lowered.
    The bundle drops one of `channels` modalities, each as likely: a crop loses a given one with p / channels. A case
    that has a contrast is to be seen without it as often as the data lack it, or its absence would tell which case
    it is: p = channels x the largest share of cases that lack one, rounded up to whole percents, at most
    MAX_MODALITY_DROPOUT.
    """
    contrast = max(missing, key=lambda name: missing[name])
    wanted = math.ceil(100 * channels * missing[contrast] / cases) / 100
    reason = f"{missing[contrast]} of {cases} cases lack {contrast}; 1 of {channels} dropped crops loses it"
    if wanted <= own:
        return Choice(own, f"the bundle's own is enough: {reason}")
    if wanted <= MAX_MODALITY_DROPOUT:
        return Choice(wanted, reason)
    rejected = f"{wanted}: as often as the data lack it, but most crops should keep what their case has"
    return Choice(max(own, MAX_MODALITY_DROPOUT), reason, (rejected,))


def cache_rate(cases: int, case_bytes: float, free: float) -> Choice:
    """Share of the preprocessed cases to keep in memory, so that they take at most CACHE_SHARE of what is free.

    cases: of training and validation. case_bytes: of the median case, prepared. free: bytes of main memory.
    Rounded down to whole percents.
    """
    needed, allowed = cases * case_bytes, max(0.0, CACHE_SHARE * free)
    each = f"{cases} preprocessed cases of {case_bytes / 1e6:.1f} MB"
    if needed <= allowed:
        return Choice(1.0, f"{each} take {needed / 1e9:.1f} of {free / 1e9:.1f} GB free memory")
    rate = math.floor(100 * allowed / needed) / 100
    return Choice(
        rate, f"{each} are more than half of {free / 1e9:.1f} GB", (f"1.0: would need {needed / 1e9:.1f} GB",)
    )


def num_workers(device: str, cores: int) -> Choice:
    """Processes that cut crops beside the training."""
    if device == "cpu":
        return Choice(0, "a CPU's cores are the network's: further processes would take them away")
    chosen = max(0, min(cores - 1, MAX_WORKERS))
    return Choice(chosen, "they only cut crops; augmentation runs on the GPU, a batch at a time")


def crop_seconds(voxels: float, device: str) -> float:
    """Seconds that a crop adds to a step, to cut it and on a CPU to vary it.

    On a GPU this is an upper bound: workers cut the next crops while the network computes.
    """
    return voxels * _crop_seconds_per_voxel(device)


def max_voxels(seconds: float, crops: int, train: float, device: str) -> float:
    """Most voxels of a patch of which `crops` train in so many seconds; train: seconds for a voxel. May be negative."""
    return seconds / crops / (train + _crop_seconds_per_voxel(device))


def _crop_seconds_per_voxel(device: str) -> float:
    return CUT_SECONDS_PER_VOXEL + (AUGMENT_SECONDS_PER_VOXEL if device == "cpu" else 0)


def max_epochs(own: int, crops_per_epoch: int, fitting: int | None, timed: str = "") -> Choice:
    """Passes over the training cases: the bundle's own number, fewer for many cases, and what fits the time.

    own: the bundle's default. crops_per_epoch: crops_per_case x training cases. fitting: epochs that fit the time,
    or None without a limit; then `timed` says how that was found. With a time, longer than `own` is allowed: few
    labels gain from long schedules.
    """
    most = max(1, MAX_CROPS // max(1, crops_per_epoch))
    whole = f"{crops_per_epoch} crops an epoch"
    if fitting is not None:
        chosen = min(fitting, most)
        reason = timed if chosen == fitting else f"{whole}: {MAX_CROPS} in all, nnU-Net's; the time allows {fitting}"
        return Choice(chosen, reason)
    if own <= most:
        return Choice(own, f"the bundle's own; {whole}")
    return Choice(most, f"{whole}: {MAX_CROPS} in all, nnU-Net's", (f"{own}: {own * crops_per_epoch} crops",))
