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
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .speed import plain_class

FACTOR = 4.0  # how many times farther off than rounding explains an answer may be
UNIT = 2.0**-8  # the largest relative error of a number rounded to bfloat16, which keeps 8 binary digits
MOST = 0.25  # relative; an answer farther off is of no use, whatever explains it
MOST_GRADIENT = 1.0  # the same of a gradient: 0.12 was measured for a DynUNet, and trains
MOST_FLOAT32 = 0.02  # the same of float32, which may be TF32 on a GPU
FEWEST = 16  # weights of a layer whose gradient is judged by itself: errors of fewer numbers differ by chance
SHOWN = 0.05  # share of an input that is not 0, from which on it tells something
COLUMNS = 2**24  # bytes that a convolution as matrix products may take to lay out its windows
WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)
Tensors = list[torch.Tensor]


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


def share_shown(image: torch.Tensor) -> float:
    """Share of what is not 0: a wrong layer would answer rightly to an empty input."""
    return float((image != 0).float().mean())


def noise_like(image: torch.Tensor) -> torch.Tensor:
    """Normal noise of that shape, the same each time, which takes no number from anybody's generator."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(image.shape, generator=generator).to(image.device)


# Copies


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


# Answers


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


# Which layer


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
