"""Read a dataset.json of the Medical Segmentation Decathlon or of nnU-Net, which grew out of it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from autoconf.errors import AutoconfError
from autoconf.inspect.brats import CONTRASTS
from autoconf.inspect.labels import scheme_of_names
from autoconf.inspect.scans import contrast_of


@dataclass(frozen=True)
class DatasetJson:
    """What the file says. `channels`: for each entry of CONTRASTS its channel, None where there is none."""

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
    try:
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream)
    except ValueError as error:
        raise AutoconfError(f"{path}: not readable JSON ({error}). Correct it, or move it away.") from None
    names = content.get("channel_names") or content.get("modality") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not isinstance(content.get("labels"), dict):
        return None
    try:
        return DatasetJson(path, content, _channels(path, names), *_labels(path, content["labels"]))
    except (TypeError, ValueError, OverflowError):
        raise AutoconfError(f"{path}: its channels or labels are no numbers. Correct them.") from None


def _channels(path: str, names: dict[str, Any]) -> tuple[int | None, ...]:
    meant = {contrast_of(str(name)): int(channel) for channel, name in names.items()}
    if not set(CONTRASTS) & set(meant):
        listed = ", ".join(map(str, names.values()))
        raise AutoconfError(
            f"{path}: none of its channels ({listed}) is one of {', '.join(CONTRASTS)}. Correct a name."
        )
    return tuple(meant.get(contrast) for contrast in CONTRASTS)


def _labels(path: str, labels: dict[str, Any]) -> tuple[dict[str, list[int]], dict[int, str]]:
    """wt, tc, et -> values, and value -> name. The Decathlon writes "1": "edema", nnU-Net "edema": 1 or [1, 2, 3]."""
    names: dict[str, list[int]] = {}
    try:
        for key, value in labels.items():
            name, values = (value, [int(key)]) if isinstance(value, str) else (key, value)
            names[str(name)] = [int(v) for v in (values if isinstance(values, list) else [values])]
    except (TypeError, ValueError):
        raise AutoconfError(f"{path}: its labels are no names with numbers. Correct them.") from None
    named = {name: values for name, values in names.items() if values != [0] and name.lower() != "ignore"}
    try:
        scheme = scheme_of_names(named)
        return {region: list(values) for region, values in scheme.regions.items()}, scheme.meaning
    except AutoconfError as error:
        raise AutoconfError(f"{path}: {error}") from None
