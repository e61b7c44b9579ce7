"""The Medical Segmentation Decathlon, Task01_BrainTumour: 4D files with all contrasts, listed in dataset.json."""

from __future__ import annotations

import os
from typing import Any

from autoconf.errors import AutoconfError
from autoconf.inspect.brats import CONTRASTS
from autoconf.inspect.layouts.dataset_json import DatasetJson, read_dataset_json
from autoconf.inspect.scans import Found, Scan


def find(root: str) -> Found | None:
    """The scans that root/dataset.json lists; its `test` has no masks, so those are unlabelled."""
    known = read_dataset_json(root)
    listed = known.content.get("training") if known else None
    if not isinstance(listed, list) or not listed or not all(isinstance(i, dict) and "image" in i for i in listed):
        return None
    assert known is not None
    if None in known.channels:
        missing = CONTRASTS[known.channels.index(None)]
        raise AutoconfError(f"{known.path}: none of its channels is {missing}, so no scan is complete. Correct a name.")
    test = [{"image": path} for path in known.content.get("test", []) if isinstance(path, str)]
    scans = [_scan(root, item, known) for item in (*listed, *test)]
    return Found("decathlon", scans, regions=known.regions, meaning=known.meaning)


def _scan(root: str, item: dict[str, Any], known: DatasetJson) -> Scan:
    image = os.path.normpath(os.path.join(root, item["image"]))
    label = os.path.normpath(os.path.join(root, item["label"])) if item.get("label") else None
    case = os.path.basename(image).removesuffix(".gz").removesuffix(".nii")
    channels = tuple(channel for channel in known.channels if channel is not None)
    return Scan(case, case, (image,) * len(CONTRASTS), label, channels, family="decathlon")
