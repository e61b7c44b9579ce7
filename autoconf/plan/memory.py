"""How much memory a training step of a bundle's own network takes, counted without allocating any of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autoconf.errors import AutoconfError

FLOAT32 = 4  # bytes
MOMENTS = 2  # of AdamW, for each weight
STEPS = (
    16,
    32,
    64,
)  # voxels; the bundles take multiples of 16, and finer ones would flip when a brain is measured anew


@dataclass(frozen=True)
class Correction:
    """From counted bytes to those of a device."""

    activations: float  # times the activations counted in float32
    source: str  # where that was measured, or that it was not


# The only numbers that no count gives. `python benchmarks/memory.py --device cuda` prints what belongs here. Until
# then a plan for a GPU takes the float32 count, which is above what bfloat16 keeps but leaves out cuDNN's workspace.
CORRECTIONS = {
    "cpu": Correction(1.0, "counted in float32"),  # the bytes kept, exactly: docs/results/memory_cpu.json
    "cuda": Correction(1.0, "counted in float32; bfloat16 and the workspace of cuDNN are not calibrated"),
}


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one training step, in float32."""

    weights: int
    gradients: int
    optimiser: int  # the moments that it keeps for each weight
    per_sample: int  # activations kept for the backward pass, for one patch of the batch

    @property
    def fixed(self) -> int:
        """What does not grow with the batch."""
        return self.weights + self.gradients + self.optimiser

    def total(self, batch: int, device: str = "cpu") -> float:
        return self.fixed + batch * self.per_sample * CORRECTIONS[device].activations


@functools.lru_cache(maxsize=4096)
def count_step(configs: tuple[str, ...], channels: int, patch: tuple[int, ...]) -> StepMemory:
    """Count what a training step keeps of the `network_def` that config files of a bundle define.

    configs: train.yaml and what comes on top of it. patch: voxels (or pixels) per axis. The network runs on the meta
    device, which knows shapes and no values; the hooks of autograd see every tensor kept for the backward pass.
    Tensors that share storage are counted once, weights not at all in `per_sample`. Under bfloat16 less is kept.
    Raises AutoconfError if the network does not take such a patch.
    """
    network = build_network(configs, patch, "meta")
    try:
        kept = kept_bytes(network, (1, channels, *patch), "meta")
    except Exception as error:
        raise AutoconfError(f"the network does not take a patch of {'x'.join(map(str, patch))}: {error}") from error
    weights = FLOAT32 * sum(math.prod(p.shape) for p in network.parameters())
    return StepMemory(weights, weights, MOMENTS * weights, kept)


def kept_bytes(network: Any, shape: Sequence[int], device: str) -> int:
    """Bytes that one forward pass of a training network keeps for the backward pass; shape: of its input.

    Raises ValueError if the output has another size than the input: such a network would be asked for a size that
    it cannot halve evenly.
    """
    import torch

    own = {_storage(p) for p in [*network.parameters(), *network.buffers()]}
    kept: dict[int, Any] = {}  # held, so that no address is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if _storage(tensor) not in own:
            kept[_storage(tensor)] = tensor.untyped_storage()
        return tensor

    image = torch.zeros(*shape, device=device)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network(image)
    first = output[0] if isinstance(output, (list, tuple)) else output
    if tuple(first.shape[-len(shape) + 2 :]) != tuple(shape[2:]):
        raise ValueError(f"its output has {tuple(first.shape)} for an input of {tuple(shape)}")
    return sum(storage.nbytes() for storage in kept.values())


def build_network(configs: Sequence[str], patch: Sequence[int], device: str) -> Any:
    """The `network_def` of a bundle for a patch, in training mode, on a device (meta: without values)."""
    import torch
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(list(configs))
    if "patch_size" in parser:
        parser["patch_size"] = list(patch)
    if device == "meta":
        try:
            with torch.device("meta"):
                return parser.get_parsed_content("network_def").train()
        except RuntimeError:  # SwinUNETR's constructor reads values, which meta tensors have not
            parser.ref_resolver.reset()
    return parser.get_parsed_content("network_def").to(device).train()


@functools.lru_cache(maxsize=64)
def network_step(configs: tuple[str, ...], channels: int, axes: int = 3) -> int:
    """The step of legal patch sides, found by trying: the smallest of STEPS whose threefold the network takes.

    Threefold, because an odd multiple can be halved no further than the step itself.
    Raises AutoconfError, with the network's own words, if it takes none.
    """
    for step in STEPS:
        try:
            count_step(configs, channels, (3 * step,) * axes)
            return step
        except AutoconfError as error:
            said = error
    raise AutoconfError(f"{configs[-1]}: no patch suits this network. {said}")


def _storage(tensor: Any) -> int:
    return tensor.untyped_storage()._cdata
