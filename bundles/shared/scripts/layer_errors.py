"""Which layer computes wrongly: each gets the input, and the gradient, that it has in an exact copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from .answers import FACTOR, UNIT, Tensors, answer, distance, gradients, tensors_of
from .network_copies import WEIGHTED, deep_copy

Found = list[tuple[str, float, float]]  # a layer's name, its error, and its bound


def worst(found: Found) -> tuple[str, float, float]:
    """The layer that is farthest beyond its bound; of a block and a layer in it, the layer. ("", 0, 0) of none."""
    wrong = [one for one in found if not one[1] <= one[2]]
    deepest = [one for one in wrong if not any(other[0].startswith(one[0] + ".") for other in wrong)]
    return max(deepest, key=lambda one: one[1] / one[2], default=("", 0.0, 0.0))


@torch.no_grad()
def wrong_layers(
    exact: nn.Module, rounded: nn.Module, real: nn.Module, image: torch.Tensor, blocks: bool = False
) -> Found:
    """Give every layer (or every block of layers) the input that it has in `exact`; compare what it makes of that."""
    types = types_seen(real, image)
    found: Found = []

    def look(name: str, inputs: tuple, output: Any) -> None:
        if not inputs or not all(isinstance(part, torch.Tensor) for part in inputs):
            return
        seen = [part.to(dtype) for part, dtype in zip(inputs, types.get(name, []), strict=False)]
        if len(seen) != len(inputs):
            return
        device = inputs[0].device
        wanted = tensors_of(output)
        with torch.autocast(device.type, enabled=False):
            explained = distance(tensors_of(rounded.get_submodule(name)(*inputs)), wanted)
        with torch.autocast(device.type, torch.bfloat16):
            error = distance(tensors_of(real.get_submodule(name)(*seen)), wanted)
        found.append((name, error, FACTOR * max(UNIT, explained)))

    hooks = [
        module.register_forward_hook(lambda _, inputs, output, name=name: look(name, inputs, output))
        for name, module in exact.named_modules()
        if name and blocks == any(True for _ in module.children())
    ]
    answer(exact, image)
    for hook in hooks:
        hook.remove()
    return found


def types_seen(real: nn.Module, image: torch.Tensor) -> dict[str, list[torch.dtype]]:
    """The types in which each layer gets its inputs under autocast: the kernels depend on them."""
    types: dict[str, list[torch.dtype]] = {}

    def look(name: str, inputs: tuple) -> None:
        types[name] = [part.dtype for part in inputs if isinstance(part, torch.Tensor)]

    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: look(name, inputs))
        for name, module in real.named_modules()
        if name
    ]
    answer(real, image, autocast=True)
    for hook in hooks:
        hook.remove()
    return types


def wrong_layers_backward(
    copies: Sequence[nn.Module], image: torch.Tensor, target: torch.Tensor, loss_function: Callable
) -> Found:
    """Give every layer with weights the input and the gradient that it has in `exact`; compare what it hands back."""
    exact, rounded, real = copies
    again = deep_copy(exact)  # whose layers have no hooks
    found: Found = []

    def look(name: str, given: torch.Tensor, gradient: torch.Tensor) -> None:
        one, other, third = (
            handed_back(network.get_submodule(name), given, gradient, autocast=network is real)
            for network in (again, rounded, real)
        )
        found.append((name, distance(third, one), FACTOR * max(UNIT, distance(other, one))))

    def remember(name: str, inputs: tuple, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.requires_grad and len(inputs) == 1:
            output.register_hook(lambda gradient: look(name, inputs[0].detach(), gradient))

    for name, module in exact.named_modules():
        if isinstance(module, WEIGHTED):
            module.register_forward_hook(lambda _, inputs, output, name=name: remember(name, inputs, output))
    gradients(exact, image, target, loss_function)
    return found


def handed_back(layer: nn.Module, given: torch.Tensor, gradient: torch.Tensor, autocast: bool = False) -> Tensors:
    """The gradients of a layer's input and of its weight matrix, for the gradient of its output."""
    with torch.enable_grad():
        given = given.clone().requires_grad_()
        weight = layer.weight.detach().clone().requires_grad_()
        with torch.autocast(given.device.type, torch.bfloat16, enabled=autocast):
            output = torch.func.functional_call(layer, {"weight": weight}, (given,))
        grads = torch.autograd.grad(output, [given, weight], gradient.to(output.dtype), allow_unused=True)
    return [torch.zeros(()) if grad is None else grad.float() for grad in grads]
