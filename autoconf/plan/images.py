"""The decisions about 2D images: their size in the network, and the batch."""

from __future__ import annotations

import math
from typing import Any

from autoconf.bundle.overrides import Choice
from autoconf.bundle.settings import Bundle
from autoconf.errors import AutoconfError
from autoconf.plan import rules
from autoconf.plan.choose import USABLE, Decisions
from autoconf.plan.machine import Machine
from autoconf.plan.memory import StepMemory, count_step, network_step

MAX_BATCH_2D = 32  # larger batches leave too few optimiser steps of some thousand images
CPU_IMAGE_SIZE = 224  # the study's; a larger image takes a CPU longer by the square
CASE_BYTES = 8  # of each pixel of a preprocessed case: image and mask, float32


def choose_2d(
    fingerprint: dict[str, Any], bundle: Bundle, machine: Machine, training: int, fixed: dict[str, Any]
) -> dict[str, Choice]:
    """Decide each key that the bundle has, as `choose` does for volumes. training: images, with validation."""
    plan = Decisions(bundle.config, fixed)
    decide = plan.decide
    size = decide(
        "image_size",
        lambda: image_size(
            fingerprint["median_size"], network_step(bundle.configs, bundle.channels, axes=2), machine.device
        ),
    )
    batch = decide("batch_size", lambda: _batch(bundle, size, machine, fingerprint["n_images"]))
    free = machine.ram - (_count(bundle, size).total(batch) if machine.device == "cpu" else 0)
    decide("cache_rate", lambda: rules.cache_rate(training, CASE_BYTES * size**2, free))
    decide("num_workers", lambda: Choice(0, "reading from memory is faster than sending between processes"))
    return plan.in_order()


def image_size(median: list[int], step: int, device: str) -> Choice:
    """Side of the square that images are fitted into: the median's longer side, to the nearest multiple of `step`.

    median: height and width in pixels. Never below two steps; on a CPU at most CPU_IMAGE_SIZE.
    """
    longest = max(median)
    size = max(2 * step, step * round(longest / step))
    reason = f"the median image has {median[0]}x{median[1]} pixels; multiples of {step}"
    if device == "cpu" and size > CPU_IMAGE_SIZE:
        slower = f"{size}: {(size / CPU_IMAGE_SIZE) ** 2:.1f} x the time on a CPU"
        return Choice(CPU_IMAGE_SIZE, f"the study's, as large as a CPU trains in good time; {reason}", (slower,))
    return Choice(size, reason)


def _batch(bundle: Bundle, size: int, machine: Machine, images: int) -> Choice:
    step = _count(bundle, size)
    fitting = int((machine.memory * USABLE - step.total(0, machine.device)) // step.each(machine.device))
    if fitting < 1:
        raise AutoconfError(
            f"one image of {size}x{size} pixels does not fit. Give more --memory, or a smaller image_size."
        )
    if machine.device == "cpu":
        batch = min(int(bundle.config["batch_size"]), fitting)
        return Choice(batch, "the bundle's, as its learning rate is; a CPU gains nothing from larger ones")
    return rules.batch_size((size, size), fitting, float(images) * math.prod((size, size)), MAX_BATCH_2D)


def _count(bundle: Bundle, size: int) -> StepMemory:
    return count_step(bundle.configs, bundle.channels, (size, size))
