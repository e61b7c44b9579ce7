"""Read a dataset.json of the Medical Segmentation Decathlon or of nnU-Net, which grew out of it.

People edit these files by hand. Whatever they hold, it is understood or refused with one line, never passed over.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any

from autoconf.data.brats import MODALITIES
from autoconf.data.labels import scheme_of_names
from autoconf.data.scans import first_twice, modality_of
from autoconf.errors import AutoconfError

FORMS = {  # what a part of the file must be, for the message
    "channels": 'its channel_names (or modality) are not of the form {"0": "FLAIR", "1": "T1", ...}',
    "labels": 'its labels are no names with numbers, as {"background": 0, "edema": 1} or {"whole tumor": [1, 2]}',
}
CURE = "Correct it, or move it away."
NUMBER = re.compile("[0-9]{1,6}")  # as a key, where JSON has only text


@dataclass(frozen=True)
class DatasetJson:
    """What the file says. `channels`: for each entry of MODALITIES its channel, None where there is none."""

    path: str
    content: dict[str, Any]
    channels: tuple[int | None, ...]
    regions: dict[str, list[int]]
    meaning: dict[int, str]  # of every label value


def read_dataset_json(root: str) -> DatasetJson | None:
    """The dataset.json in root, or None if there is none or it is about something else.

    Raises AutoconfError, naming what is wrong, if its channels or labels cannot be those of brain tumours.
    """
    path = os.path.join(root, "dataset.json")
    if not os.path.isfile(path):
        return None
    content = read_json(path)
    keys = set(content) if isinstance(content, dict) else set()
    if "labels" not in keys or not keys & {"channel_names", "modality"}:
        if not os.path.isdir(os.path.join(root, "imagesTr")):
            return None
        raise AutoconfError(f"{path}: beside imagesTr it must hold labels, and channel_names or modality. {CURE}")
    names = content.get("channel_names") or content.get("modality")
    return DatasetJson(path, content, _channels(path, names), *_labels(path, content["labels"]))


def read_json(path: str) -> Any:
    """What a JSON file holds. Raises AutoconfError, also for a name that is there twice: json would keep the last."""
    try:
        with open(path, encoding="utf-8-sig") as stream:  # Windows editors begin a file with a mark
            return json.load(stream, object_pairs_hook=_each_once)
    except RecursionError:
        raise AutoconfError(f"{path}: is nested too deep. {CURE}") from None
    except ValueError as error:
        raise AutoconfError(f"{path}: not readable JSON ({error}). {CURE}") from None


def texts(value: Any) -> list[str] | None:
    """The value if it is a list of texts that are not empty, otherwise None."""
    good = isinstance(value, list) and all(isinstance(item, str) and item for item in value)
    return value if good else None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = first_twice(name for name, _ in pairs)
    if twice is not None:
        raise ValueError(f"'{twice}' is there twice")
    return dict(pairs)


def _channels(path: str, names: Any) -> tuple[int | None, ...]:
    if not isinstance(names, dict) or texts([*names.values()]) is None:
        raise AutoconfError(f"{path}: {FORMS['channels']}. {CURE}")
    meant: dict[str, int] = {}
    for number, name in names.items():
        if not NUMBER.fullmatch(number):
            raise AutoconfError(f"{path}: its channel '{number}' is no number from 0 on. {CURE}")
        contrast = modality_of(name)
        if contrast in meant:
            raise AutoconfError(f"{path}: its channels {meant[contrast]} and {number} are both {contrast}. {CURE}")
        if contrast:
            meant[contrast] = int(number)
    if not meant:
        listed = ", ".join(names.values())
        raise AutoconfError(
            f"{path}: none of its channels ({listed}) is one of {', '.join(MODALITIES)}. Correct a name."
        )
    if len(set(meant.values())) < len(meant):  # "1" and "01"
        raise AutoconfError(f"{path}: one of its channels has two names. {CURE}")
    return tuple(meant.get(contrast) for contrast in MODALITIES)


def _labels(path: str, labels: Any) -> tuple[dict[str, list[int]], dict[int, str]]:
    """wt, tc, et -> values, and value -> name. The Decathlon writes "1": "edema", nnU-Net "edema": 1 or [1, 2, 3]."""
    if not isinstance(labels, dict):
        raise AutoconfError(f"{path}: {FORMS['labels']}. {CURE}")
    names: dict[str, list[int]] = {}
    for key, value in labels.items():
        name, values = key, value if isinstance(value, list) else [value]
        if isinstance(value, str):
            name, values = value, [int(key)] if NUMBER.fullmatch(key) else []
        if not values or not all(map(_is_label, values)):
            raise AutoconfError(f"{path}: {FORMS['labels']} ('{key}'). {CURE}")
        names.setdefault(name, []).extend(map(int, values))
    named = {name: values for name, values in names.items() if values != [0] and name.lower() != "ignore"}
    try:
        scheme = scheme_of_names(named)
    except AutoconfError as error:
        raise AutoconfError(f"{path}: {error}") from None
    return {region: list(values) for region, values in scheme.regions.items()}, scheme.meaning


def _is_label(value: Any) -> bool:
    """A whole number of at least 0; 1.0 is one too, True is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0 and value % 1 == 0
