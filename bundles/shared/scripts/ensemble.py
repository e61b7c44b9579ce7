"""Several trained networks as one, for configs/ensemble.yaml: the mean of what each says by itself.

The mean is of probabilities, after each network has put its own windows together: it is the mean of the maps that the
networks would have written one by one. It goes on as a logit, so that the rest of a config stays as it is.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Sequence
from itertools import chain, combinations
from typing import Any

import torch
from monai.inferers import Inferer
from torch import nn

from .checks import check_settings, check_weights, is_on_command_line
from .errors import refuse
from .speed import ready

EPS = 1e-6  # nearest that a mean comes to 0 or 1, so that its logit is finite


def check_ensemble(checkpoint: str, checkpoints: Sequence[str], tta: bool, **settings: Any) -> None:
    """Refuse settings that no ensemble could use; the others as `check_settings` does.

    checkpoint: the config's own, which counts only where `checkpoints` names no other.
    """
    check_settings(tta=tta, **settings)
    if "exported" in settings:
        refuse("an exported file and ensemble.yaml cannot be used together. Leave one of them out.")
    if not isinstance(checkpoints, (list, tuple)) or not checkpoints:
        refuse(f"checkpoints is {checkpoints!r}. It must be a list of files: give the folds.yaml of autoconf crossval.")
    for path in checkpoints:
        if not isinstance(path, str) or not os.path.isfile(path):
            refuse(f"checkpoints names {path!r}, which is no file. Correct it, or train that fold.")
    if is_on_command_line("checkpoint", sys.argv) and list(checkpoints) != [checkpoint]:
        refuse("--checkpoint and a list of checkpoints are both given. Leave one of them out.")


def check_each(checkpoints: Sequence[str], network: nn.Module) -> None:
    """Refuse a checkpoint that does not fit the network."""
    for path in checkpoints:
        check_weights(path, network)


def load_all(network: nn.Module, checkpoints: Sequence[str], device: torch.device | str) -> nn.ModuleList:
    """A copy of the network for each checkpoint, on the device. All weights are there; one network works at a time."""
    members = []
    for path in checkpoints:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        member = copy.deepcopy(network)
        member.load_state_dict(weights.get("model", weights))
        members.append(ready(member, device))
    return nn.ModuleList(members)


class MeanProbability(Inferer):
    """Ask each network of a list, by another inferer, and take the mean of their probabilities.

    inputs: (B, C, ...) float tensor. Returns the mean's logit, (B, R, ...) float32, as far from 0 as EPS allows.
    tta: each network also sees the input mirrored along every set of its spatial axes (8 in 3D, 4 in 2D), and its
    answers are mirrored back.
    """

    def __init__(self, inferer: Inferer, tta: bool = False) -> None:
        self.inferer = inferer
        self.tta = tta

    def __call__(self, inputs: torch.Tensor, network: Sequence[nn.Module], *args: Any, **kwargs: Any) -> torch.Tensor:
        flips = flips_of(inputs.ndim) if self.tta else [()]
        total: torch.Tensor | None = None
        for member in network:
            for axes in flips:
                logits = self.inferer(torch.flip(inputs, axes), member, *args, **kwargs)
                probability = torch.flip(torch.sigmoid(logits.float()), axes)
                total = probability if total is None else total.add_(probability)
        assert total is not None  # an empty list was refused before
        return torch.logit(total / (len(network) * len(flips)), eps=EPS)

    def report(self) -> dict[str, str]:
        """The other inferer's, of the precision; empty if it has none."""
        return self.inferer.report() if hasattr(self.inferer, "report") else {}


def flips_of(ndim: int) -> list[tuple[int, ...]]:
    """Every set of the spatial axes of a (B, C, ...) tensor, the empty one first."""
    axes = range(2, ndim)
    return list(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))
