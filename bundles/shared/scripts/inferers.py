"""Mixed precision for any MONAI inferer, on devices whose bfloat16 is right for the network."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from . import verdicts
from .answers import floats
from .arithmetic import MOST_FLOAT32, Verdict, judge_answer, judge_gradients
from .errors import ROOT, refuse

WARNED: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()  # the layers of a network that a line named
UNCHECKED = "force"  # of `enabled`: bfloat16 whatever it answers


def bf16_is_fast(device: torch.device) -> bool:
    """Tell whether this device computes in bfloat16 natively, rather than by emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


class MixedPrecision(Inferer):
    """Run another inferer under bfloat16 autocast where that is fast and right; else leave it as it is.

    MONAI's own `amp` switch speaks to CUDA only and scales the loss, which bfloat16 does not
    need. On a CPU with AVX512-BF16 this makes a UNETR training step three times faster.

    Some devices compute some layers wrongly in bfloat16. Before the first window (or batch) of each shape is answered,
    the network is therefore compared with float32 by other kernels (scripts/arithmetic.py); where it is farther off
    than rounding explains, one line on stderr names the layer and the errors, and windows of that shape are computed
    in float32.
    The verdict is kept on disk (scripts/verdicts.py).

    enabled: True, False, or "force" for bfloat16 without that check.
    inputs: (B, C, ...) float tensor. Returns the network's output, a tensor or a tuple of them, as
    float32, so that the loss and the stitching of windows are computed in full precision.
    """

    def __init__(self, inferer: Inferer, enabled: bool | str = True) -> None:
        self.inferer = inferer
        self.enabled = enabled
        self.verdicts: WeakKeyDictionary[nn.Module, dict[tuple, Verdict]] = WeakKeyDictionary()
        self.reasons: dict[str, str] = {}  # precision used -> why

    def __call__(self, inputs: torch.Tensor, network: Callable, *args: Any, **kwargs: Any) -> Any:
        kind, native = inputs.device.type, bf16_is_fast(inputs.device)

        def answer(windows: torch.Tensor, *rest: Any, **named: Any) -> Any:
            if not self.checks(windows.device) or self._trusts(network, windows):
                return floats(network(windows, *rest, **named))
            with torch.autocast(kind, enabled=False):
                return floats(network(windows, *rest, **named))

        if not self.enabled:
            self.reasons["float32"] = "amp is false"
        elif not native:
            self.reasons["float32"] = "this device does not compute bfloat16 natively"
        elif self.enabled == UNCHECKED:
            self.reasons["bfloat16"] = "amp is force: not checked"
        with torch.autocast(kind, torch.bfloat16, enabled=bool(self.enabled) and native):
            return floats(self.inferer(inputs, answer, *args, **kwargs))

    def report(self) -> dict[str, str]:
        """What was computed in and why: {"used": "bfloat16", "float32", or both, "why": ...}; empty before it ran."""
        return {"used": " and ".join(self.reasons), "why": "; ".join(self.reasons.values())} if self.reasons else {}

    def checks(self, device: torch.device) -> bool:
        """Whether a network is compared before it answers on this device."""
        return bool(self.enabled) and self.enabled != UNCHECKED and bf16_is_fast(device)

    def check_gradients(self, network: nn.Module, image: torch.Tensor, target: torch.Tensor, loss: Callable) -> None:
        """Compare the gradients of a step as well, before it is taken; float32 for that shape if they are wrong.

        image: (B, C, ...) float32 on its device. loss: (answer, target) -> a tensor.
        """
        if not self._trusts(network, image):
            return
        module, what = bare(network), f"gradient of {loss!r}"
        verdict = self._found(network, image, what, lambda: judge_gradients(module, image, target, loss))
        if not verdict.trusted:
            self.reasons.clear()
            self._keep(module, image, verdict)

    def _trusts(self, network: Callable, windows: torch.Tensor) -> bool:
        if not isinstance(network, nn.Module):
            self.reasons["float32"] = "bfloat16 can be checked for networks alone, not for functions"
            return False
        module = bare(network)
        verdict = self.verdicts.get(module, {}).get(tuple(windows.shape))
        if verdict is None:
            verdict = self._found(network, windows, "answer", lambda: judge_answer(module, windows))
            self._keep(module, windows, verdict)
        return verdict.trusted

    def _found(self, network: nn.Module, image: torch.Tensor, what: str, judge: Callable[[], Verdict]) -> Verdict:
        """This process's verdict, kept or made now; of processes that train one network together, the worst."""
        facts = verdicts.facts(bare(network), image, what)
        verdict = verdicts.read(facts)
        if verdict is None:
            with torch.autocast(image.device.type, enabled=False):
                verdict = attempted(judge, what.split()[0])
            verdicts.write(facts, verdict)
        if not verdict.trusted:
            _warn(bare(network), verdict)
        if isinstance(network, DistributedDataParallel) and network.training and dist.is_initialized():
            trusted = torch.tensor(int(verdict.trusted), device=image.device)
            dist.all_reduce(trusted, dist.ReduceOp.MIN)
            if verdict.trusted and not trusted:
                verdict = Verdict(False, what=verdict.what, elsewhere=True)
        return verdict

    def _keep(self, module: nn.Module, image: torch.Tensor, verdict: Verdict) -> None:
        self.verdicts.setdefault(module, {})[tuple(image.shape)] = verdict
        self.reasons.setdefault("bfloat16" if verdict.trusted else "float32", _said(verdict))


