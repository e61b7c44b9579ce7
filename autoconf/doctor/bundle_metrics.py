"""Do the bundle's own metrics tell the truth? Logits of known masks go through its postprocessing and its handlers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ignite.engine import Engine

from autoconf.doctor.checks import Outcome, Subject
from autoconf.doctor.opened import config, is_3d

LOGIT = 20.0  # its sigmoid is 1 to nine digits
TOLERANCE = 1e-5
WHERE = (("train", "validate#"), ("evaluate", ""))  # config, and what its ids begin with
Case = tuple[torch.Tensor, torch.Tensor]  # prediction and truth, (C, ...) float of 0 and 1


def means(subject: Subject, cases: Sequence[Case]) -> dict[str, float]:
    """The mean that each metric of train.yaml and evaluate.yaml reports of the cases, one batch each."""
    found: dict[str, float] = {}
    for name, prefix in WHERE:
        parser = config(subject, name, device="cpu")
        batches = [{"pred": (2 * pred - 1) * LOGIT, "label": truth} for pred, truth in cases]
        finish = parser.get_parsed_content(f"{prefix}postprocessing") if prefix else _threshold
        outputs = [[finish(batch)] for batch in batches]
        for key in ("key_metric", "additional_metrics"):
            if f"{prefix}{key}" in parser:
                handlers = parser.get_parsed_content(f"{prefix}{key}")
                engine = Engine(lambda _, batch: batch)
                for metric, handler in handlers.items():
                    handler.attach(engine, metric)
                values = engine.run(outputs, max_epochs=1).metrics
                found |= {f"{name}.yaml {m}": float(torch.as_tensor(values[m]).mean()) for m in handlers}
    return found


def _threshold(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """evaluate.yaml's postprocessing writes files and needs a scan; its metrics see masks of 0 and 1."""
    return batch | {"pred": (batch["pred"] > 0).float()}


def masks(subject: Subject) -> tuple[torch.Tensor, torch.Tensor]:
    """A tumour and nothing, each (C, ...) with as many channels as the network answers in."""
    axes = 3 if is_3d(subject) else 2
    channels = int(config(subject, "train", device="cpu").get_parsed_content("network_def#out_channels"))
    tumour = torch.zeros(channels, *[16] * axes)
    tumour[(slice(None), *[slice(4, 10)] * axes)] = 1
    return tumour, torch.zeros_like(tumour)


def perfect_and_missed(subject: Subject) -> Outcome:
    tumour, nothing = masks(subject)
    perfect, missed = means(subject, [(tumour, tumour)]), means(subject, [(nothing, tumour)])
    wrong = [name for name in perfect if abs(perfect[name] - 1) > TOLERANCE or abs(missed[name]) > TOLERANCE]
    said = ", ".join(f"{name} {perfect[name]:.4g} and {missed[name]:.4g}" for name in wrong or perfect)
    return Outcome(said, not wrong)


def emptied(subject: Subject) -> Outcome:
    """Of two perfect cases one prediction is emptied: the mean falls to a half, and no case drops out of it."""
    tumour, nothing = masks(subject)
    return _halves(means(subject, [(tumour, tumour), (nothing, tumour)]))


def false_tumour(subject: Subject) -> Outcome:
    """MONAI's DiceMetric leaves a case with empty truth out of its mean, unless told otherwise."""
    tumour, nothing = masks(subject)
    return _halves(means(subject, [(tumour, tumour), (tumour, nothing)]), "set ignore_empty: false")


def _halves(found: dict[str, float], cure: str = "") -> Outcome:
    wrong = {name: value for name, value in found.items() if not abs(value - 0.5) <= TOLERANCE}
    said = ", ".join(f"{name} {value:.4g}" for name, value in (wrong or found).items())
    return Outcome(said, not wrong, cure if wrong else "")
