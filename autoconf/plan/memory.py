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
# voxels; the bundles take multiples of 16, and finer ones would flip when a brain is measured anew
STEPS = (16, 32, 64)


@dataclass(frozen=True)
class Correction:
    """From counted bytes to those of a device."""

    activations: float  # times the activations counted in float32
    workspace: int  # bytes, whatever the patch
    source: str  # where that was measured, or that it was not


COUNTED = Correction(1.0, 0, "counted in float32")  # the bytes kept, exactly: docs/evidence/results/memory_cpu.json
MEASURED = "bfloat16 and cuDNN's workspace as measured on an H200"
# The only numbers that no count gives, network by network: `python benchmarks/memory.py --device cuda` prints what
# belongs here. They follow its three patches of one crop to 2.1 % (docs/evidence/results/memory_cuda.json).
CUDA = {
    "unetr": Correction(0.630, 126_000_000, MEASURED),
    "segresnet": Correction(1.275, 84_000_000, MEASURED),
    "dynunet": Correction(0.549, 87_000_000, MEASURED),
    "swin_unetr": Correction(1.005, 449_000_000, MEASURED),
    "mednext": Correction(0.587, 451_000_000, MEASURED),
}
NOT_MEASURED = Correction(1.275, 451_000_000, "not measured for this network: the most of five others")


def correction(device: str, network: str = "") -> Correction:
    """Of a device ("cpu" or "cuda") for a network by the name of its config file."""
    return CUDA.get(network, NOT_MEASURED) if device == "cuda" else COUNTED


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one training step, in float32."""

    weights: int
    gradients: int
    optimiser: int  # the moments that it keeps for each weight
    per_sample: int  # activations kept for the backward pass, for one patch of the batch
    network: str = ""  # by the name of its config file

    @property
    def fixed(self) -> int:
        """What does not grow with the batch."""
        return self.weights + self.gradients + self.optimiser

    def total(self, batch: int, device: str = "cpu") -> float:
        of = correction(device, self.network)
        return self.fixed + of.workspace + batch * self.per_sample * of.activations

    def each(self, device: str = "cpu") -> float:
        """What one patch more takes."""
        return self.total(1, device) - self.total(0, device)


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
    name = str(_read(configs).get("network_name", ""))  # pseudo2d, which has only one network, does not say
    return StepMemory(weights, weights, MOMENTS * weights, kept, name)


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


def _read(configs: Sequence[str]) -> Any:
    """MONAI's ConfigParser of config files of a bundle."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(list(configs))
    return parser


def build_network(configs: Sequence[str], patch: Sequence[int], device: str) -> Any:
    """The `network_def` of a bundle for a patch, in training mode, on a device (meta: without values)."""
    import torch

    parser = _read(configs)
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
