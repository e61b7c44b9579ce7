"""Layers that answer wrongly under autocast, as some processors' kernels do, and bundles that hold one."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from helpers_bundles import copy_bundle
from torch import nn

# Appended to the scripts of a bundle's copy, whose network then has a wrong layer on any machine.
PLANT = {
    "inferers.py": "\n\nbf16_is_fast = lambda device: True\n",
    "speed.py": """

import os
sys.path.append({tests!r})
from helpers_faults import plant
right = ready
if {rank!r} is None or os.environ.get("RANK") == str({rank!r}):
    ready = lambda *words, **named: plant(right(*words, **named), {kind!r})
""",
}


def lowered(tensor: torch.Tensor) -> bool:
    """Whether autocast is on."""
    return torch.is_autocast_enabled(tensor.device.type)


class WrongForward(nn.Module):
    """Its layer's answer, mirrored, where autocast is on: right numbers in wrong places, as on a processor with AMX."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found = self.layer(inputs)
        return found.flip(-1) if lowered(inputs) else found


class NotANumber(WrongForward):
    """One number is none."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found = self.layer(inputs)
        return (
            torch.where(torch.arange(found.numel()).view_as(found) == 5, torch.nan, found) if lowered(inputs) else found
        )


class Mirror(torch.autograd.Function):
    """Nothing on the way there; mirrors the gradient on the way back."""

    @staticmethod
    def forward(ctx: Any, numbers: torch.Tensor) -> torch.Tensor:
        return numbers.view_as(numbers)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.flip(-1)


class WrongBackward(WrongForward):
    """Its layer's answer, with the gradient of a mirrored one where autocast is on."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return Mirror.apply(self.layer(inputs)) if lowered(inputs) else self.layer(inputs)


FAULTS = {kind.__name__: kind for kind in (WrongForward, WrongBackward, NotANumber)}


def as_fault(layer: nn.Conv2d | nn.Conv3d, kind: str) -> None:
    """Make a convolution wrong in place; its weights keep their names."""
    right = type(layer)
    wrong = FAULTS[kind].forward

    class Wrong(right):  # type: ignore[misc, valid-type]
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return wrong(_Layer(self, right), inputs)

    Wrong.__name__ = Wrong.__qualname__ = f"{kind}{right.__name__}"
    layer.__class__ = Wrong


class _Layer:
    """The layer with the right forward, as `layer` of a fault."""

    def __init__(self, module: nn.Module, right: type[nn.Module]) -> None:
        self.layer = lambda inputs: right.forward(module, inputs)


def target_of(network: nn.Module) -> str:
    """The name of the layer that `plant` makes wrong: the second convolution of more than one voxel."""
    wide = [
        name
        for name, module in network.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Conv3d)) and max(module.kernel_size) == 3
    ]
    return wide[1]


def plant(network: nn.Module, kind: str) -> nn.Module:
    as_fault(network.get_submodule(target_of(network)), kind)
    return network


def faulty_copy(bundle: Path, folder: Path, kind: str, rank: int | None = None) -> Path:
    """A copy of a bundle with that fault, which believes that this machine computes bfloat16.

    rank: the one of several processes that has the fault; None: all.
    """
    copy = copy_bundle(bundle, folder / bundle.name, "models")
    for name, text in PLANT.items():
        path = copy / "scripts" / name
        path.write_text(path.read_text() + text.format(tests=str(Path(__file__).parent), kind=kind, rank=rank))
    return copy


def believing(inferers: ModuleType, monkeypatch: Any) -> ModuleType:
    """scripts.inferers that believes that this machine computes bfloat16."""
    monkeypatch.setattr(inferers, "bf16_is_fast", lambda device: True)
    return inferers
