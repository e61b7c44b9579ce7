"""Begin a training with weights that another one left: what fits is loaded, and what is not is named.

Names in the file become names in the network by a key map, a list of pairs of prefixes: the first pair whose left side
a name begins with changes that prefix. `["", ""]` as the last pair lets all other names be as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events

from .checkpoints import plain, say
from .errors import refuse

TOKEN = 16  # voxels a side of what a vision transformer makes one token of
POSITIONS = "position_embeddings"  # how the name of a table of positions ends
KeyMap = Sequence[Sequence[str]]


def load(
    network: torch.nn.Module,
    pretrained: str,
    key_map: KeyMap = (("", ""),),
    patch_size: Sequence[int] = (),
    pretrained_patch_size: Sequence[int] = (),
    encoder: str | Sequence[str] = "",
) -> frozenset[str]:
    """Load a file of weights into the network, in place, as far as names and shapes agree; say what was loaded.

    pretrained: a state dict, opened as plain tensors only; of any precision. patch_size: voxels that the network takes,
    pretrained_patch_size: those that the file's did, if it has a table of positions of another grid that is no cube.
    encoder: prefixes of names, as a list or with commas; empty: all.
    Returns the names of the loaded tensors that begin so: the pretrained part, for `groups` and `Freeze`.
    """
    found = _renamed(_read(pretrained), key_map)
    own = plain(network).state_dict()
    grids = {}
    for name, tensor in found.items():
        if name.endswith(POSITIONS) and patch_size and name in own and _are_tables(tensor, own[name]):
            grids[name] = _grids(pretrained, tensor.shape[1], own[name].shape[1], patch_size, pretrained_patch_size)
            found[name] = resampled(tensor, *grids[name])
    loaded = [name for name, tensor in found.items() if name in own and tensor.shape == own[name].shape]
    if not loaded:
        first = next(iter(found))
        refuse(f"nothing in {pretrained} fits this network, which has no '{first}' of that shape. Give other weights.")
    with torch.no_grad():
        for name in loaded:
            own[name].copy_(found[name])  # also to the network's own precision
    say(f"loaded {_told(own, found, loaded)} (from {pretrained})" + _resampling(grids))
    prefixes = _prefixes(encoder)
    part = frozenset(name for name in loaded if name.startswith(prefixes))
    if not part:
        refuse(f"no weight loaded from {pretrained} begins with {encoder!r}. Give another --encoder, or '' for all.")
    return part


def groups(
    network: torch.nn.Module, part: frozenset[str], learning_rate: float, encoder_factor: float
) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser: first the new weights, then the pretrained part at a lower rate."""
    named = dict(plain(network).named_parameters())
    return [
        {"params": [weight for name, weight in named.items() if name not in part], "lr": learning_rate},
        {"params": [weight for name, weight in named.items() if name in part], "lr": learning_rate * encoder_factor},
    ]


class Freeze:
    """Leave the pretrained part as it is in the first `epochs` epochs, while the new weights find their place.

    A frozen weight has no gradient, so that the optimiser neither steps on it nor lets it decay. What is frozen
    depends on the number of the epoch alone, so a training that goes on after a stop is frozen as it would have been.
    """

    def __init__(self, network: torch.nn.Module, part: frozenset[str], epochs: int) -> None:
        named = dict(plain(network).named_parameters())
        self.weights = [weight for name, weight in named.items() if name in part]
        self.epochs = epochs
        if epochs and len(self.weights) == len(named):
            refuse(f"freeze_epochs is {epochs}, but all weights were loaded: nothing would learn. Give an --encoder.")

    def attach(self, engine: Engine) -> None:
        if self.epochs:
            engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        for weight in self.weights:
            weight.requires_grad_(engine.state.epoch > self.epochs)


