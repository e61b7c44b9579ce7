"""Copies of a network: as it is defined, with bfloat16's roundings in float32, and without dropout."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn

from .answers import tensors_of
from .speed import plain_class

COLUMNS = 2**24  # bytes that a convolution as matrix products may take to lay out its windows
WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)


def quiet_copy(network: nn.Module, train: bool = False) -> nn.Module:
    """A copy without dropout that keeps no running statistics. train: else as in training, with all heads."""
    found = deep_copy(network).train(train)
    for module in found.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) or "Drop" in type(module).__name__:
            module.eval()
    return found


def deep_copy(network: nn.Module) -> nn.Module:
    """A copy, also of a network that keeps tensors of its last step, as a DynUNet does: torch refuses to copy those."""
    values = [value for module in network.modules() for value in vars(module).values()]
    memo = {id(tensor): tensor.detach() for tensor in tensors_of(values) if not tensor.is_leaf}
    return copy.deepcopy(network, memo)


def exact_copy(network: nn.Module, train: bool = False) -> nn.Module:
    """The network as it is defined, without what speed.py made of it, and without a library's convolutions."""
    found = quiet_copy(network, train)
    for module in found.modules():
        kind = plain_class(type(module))
        if kind is not type(module):
            module.__class__ = kind
        if type(module) in IN_SLABS and not train:  # their gradients would need the windows of all layers at once
            module.__class__ = IN_SLABS[type(module)]
    return found


def rounding_copy(network: nn.Module, train: bool = False) -> nn.Module:
    """A copy that computes in float32 what its layers would with bfloat16's roundings."""
    found = quiet_copy(network, train)
    for module in found.modules():
        if isinstance(module, WEIGHTED):
            module.weight.data = module.weight.data.bfloat16().float()
            module.register_forward_pre_hook(lambda _, inputs: tuple(Round.apply(part) for part in inputs))
            module.register_forward_hook(lambda _, __, output: Round.apply(output))
    return found


class Round(torch.autograd.Function):
    """To bfloat16 and back; what comes back as gradient, too."""

    @staticmethod
    def forward(ctx: Any, numbers: torch.Tensor) -> torch.Tensor:
        return numbers.bfloat16().float()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.bfloat16().float()


def _in_slabs(layer: nn.Conv2d | nn.Conv3d, image: torch.Tensor) -> torch.Tensor:
    """A convolution as matrix products over its windows, of which at most COLUMNS bytes are laid out at a time."""
    if layer.groups > 1 or layer.padding_mode != "zeros":
        return layer._conv_forward(image, layer.weight, layer.bias)
    axes, (batch, channels) = range(2, image.ndim), image.shape[:2]
    image = nn.functional.pad(image, layer._reversed_padding_repeated_twice)
    reaches = [dilation * (side - 1) + 1 for side, dilation in zip(layer.kernel_size, layer.dilation, strict=True)]
    shape = [(n - reach) // s + 1 for n, reach, s in zip(image.shape[2:], reaches, layer.stride, strict=True)]
    plane = batch * channels * math.prod(layer.kernel_size) * math.prod(shape[1:]) * image.element_size()
    height, stride = max(1, COLUMNS // plane), layer.stride[0]
    parts = []
    for first in range(0, shape[0], height):
        count = min(height, shape[0] - first)
        windows = image.narrow(2, first * stride, (count - 1) * stride + reaches[0])
        for axis, reach, step, dilation in zip(axes, reaches, layer.stride, layer.dilation, strict=True):
            windows = windows.unfold(axis, reach, step)[..., ::dilation]  # B, C, places, then sides
        columns = windows.permute(0, 1, *(axis + len(axes) for axis in axes), *axes).reshape(
            batch, channels * math.prod(layer.kernel_size), -1
        )
        parts.append(torch.matmul(layer.weight.flatten(1), columns).unflatten(2, (count, *shape[1:])))
    found = torch.cat(parts, dim=2)
    return found if layer.bias is None else found + layer.bias.view(-1, *[1] * len(axes))


class Slabs2d(nn.Conv2d):
    """A 2D convolution as matrix products."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return _in_slabs(self, image)


class Slabs3d(nn.Conv3d):
    """A 3D convolution as matrix products."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return _in_slabs(self, image)


IN_SLABS = {nn.Conv2d: Slabs2d, nn.Conv3d: Slabs3d}
