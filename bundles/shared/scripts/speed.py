"""Arrange a network to run fast on its device. Its weights, their names, and what it computes stay the same."""

from __future__ import annotations

import ctypes
import functools
import sys

import monai
import torch
from torch import nn

LINUX = sys.platform == "linux"
# The least of which bfloat16 is wrong on processors with AMX: docs/evidence/bfloat16_on_amx.md
LONG_STRIDE, LONG_KERNEL = 3, 8
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def ready(network: nn.Module, device: torch.device | str, compile: bool = False) -> nn.Module:
    """Move a network to its device and make it fast there; changes it in place and returns it.

    On every device: patch embeddings as matrix products, because the convolutions of such strides are wrong in bfloat16
    on some (docs/evidence/bfloat16_on_amx.md).
    On a CPU: convolutions of one voxel as matrix products, and instance norms that return no view; on one with AMX
    other convolutions of a long stride or kernel compute in float32 under autocast.
    On a GPU: channels last, as its matrix units want them. compile: fuse small steps with TorchInductor; the first
    step then waits until that is done.
    State dicts made before and after fit each other.
    """
    device = torch.device(device)
    network = network.to(device)
    if device.type == "cpu":
        keep_freed_memory()
    for module in network.modules():
        kind = arranged(module, device)
        if kind is not type(module):
            module.__class__ = kind
    if device.type == "cuda":
        network.to(memory_format=_channels_last(network))
    if compile:
        network.compile()
    return network


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep freed memory for what comes next, instead of handing large blocks back to the system each time.

    A step on a CPU frees and takes the same hundreds of megabytes over and over, and each page must be mapped and
    zeroed again: 5 to 20 % of its time, and half of the time to read a scan. The peak stays the same. Where there is
    no glibc nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if LINUX else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the most it takes; larger blocks are still handed back
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def seed_all(seed: int, deterministic: bool = False) -> None:
    """Seed Python, numpy and torch. On a CPU two runs are then the same.

    deterministic: refuse to compute on a GPU what may differ from run to run, and let cuDNN take the same way always
    instead of the fastest one.
    """
    monai.utils.set_determinism(seed, use_deterministic_algorithms=deterministic or None)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic


def arranged(module: nn.Module, device: torch.device) -> type[nn.Module]:
    """The class that computes the same as the module's own, in the way that suits the device; its own if none does."""
    kind = type(module)
    if is_patchwise(module):
        return PATCHWISE[kind]
    if device.type != "cpu":
        return kind
    if is_pointwise(module):
        return POINTWISE[kind]
    if kind in NORMS and not module.track_running_stats:
        return NORMS[kind]
    if kind in FLOAT32 and is_long(module) and torch.cpu._is_amx_tile_supported():
        return FLOAT32[kind]
    return kind


def is_long(module: nn.Module) -> bool:
    """Whether it is a convolution of a kind of which some are wrong in bfloat16; of transposed ones, the gradient."""
    return max(module.stride) >= LONG_STRIDE or max(module.kernel_size) >= LONG_KERNEL


def is_patchwise(module: nn.Module) -> bool:
    """Whether it is a convolution of a long stride whose windows lie side by side, as those of a patch embedding do."""
    return (
        type(module) in PATCHWISE
        and min(module.stride) >= LONG_STRIDE
        and tuple(module.kernel_size) == tuple(module.stride)
        and set(module.padding) == {0}
        and set(module.dilation) == {1}
        and module.groups == 1
    )


def is_pointwise(module: nn.Module) -> bool:
    """Whether it is a convolution of single voxels, one by one: a matrix product over the channels."""
    return (
        type(module) in POINTWISE
        and set(module.kernel_size) == set(module.stride) == {1}
        and set(module.padding) == {0}
        and module.groups == 1
    )


def _channels_last(network: nn.Module) -> torch.memory_format:
    volumes = any(isinstance(module, nn.Conv3d) for module in network.modules())
    return torch.channels_last_3d if volumes else torch.channels_last


def _multiply(module: nn.Conv2d | nn.Conv3d, inputs: torch.Tensor) -> torch.Tensor:
    """(B, C, ...) -> (B, O, ...). A CPU's convolution would first bring all of them into another order."""
    found = torch.matmul(module.weight.flatten(1), inputs.flatten(2))
    if module.bias is not None:
        found = found + module.bias[:, None].to(found.dtype)
    return found.unflatten(2, inputs.shape[2:])


