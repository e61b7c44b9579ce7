"""A bundle's configs, read as `monai.bundle run` reads them, for the process that belongs to the bundle.

Only ids of the configs are used (`train#preprocessing`, `postprocessing`, ...), never the bundle's code by
its name. torch and monai are imported here: never import this module from the command line's own process.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser

from autoconf.doctor.checks import Subject

SMALL_PATCHES = (32, 64, 96)  # voxels; the first one that the network takes is used where size does not matter
SMALL_SPACING = 5.625  # mm, the voxels of a phantom of 32; a brain is about 24 x 30 x 24 of them
SMALL_IMAGE = 64  # pixels
QUIET = {"num_workers": 0, "cache_rate": 0.0, "amp": False}


def config(subject: Subject, name: str, **overrides: Any) -> ConfigParser:
    """configs/NAME.yaml of the bundle, its plan on top, and overrides (`a#b` or plain keys) on top of that.

    Overrides of knobs that the config does not have are left out, as both kinds of bundle share this module.
    Resolve an id with `.get_parsed_content(id)`; all ids of one parser share what they refer to.
    """
    if subject.bundle not in sys.path:
        sys.path.insert(0, subject.bundle)
    configs = os.path.join(subject.bundle, "configs")
    plan = _yaml(subject.plan) if subject.plan else {}
    network = os.path.join(configs, "networks", f"{plan.get('network_name')}.yaml")  # if it is not the bundle's own
    parser = ConfigParser()
    parser.read_config([os.path.join(configs, f"{name}.yaml"), *([network] if os.path.isfile(network) else [])])
    parser.read_meta(os.path.join(configs, "metadata.json"))
    known: Any = parser.config
    for key, value in {**plan, **QUIET, **overrides}.items():
        if key.split("#")[0].split("::")[0] in known:
            parser[key] = value
    return parser


def small(subject: Subject, name: str, **overrides: Any) -> ConfigParser:
    """The same at a size that a CPU computes in a moment, on the CPU."""
    return config(subject, name, **{**small_size(subject), "device": "cpu", **overrides})


def items(parser: ConfigParser, which: str) -> list[dict[str, Any]]:
    """The items of a dataset of the config before any transform: which is train#dataset, dataset, ..."""
    return list(parser.get_parsed_content(f"{which}#data"))


def preprocessed(parser: ConfigParser, which: str = "validate") -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each item of a dataset (`train` or `validate`), and what it is after the preprocessing that validates."""
    prepare = parser.get_parsed_content("validate#preprocessing")
    return [(item, dict(prepare(dict(item)))) for item in items(parser, f"{which}#dataset")]


def load_weights(network: Any, path: str) -> None:
    """Raises RuntimeError if the weights are those of another network or plan."""
    weights = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(weights.get("model", weights))


def empty_input(subject: Subject, parser: ConfigParser) -> torch.Tensor:
    """(1, C, ...) zeros of the size that the network of a config is given."""
    size = parser.get_parsed_content("patch_size") if is_3d(subject) else [parser.get_parsed_content("image_size")] * 2
    return torch.zeros(1, channels(subject), *size)


@functools.lru_cache(maxsize=8)
def small_size(subject: Subject) -> dict[str, Any]:
    """Overrides for tiny patches or images: the first of SMALL_PATCHES that the network answers in its own size."""
    if not is_3d(subject):
        return {"image_size": SMALL_IMAGE}
    for side in SMALL_PATCHES:
        overrides = {"patch_size": [side] * 3, "target_spacing": [SMALL_SPACING * 32 / side] * 3}
        if _takes(subject, overrides, side):
            return overrides
    raise ValueError(f"the network takes no patch of {SMALL_PATCHES} voxels")


def _takes(subject: Subject, overrides: dict[str, Any], side: int) -> bool:
    try:
        network = config(subject, "inference", device="cpu", **overrides).get_parsed_content("network_def").eval()
        with torch.no_grad():
            output = network(torch.zeros(1, channels(subject), side, side, side))
    except Exception:  # noqa: BLE001 - networks refuse a size in many ways
        return False
    return output.shape[-1] == side


def is_3d(subject: Subject) -> bool:
    """Whether the bundle takes volumes."""
    return "patch_size" in _yaml(os.path.join(subject.bundle, "configs", "train.yaml"))


def channels(subject: Subject) -> int:
    """Channels of the network's input, as the metadata say."""
    return int(image_format(subject)["num_channels"])


def image_format(subject: Subject) -> dict[str, Any]:
    """What the metadata say about the network's input: num_channels, channel_def, value_range, ..."""
    with open(os.path.join(subject.bundle, "configs", "metadata.json"), encoding="utf-8") as stream:
        return json.load(stream)["network_data_format"]["inputs"]["image"]


def _yaml(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as stream:
        return yaml.safe_load(stream) or {}
