"""Can the network learn what it should, and nothing that it should not? Tiny sizes, on the CPU."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import ResizeWithPadOrCrop

from autoconf.doctor.bundle_data import read_saved
from autoconf.doctor.checks import Outcome, Subject
from autoconf.doctor.opened import empty_input, items, preprocessed, small, small_size
from autoconf.doctor.samples import sample
from autoconf.score.metrics import overlap

STEPS = 400  # at most, to overfit one case
LEARNED = 0.95  # Dice
RATE, IMAGE_RATE = 1.0e-3, 1.0e-2  # of learning; a small U-Net under Dice loss alone needs more
SHUFFLED_CASES, SHUFFLED_STEPS = 8, 120
MARGIN = 0.1  # Dice above the mean mask, which knows nothing of the image
FLAT = 1e-3  # how closely a loss must meet its formula
FRESH = 0.5  # how far a fresh network's loss may be from that of p = 0.5 everywhere
SMOOTH = 1e-5  # MONAI's, above and below the fraction of its Dice loss
Pair = tuple[torch.Tensor, torch.Tensor]  # image and label, (C, ...) floats


def tiny(subject: Subject, name: str = "train", training: int = 1, validation: int = 1) -> ConfigParser:
    """A config at a small size on a few cases."""
    cases = sample(subject, training, validation, **small_size(subject))
    return small(subject, name, **cases, dropout=0.0)


def pairs(parser: ConfigParser, which: str) -> list[Pair]:
    """The preprocessed cases of a dataset (`train` or `validate`), padded or cropped to what the network takes."""
    size = parser.get_parsed_content("patch_size") if "patch_size" in parser else None
    found = []
    for _, ready in preprocessed(parser, which):
        both = [torch.as_tensor(ready[key]).float() for key in ("image", "label")]
        image, label = both if size is None else [torch.as_tensor(ResizeWithPadOrCrop(size)(part)) for part in both]
        found.append((image.contiguous(), label.contiguous()))
    return found


def learn(parser: ConfigParser, cases: Sequence[Pair], steps: int, until: float = 2.0) -> tuple[Any, int]:
    """Train a fresh network on the cases in turn with the bundle's own loss; stops early at a Dice of `until`.

    Returns the network in evaluation mode, and the steps that it took.
    """
    network = parser.get_parsed_content("network_def")
    loss_function = parser.get_parsed_content("train#trainer#loss_function")
    rate = RATE if cases[0][0].ndim == 4 else IMAGE_RATE
    optimiser = torch.optim.AdamW(network.parameters(), rate)
    for step in range(1, steps + 1):
        image, label = cases[step % len(cases)]
        network.train()
        optimiser.zero_grad()
        loss_function(network(image[None]), label[None]).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        if step % 10 == 0 and until <= 1 and score(network, *cases[0]) > until:
            break
    return network.eval(), step


def score(network: Any, image: torch.Tensor, label: torch.Tensor) -> float:
    """Dice of the first channel."""
    network.eval()
    with torch.no_grad():
        pred = finest(network(image[None]), label[None])[0, 0] > 0
    return overlap(pred.numpy(), label[0].numpy() > 0).dice


def finest(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The prediction itself; of a deeply supervised network, whose heads are stacked, the first."""
    return output if output.ndim == target.ndim else output[:, 0]


def initial_loss(subject: Subject) -> Outcome:
    """The loss of logits 0 (p = 0.5 everywhere) and of a fresh network's logits, against formulae in numpy.

    With f the share of foreground, logits of 0 have Dice loss 1 - f / (0.5 + f) and cross entropy ln 2.
    """
    parser = tiny(subject)
    loss_function = parser.get_parsed_content("train#trainer#loss_function")
    image, label = (part[None] for part in pairs(parser, "train")[0])
    with torch.no_grad():
        logits = finest(parser.get_parsed_content("network_def").eval()(image), label)
        fresh, flat = (float(loss_function(z, label)) for z in (logits, torch.zeros_like(logits)))
    weight = float(parser.get_parsed_content("dice_weight")) if "dice_weight" in parser else 1.0
    shares = label.numpy().mean(axis=tuple(range(2, label.ndim))).mean(axis=0)
    at_half = weight * float(np.mean(1 - shares / (0.5 + shares))) + (1 - weight) * math.log(2)
    formula = loss_of(logits.numpy(), label.numpy(), weight)
    passed = abs(flat - at_half) <= FLAT and abs(fresh - formula) <= FLAT and abs(fresh - at_half) <= FRESH
    measured = f"p = 0.5: {flat:.4f} (formula {at_half:.4f}); fresh: {fresh:.4f} (formula {formula:.4f})"
    return Outcome(measured, passed, f"{weight:g} Dice + {1 - weight:g} BCE, foreground {float(shares.mean()):.3f}")


def loss_of(logits: np.ndarray, label: np.ndarray, weight: float) -> float:
    """weight * Dice loss + (1 - weight) * binary cross entropy of one (1, C, ...) sample, mean over the channels."""
    z, y = logits.astype(np.float64), label.astype(np.float64)
    p = 1 / (1 + np.exp(-z))
    axes = tuple(range(2, z.ndim))
    dice = (2 * (p * y).sum(axes) + SMOOTH) / (p.sum(axes) + y.sum(axes) + SMOOTH)
    return float(weight * (1 - dice).mean() + (1 - weight) * (np.logaddexp(0, z) - y * z).mean())