def _multiply_patches(module: nn.Conv2d | nn.Conv3d, inputs: torch.Tensor) -> torch.Tensor:
    """(B, C, ...) -> (B, O, ...), a voxel for each patch. What is left over at the end of an axis is not looked at."""
    axes = inputs.ndim - 2
    for axis, side in enumerate(module.kernel_size):
        count = inputs.shape[2 + 2 * axis] // side
        inputs = inputs.narrow(2 + 2 * axis, 0, count * side).unflatten(2 + 2 * axis, (count, side))
    grid = [2 + 2 * axis for axis in range(axes)]
    patches = inputs.permute(0, *grid, 1, *[axis + 1 for axis in grid]).flatten(1 + axes)  # B, ..., C * voxels
    found = nn.functional.linear(patches, module.weight.flatten(1), module.bias)
    return found.movedim(-1, 1)


class Patchwise2d(nn.Conv2d):
    """A patch embedding of a picture, as one matrix product over the patches."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return _multiply_patches(self, inputs)


class Patchwise3d(nn.Conv3d):
    """A patch embedding of a volume, as one matrix product over the patches."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return _multiply_patches(self, inputs)


class Float32Conv2d(nn.Conv2d):
    """A convolution that autocast leaves alone."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch.autocast(inputs.device.type, enabled=False):
            return super().forward(inputs.float())


class Float32Conv3d(nn.Conv3d):
    """A convolution that autocast leaves alone."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch.autocast(inputs.device.type, enabled=False):
            return super().forward(inputs.float())


class Float32ConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution that autocast leaves alone."""

    def forward(self, inputs: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        with torch.autocast(inputs.device.type, enabled=False):
            return super().forward(inputs.float(), output_size)


class Float32ConvTranspose3d(nn.ConvTranspose3d):
    """A transposed convolution that autocast leaves alone."""

    def forward(self, inputs: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        with torch.autocast(inputs.device.type, enabled=False):
            return super().forward(inputs.float(), output_size)


class Pointwise2d(nn.Conv2d):
    """A convolution of single pixels, as one matrix product."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return _multiply(self, inputs)


class Pointwise3d(nn.Conv3d):
    """A convolution of single voxels, as one matrix product."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return _multiply(self, inputs)


def _norm(module: nn.InstanceNorm2d | nn.InstanceNorm3d, inputs: torch.Tensor) -> torch.Tensor:
    """Each channel by itself, which is a group norm of groups of one. torch's instance norm returns a view, and the
    in-place activation that follows one costs two copies of the whole tensor in the backward pass."""
    with torch.autocast(inputs.device.type, enabled=False):  # keep bfloat16, as instance norms do; sums are float32
        return nn.functional.group_norm(inputs, inputs.shape[1], module.weight, module.bias, module.eps)


class ChannelNorm2d(nn.InstanceNorm2d):
    """An instance norm whose output is no view."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return _norm(self, inputs)


class ChannelNorm3d(nn.InstanceNorm3d):
    """An instance norm whose output is no view."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return _norm(self, inputs)


PATCHWISE = {nn.Conv2d: Patchwise2d, nn.Conv3d: Patchwise3d}
FLOAT32 = {nn.Conv2d: Float32Conv2d, nn.Conv3d: Float32Conv3d}
FLOAT32 |= {nn.ConvTranspose2d: Float32ConvTranspose2d, nn.ConvTranspose3d: Float32ConvTranspose3d}
POINTWISE = {nn.Conv2d: Pointwise2d, nn.Conv3d: Pointwise3d}
NORMS = {nn.InstanceNorm2d: ChannelNorm2d, nn.InstanceNorm3d: ChannelNorm3d}


def plain_class(kind: type[nn.Module]) -> type[nn.Module]:
    """torch's own class of one that `arranged` chose; others as they are."""
    return PLAIN.get(kind, kind)


PLAIN = {ours: torchs for kinds in (PATCHWISE, FLOAT32, POINTWISE, NORMS) for torchs, ours in kinds.items()}