def resampled(table: torch.Tensor, grid: Sequence[int], new_grid: Sequence[int]) -> torch.Tensor:
    """A (1, tokens, hidden) table of positions on another grid of tokens (rows first), by linear interpolation."""
    if tuple(grid) == tuple(new_grid):
        return table
    image = table.float().transpose(1, 2).unflatten(2, tuple(grid))
    mode = {2: "bilinear", 3: "trilinear"}[len(grid)]
    moved = torch.nn.functional.interpolate(image, size=tuple(new_grid), mode=mode, align_corners=False)
    return moved.flatten(2).transpose(1, 2).to(table.dtype)


def _read(path: str) -> dict[str, torch.Tensor]:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        refuse(f"{path} is not there. Give --pretrained FILE: weights that a training saved.")
    except Exception as error:  # noqa: BLE001 - pickle, zip and type errors all mean the same here
        refuse(f"{path} holds no weights ({type(error).__name__}). Give the model.pt of a training as --pretrained.")
    weights = weights.get("model", weights) if isinstance(weights, Mapping) else weights
    is_plain = isinstance(weights, Mapping) and all(isinstance(value, torch.Tensor) for value in weights.values())
    if not is_plain or not weights:
        refuse(f"{path} is no plain state dict of tensors. Give the model.pt of a training as --pretrained.")
    broken = next((name for name, value in weights.items() if not bool(torch.isfinite(value).all())), None)
    if broken is not None:
        refuse(f"{path} holds values that are no numbers (in '{broken}'). Its training failed: give other weights.")
    return dict(weights)


def _renamed(weights: Mapping[str, torch.Tensor], key_map: KeyMap) -> dict[str, torch.Tensor]:
    found = {}
    for name, tensor in weights.items():
        pair = next((pair for pair in key_map if name.startswith(pair[0])), ("", ""))
        found[pair[1] + name[len(pair[0]) :]] = tensor
    return found


def _grids(
    path: str, tokens: int, own_tokens: int, patch_size: Sequence[int], given: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The grids of tokens of the file and of the network; refuses where the file's cannot be known."""
    own = tuple(side // TOKEN for side in patch_size)
    cube = (round(tokens ** (1 / len(own))),) * len(own)
    grid = tuple(side // TOKEN for side in given) or (own if tokens == own_tokens else cube)
    if math.prod(grid) != tokens or math.prod(own) != own_tokens:
        was = f"no patch of {list(given)}" if given else "no cube"
        refuse(f"{path} has {tokens} positions, {was}. Give the patch that it had: --pretrained_patch_size [A,B,C].")
    return grid, own


def _are_tables(table: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether both are (1, tokens, hidden), of one width: of the same grid of tokens, or of another."""
    return table.ndim == own.ndim == 3 and table.shape[2] == own.shape[2]


def _prefixes(encoder: str | Sequence[str]) -> tuple[str, ...]:
    names = encoder.replace(" ", "").split(",") if isinstance(encoder, str) else encoder
    return tuple(names) or ("",)


def _told(own: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], loaded: Sequence[str]) -> str:
    share = sum(own[name].numel() for name in loaded) / sum(tensor.numel() for tensor in own.values())
    other = [name for name in found if name in own and name not in loaded]
    parts = {
        "of another shape": other,
        "not in the file": [name for name in own if name not in found],
        "in the file only": [name for name in found if name not in own],
    }
    left = "".join(f"; {what}: {_listed(names)}" for what, names in parts.items() if names)
    return f"{len(loaded)} of {len(own)} tensors, {share:.0%} of the weights{left}"


def _listed(names: Sequence[str]) -> str:
    """Names, those with the same first part as one: `out (2)`."""
    kin: dict[str, list[str]] = {}
    for name in names:
        kin.setdefault(name.split(".")[0], []).append(name)
    return ", ".join(own[0] if len(own) == 1 else f"{first} ({len(own)})" for first, own in kin.items())


def _resampling(grids: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> str:
    moved = {"x".join(map(str, old)) + " to " + "x".join(map(str, new)) for old, new in grids.values() if old != new}
    return f"; positions resampled from {', '.join(sorted(moved))} tokens" if moved else ""
