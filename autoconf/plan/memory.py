"""How much memory a training step of a bundle's own network takes, counted without allocating any of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

FLOAT32 = 4  # bytes
PER_PARAMETER = 4 * FLOAT32  # weight, gradient, and AdamW's two moments


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one training step."""

    fixed: int  # weights, gradients, optimiser
    per_sample: int  # activations kept for the backward pass, for one patch of the batch

    def total(self, batch: int) -> int:
        return self.fixed + batch * self.per_sample


def count_step(train_config: str, channels: int, patch: tuple[int, int, int]) -> StepMemory:
    """Build `network_def` of a bundle's train.yaml on the meta device and count what a forward pass keeps.

    patch: voxels. Counted in float32, so it is an upper bound under bfloat16; the workspace of the convolution
    library is not in it. Tensors that share storage are counted once, weights not at all in `per_sample`.
    """
    import torch
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(train_config)
    parser["patch_size"] = list(patch)
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def").train()
    own = {_storage(p) for p in [*network.parameters(), *network.buffers()]}
    kept: dict[int, object] = {}  # storage -> storage, held so that no address is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if _storage(tensor) not in own:
            kept[_storage(tensor)] = tensor.untyped_storage()
        return tensor

    image = torch.empty(1, channels, *patch, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(image)
    parameters = sum(math.prod(p.shape) for p in network.parameters())
    return StepMemory(parameters * PER_PARAMETER, sum(storage.nbytes() for storage in kept.values()))


def _storage(tensor) -> int:
    return tensor.untyped_storage()._cdata
