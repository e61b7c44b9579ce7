"""What does a trained network look at? Measurements on the validation cases of fold 0, with its own plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser

from autoconf.doctor.bundle_data import items
from autoconf.doctor.checks import Outcome, Subject
from autoconf.doctor.opened import config, image_format
from autoconf.doctor.samples import sample
from autoconf.score.metrics import overlap

CASES = 3  # whose masks are predicted anew for each question
BLOCKS = ("TransformerBlock", "SwinTransformerBlock")  # classes of MONAI whose output can be their input


def contrasts_used(subject: Subject) -> Outcome:
    """Dice with each contrast replaced by 0, its mean after z-scoring, in turn."""
    parser, network = trained(subject)
    names = image_format(subject)["channel_def"]
    whole = predict(parser, network)
    said, unused = [f"all {mean_dice(whole):.3f}"], []
    for place in range(len(names)):
        without = predict(parser, network, drop=place)
        said.append(f"without {names[str(place)]} {mean_dice(without):.3f}")
        if all(np.array_equal(a[0], b[0]) for a, b in zip(whole, without, strict=True)):
            unused.append(names[str(place)])
    note = f"never looked at: {', '.join(unused)}" if unused else "on the network's own voxels"
    return Outcome(f"Dice {', '.join(said)} (n = {len(whole)})", not unused, note)


def transformer_share(subject: Subject) -> Outcome:
    """Dice with each transformer block handing on what it was given."""
    parser, network = trained(subject)
    blocks = [module for module in network.modules() if type(module).__name__ in BLOCKS]
    if not blocks:
        return Outcome("the network has no transformer", None)
    whole = mean_dice(predict(parser, network))
    hooks = [block.register_forward_hook(lambda _, given, __: given[0]) for block in blocks]
    without = mean_dice(predict(parser, network))
    for hook in hooks:
        hook.remove()
    return Outcome(
        f"Dice {whole:.3f}, {without:.3f} with {len(blocks)} blocks as identity", True, "a measurement, not a verdict"
    )


def trained(subject: Subject) -> tuple[ConfigParser, Any]:
    """train.yaml with the plan, and its network with the checkpoint's weights, on the config's device.

    Raises RuntimeError if the weights are those of another network or plan.
    """
    cases = 1 if subject.quick else CASES
    size = {} if "image_size" not in config(subject, "train") else _image_size(subject)
    parser = config(subject, "train", **sample(subject, 1, cases, **size), dropout=0.0, amp=True)
    network = parser.get_parsed_content("network")
    weights = torch.load(subject.checkpoint, map_location="cpu", weights_only=True)
    network.load_state_dict(weights.get("model", weights))
    return parser, network.eval()


def _image_size(subject: Subject) -> dict[str, Any]:
    return {"image_size": config(subject, "train").get_parsed_content("image_size")}


def predict(parser: ConfigParser, network: Any, drop: int | None = None) -> list[tuple[Any, Any]]:
    """(predicted, true) mask of the first region for each validation case, on the network's own voxels."""
    prepare, inferer = (parser.get_parsed_content(f"validate#{key}") for key in ("preprocessing", "inferer"))
    device = next(network.parameters()).device
    found = []
    for item in items(parser, "validate#dataset"):
        ready = prepare(dict(item))
        image = torch.as_tensor(ready["image"]).float()[None].clone().to(device)
        if drop is not None:
            image[:, drop] = 0
        with torch.no_grad():
            logits = inferer(image, network).cpu()
        found.append((logits[0, 0].numpy() > 0, np.asarray(ready["label"])[0] > 0))
    return found


def mean_dice(masks: list[tuple[Any, Any]]) -> float:
    return float(np.mean([overlap(pred, truth).dice for pred, truth in masks]))