def zero_input(subject: Subject) -> Outcome:
    """A crop of nothing, without tumour: output, loss and gradients are numbers."""
    parser = small(subject, "train")
    nothing = empty_input(subject, parser)
    network = parser.get_parsed_content("network_def").train()
    output = network(nothing)
    target = torch.zeros_like(finest(output, nothing))
    loss = parser.get_parsed_content("train#trainer#loss_function")(output, target)
    loss.backward()
    slopes = [p.grad for p in network.parameters() if p.grad is not None]
    finite = all(bool(torch.isfinite(numbers).all()) for numbers in (output, loss, *slopes))
    what = f"{len(slopes)} finite gradients" if finite else "or a gradient, is not finite"
    low, high = (float(edge) for edge in output.detach().aminmax())
    return Outcome(f"output {low:.3g} to {high:.3g}, loss {float(loss.detach()):.4f}, {what}", finite)


def overfit(subject: Subject) -> Outcome:
    """A network that cannot overfit one case has a broken loss, label, optimiser or gradient."""
    parser = tiny(subject)
    case = max(pairs(parser, "train"), key=lambda pair: float(pair[1].sum()))
    if not case[1].any():
        return Outcome("its mask is empty once it is prepared", False)
    network, steps = learn(parser, [case], STEPS, until=LEARNED)
    dice = score(network, *case)
    return Outcome(f"Dice {dice:.3f} after {steps} steps", dice > LEARNED)


def shuffled(subject: Subject) -> Outcome:
    """Every image gets the mask of the next case. What is then learned cannot beat the mean mask on cases not trained
    on; if it does, validation sees what it should not.
    """
    parser = tiny(subject, training=SHUFFLED_CASES, validation=3)
    cases, held_out = pairs(parser, "train"), pairs(parser, "validate")
    if len(cases) < 3:
        return Outcome(f"{len(cases)} training cases are too few to exchange masks", None)
    exchanged = [(image, cases[(i + 1) % len(cases)][1]) for i, (image, _) in enumerate(cases)]
    network, _ = learn(parser, exchanged, SHUFFLED_STEPS)
    found = float(np.mean([score(network, *case) for case in held_out]))
    atlas = mean_mask_dice([label for _, label in cases], [label for _, label in held_out])
    return Outcome(f"Dice {found:.3f}; the mean mask {atlas:.3f}", found <= atlas + MARGIN, f"margin {MARGIN}")


def mean_mask_dice(training: Sequence[torch.Tensor], held_out: Sequence[torch.Tensor]) -> float:
    """Dice on held-out masks of the training masks' mean, cut where it fits the training masks best."""
    masks = [label[0].numpy() > 0 for label in training]
    mean = np.mean(masks, axis=0)
    cut = max(
        np.arange(0.05, 0.95, 0.05), key=lambda c: float(np.mean([overlap(mean > c, mask).dice for mask in masks]))
    )
    return float(np.mean([overlap(mean > cut, label[0].numpy() > 0).dice for label in held_out]))


def same_mask(subject: Subject) -> Outcome:
    """A fresh network's mask by the bundle's inference, out of the file that it saved, and by TorchScript."""
    parser = tiny(subject, "inference")
    network = parser.get_parsed_content("network_def").eval()
    weights = os.path.join(tempfile.mkdtemp(dir=subject.scratch), "model.pt")
    torch.save(network.state_dict(), weights)
    outs = [tempfile.mkdtemp(dir=subject.scratch) for _ in range(2)]
    known: Any = parser.config
    overrides = {key: known[key] for key in ("datalist", "dataset_dir") if key in known}
    bundle = small(subject, "inference", checkpoint=weights, output_dir=outs[0], dropout=0.0, **overrides)
    evaluator = bundle.get_parsed_content("evaluator")
    evaluator.run()
    eager = np.asarray(evaluator.state.output[0]["pred"])[0] > 0
    traced = small(subject, "inference", output_dir=outs[1], dropout=0.0, **overrides)
    _by_torchscript(subject, traced, network)
    saved = [read_saved(out)[0] > 0 for out in outs]
    differ = [int(np.count_nonzero(mask != saved[0])) for mask in (eager, saved[1])]
    measured = f"{differ[0]} voxels differ in the file, {differ[1]} by TorchScript, of {int(saved[0].sum())} marked"
    return Outcome(measured, not any(differ) and bool(saved[0].any()) and not bool(saved[0].all()))


def _by_torchscript(subject: Subject, parser: ConfigParser, network: Any) -> None:
    """Segment the first case with the traced network and the config's own steps, which write the file."""
    with torch.no_grad():
        script = torch.jit.trace(network, empty_input(subject, parser))
        ready = dict(parser.get_parsed_content("preprocessing")(dict(items(parser, "dataset")[0])))
        image = torch.as_tensor(ready["image"]).float()[None]
        ready["pred"] = parser.get_parsed_content("inferer")(image, script)[0]
    parser.get_parsed_content("postprocessing")(ready)