class CheckGradients:
    """Before the first step of a training, compare its gradients in bfloat16 with float32: `MixedPrecision` does it.

    The batch is drawn and augmented as it will be, and no random number is taken for that.
    """

    def __init__(self) -> None:
        self.done = False

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        inferer, device = engine.inferer, engine.state.device
        if self.done or not isinstance(inferer, MixedPrecision) or not inferer.checks(device):
            return
        self.done = True
        batch = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in engine.state.batch.items()}
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            image, target = engine.prepare_batch(batch, device, engine.non_blocking, **engine.to_kwargs)
        inferer.check_gradients(engine.network, image, target, engine.loss_function)


def bare(network: nn.Module) -> nn.Module:
    """The network inside DistributedDataParallel, whose own calls are heard by all processes."""
    return network.module if isinstance(network, DistributedDataParallel) else network


def attempted(judge: Callable[[], Verdict], what: str) -> Verdict:
    """The verdict; where the comparison itself fails, float32. It must not end a run that could go on without it."""
    try:
        return judge()
    except Exception as error:  # noqa: BLE001 - networks refuse to be copied, and devices to compute, in many ways
        why = (str(error).splitlines() or [""])[0][:150]
        return Verdict(False, what=what, judged=False, failure=f"{type(error).__name__}: {why}")


def _warn(network: nn.Module, verdict: Verdict) -> None:
    """One line for each layer, whatever the shapes it is wrong for; the end, where float32 is wrong as well."""
    if verdict.float32_error > MOST_FLOAT32:
        refuse(
            f"float32 itself is wrong on this device: answers of two kernels are {verdict.float32_error:.2g} apart. "
            "Nothing is computed with it. Use another --device, or another version of torch."
        )
    if verdict.layer in WARNED.setdefault(network, set()):
        return
    WARNED[network].add(verdict.layer)
    print(f"{ROOT.name}: warning: {_said(verdict)}. Computing in float32 from here on.", file=sys.stderr, flush=True)


def _said(verdict: Verdict) -> str:
    if verdict.failure:
        return f"bfloat16 could not be checked ({verdict.failure}); amp: force uses it nevertheless"
    if not verdict.judged:
        return "not checked: the network's answer is not finite in float32 either"
    if verdict.elsewhere:
        return "bfloat16 is wrong in another process of this training"
    if verdict.trusted:  # without its numbers, which differ between shapes
        return "compared with float32, and no farther from it than rounding explains"
    whole = f"the network's {verdict.what} is {verdict.error:.2g} off, where rounding explains {verdict.bound:.2g}"
    layer = "no single layer is wrong by itself"
    if verdict.layer:
        layer = (
            f"layer {verdict.layer} is {verdict.layer_error:.2g} off, where rounding explains {verdict.layer_bound:.2g}"
        )
    return f"bfloat16 is wrong on this device: {layer}; {whole} (amp: force uses it nevertheless)"
