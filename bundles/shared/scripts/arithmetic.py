"""Is bfloat16 right for this network on this device? Compare its answers and gradients, and name a wrong layer.

Some processors and libraries compute some layers wrongly in bfloat16, silently (docs/evidence/bfloat16_on_amx.md).
Copies of the network therefore answer one real input:

    exact     float32, the network as it is defined, its convolutions as matrix products (for gradients, as they are)
    rounded   float32, with weights, inputs, outputs and gradients of each layer rounded to bfloat16: what it explains
    real      under autocast, arranged and compiled as it will run

bfloat16 is right if `real` is at most FACTOR times as far from `exact` as `rounded` is. Both distances come from as
many roundings of the same size, so that their quotient is near 1 for right kernels: 1.00 to 1.22 for fresh UNETR,
SegResNet, DynUNet, Swin UNETR and pseudo2d's U-Net on a processor with AMX. A wrong layer is off by a hundred times as
much.

Nothing of the network changes, and no random number is drawn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from .answers import FACTOR, UNIT, answer, bound_of, distance, gradients
from .layer_errors import worst, wrong_layers, wrong_layers_backward
from .network_copies import exact_copy, quiet_copy, rounding_copy

MOST_GRADIENT = 1.0  # the same of a gradient: 0.12 was measured for a DynUNet, and trains
MOST_FLOAT32 = 0.02  # the same of float32, which may be TF32 on a GPU
FEWEST = 16  # weights of a layer whose gradient is judged by itself: errors of fewer numbers differ by chance
SHOWN = 0.05  # share of an input that is not 0, from which on it tells something


@dataclass(frozen=True)
class Verdict:
    """Whether bfloat16 is right. error, bound: of the whole answer (or gradient), relative to its norm.

    layer: the one that is wrong by itself, given right inputs; empty if none is. float32_error: of the same network in
    float32, measured only where bfloat16 is wrong. judged: False where not even `exact` answers with finite numbers.
    failure: why nothing could be compared. elsewhere: it is another process that found it wrong.
    """

    trusted: bool
    error: float = 0.0
    bound: float = 0.0
    layer: str = ""
    layer_error: float = 0.0
    layer_bound: float = 0.0
    float32_error: float = 0.0
    what: str = "answer"
    judged: bool = True
    failure: str = ""
    elsewhere: bool = False


def judge_answer(network: nn.Module, image: torch.Tensor) -> Verdict:
    """Compare the network's answer to (B, C, ...) float32, without dropout; of a compiled network, as a whole."""
    image = image.as_subclass(torch.Tensor)
    for given in (image, noise_like(image)):
        if share_shown(given) >= SHOWN:
            verdict = _judge_answer(network, given)
            if verdict.judged:
                return verdict
    return Verdict(True, judged=False)


@torch.no_grad()
def _judge_answer(network: nn.Module, image: torch.Tensor) -> Verdict:
    exact = exact_copy(network)
    wanted = answer(exact, image)
    if not all(part.isfinite().all() for part in wanted):
        return Verdict(True, judged=False)
    rounded, real = rounding_copy(network), quiet_copy(network)
    bound = bound_of(distance(answer(rounded, image), wanted))
    with as_compiled(network, real) as runs:
        error = distance(answer(runs, image, autocast=True), wanted)
        if error <= bound:
            return Verdict(True, error, bound)
        in_float32 = distance(answer(runs, image), wanted)
    layer = worst(wrong_layers(exact, rounded, real, image))
    if not layer[0]:  # no layer by itself: then a block, for what it computes between its layers
        layer = worst(wrong_layers(exact, rounded, real, image, blocks=True))
    return Verdict(False, error, bound, *layer, float32_error=in_float32)


def judge_gradients(network: nn.Module, image: torch.Tensor, target: torch.Tensor, loss_function: Callable) -> Verdict:
    """Compare the gradients of one step, layer by layer. loss_function: (answer in float32, target) -> a tensor.

    Layers of fewer than FEWEST weights count in the whole only: of a gradient that is 0 but for rounding, such as that
    of a bias before a norm, nothing but its size can be compared.
    """
    copies = [make(network, train=True) for make in (exact_copy, rounding_copy, quiet_copy)]
    exact, rounded, real = (gradients(one, image, target, loss_function, autocast=one is copies[2]) for one in copies)
    if not all(part.isfinite().all() for part in exact.values()):
        return Verdict(True, what="gradient", judged=False)
    whole = [torch.cat([*one.values()]) for one in (exact, rounded, real)]
    error, bound = distance([whole[2]], [whole[0]]), bound_of(distance([whole[1]], [whole[0]]), MOST_GRADIENT)
    wrong = [name for name in exact if _is_wrong(exact[name], rounded[name], real[name])]
    if error <= bound and not wrong:
        return Verdict(True, error, bound, what="gradient")
    found = worst(wrong_layers_backward(copies, image, target, loss_function))
    layer = found if found[0] or not wrong else (wrong[0], *_errors(exact, rounded, real, wrong[0]))
    return Verdict(False, error, bound, *layer, what="gradient")


def _is_wrong(exact: torch.Tensor, rounded: torch.Tensor, real: torch.Tensor) -> bool:
    if len(exact) < FEWEST:
        return False
    error, explained = (torch.linalg.vector_norm(one - exact) for one in (real, rounded))
    return not error <= FACTOR * torch.maximum(explained, UNIT * torch.linalg.vector_norm(exact))


def _errors(exact: dict, rounded: dict, real: dict, name: str) -> tuple[float, float]:
    return distance([real[name]], [exact[name]]), FACTOR * max(UNIT, distance([rounded[name]], [exact[name]]))


def share_shown(image: torch.Tensor) -> float:
    """Share of what is not 0: a wrong layer would answer rightly to an empty input."""
    return float((image != 0).float().mean())


def noise_like(image: torch.Tensor) -> torch.Tensor:
    """Normal noise of that shape, the same each time, which takes no number from anybody's generator."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(image.shape, generator=generator).to(image.device)


@contextlib.contextmanager
def as_compiled(network: nn.Module, real: nn.Module) -> Iterator[Callable]:
    """What will run: the compiled network itself for as long, in evaluation mode; of any other, its copy will do."""
    if network._compiled_call_impl is None:
        yield real
        return
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield network
    finally:
        for module, mode in modes.items():
            module.training = mode
