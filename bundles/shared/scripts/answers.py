"""What a network answers, the gradients of one step, and how far two of either are apart."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

FACTOR = 4.0  # how many times farther off than rounding explains an answer may be
UNIT = 2.0**-8  # the largest relative error of a number rounded to bfloat16, which keeps 8 binary digits
MOST = 0.25  # relative; an answer farther off is of no use, whatever explains it
Tensors = list[torch.Tensor]


def bound_of(explained: float, most: float = MOST) -> float:
    """How far off an answer may be, of how far off rounding alone puts it."""
    return min(most, FACTOR * max(UNIT, explained))


def distance(found: Tensors, wanted: Tensors) -> float:
    """The largest |found - wanted| / |wanted| of the parts; infinite if a number is not finite or a part is missing."""
    if len(found) != len(wanted):
        return math.inf
    worst = 0.0
    for one, right in zip(found, wanted, strict=True):
        apart, size = (float(torch.linalg.vector_norm(part.double())) for part in (one.double() - right, right))
        if apart > 0:
            worst = max(worst, apart / size) if size > 0 and math.isfinite(apart) else math.inf
        elif math.isnan(apart):
            worst = math.inf
    return worst


@contextlib.contextmanager
def same_draws(device: torch.device) -> Iterator[None]:
    """Each time the same random numbers inside, for networks that draw some; outside as if none had been drawn."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(0)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(0)
        yield


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """float32 means float32 on a GPU too, not TF32."""
    if device.type != "cuda":
        yield
        return
    cudnn, product = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, product.allow_tf32
    cudnn.allow_tf32 = product.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32, product.allow_tf32 = before


def answer(network: Callable, image: torch.Tensor, autocast: bool = False) -> Tensors:
    """Every tensor of floats that it answers with, in the order in which it gives them. autocast: in bfloat16."""
    image = image.as_subclass(torch.Tensor)
    kind = image.device.type
    with same_draws(image.device), torch.autocast(kind, torch.bfloat16, enabled=autocast):
        if autocast:
            return tensors_of(network(image))
        with full_precision(image.device):
            return tensors_of(network(image))


def tensors_of(found: Any) -> Tensors:
    if isinstance(found, torch.Tensor):
        return [found] if found.is_floating_point() else []
    if isinstance(found, dict):
        found = list(found.values())
    return [tensor for part in found for tensor in tensors_of(part)] if isinstance(found, (list, tuple)) else []


def gradients(
    network: nn.Module, image: torch.Tensor, target: torch.Tensor, loss_function: Callable, autocast: bool = False
) -> dict[str, torch.Tensor]:
    """Of each layer's own weights that learn, as one vector of float32; layers that have no part in it are left out."""
    image, target = image.as_subclass(torch.Tensor), target.as_subclass(torch.Tensor)
    weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    with torch.enable_grad(), same_draws(image.device):
        with torch.autocast(image.device.type, torch.bfloat16, enabled=autocast):
            found = network(image)
        loss = loss_function(floats(found), target).mean()
        with contextlib.nullcontext() if autocast else full_precision(image.device):
            grads = torch.autograd.grad(loss, [*weights.values()], allow_unused=True)
    layers: dict[str, Tensors] = {}
    for name, grad in zip(weights, grads, strict=True):
        if grad is not None:
            layers.setdefault(name.rpartition(".")[0], []).append(grad.float().flatten())
    return {name: torch.cat(parts) for name, parts in layers.items()}


def floats(output: Any) -> Any:
    """As float32, part by part."""
    if isinstance(output, (tuple, list)):
        return type(output)(floats(part) for part in output)
    return output.float() if isinstance(output, torch.Tensor) and output.is_floating_point() else output
