"""The Medical Segmentation Decathlon, Task01_BrainTumour: 4D files with all modalities, listed in dataset.json."""

from __future__ import annotations

import os
from typing import Any

from autoconf.data.brats import MODALITIES
from autoconf.data.layouts import nnunet
from autoconf.data.layouts.dataset_json import CURE, DatasetJson, read_dataset_json
from autoconf.data.scans import LayoutScans, Scan
from autoconf.errors import AutoconfError


def find(root: str) -> LayoutScans | None:
    """The scans that root/dataset.json lists; its `test` has no masks, so those are unlabelled.

    nnU-Net 1 has such a list too, of names without _0000: where these are no files, the folder is nnU-Net's.
    """
    known = read_dataset_json(root)
    if known is None or "training" not in known.content:
        return None
    if nnunet.find(root) and not any(os.path.isfile(path) for path in _loosely_listed(root, known)):
        return None
    if None in known.channels:
        missing = MODALITIES[known.channels.index(None)]
        raise AutoconfError(f"{known.path}: none of its channels is {missing}, so no scan is complete. Correct a name.")
    test = known.content.get("test")
    test = [] if test is None else test
    if isinstance(test, list):
        test = [{"image": item} if isinstance(item, str) else item for item in test]
    items = _items(known, "training", known.content["training"]) + _items(known, "test", test)
    if not items:
        raise AutoconfError(f"{known.path}: its training lists no scan. {CURE}")
    scans = [_scan(root, item, known) for item in items]
    return LayoutScans("decathlon", scans, regions=known.regions, meaning=known.meaning)


def _loosely_listed(root: str, known: DatasetJson) -> list[str]:
    """The images of `training`, as far as it has the form that `_items` asks for."""
    listed = known.content["training"]
    items = [item.get("image") for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    return [os.path.join(root, image) for image in items if isinstance(image, str)]


def _items(known: DatasetJson, part: str, items: Any) -> list[dict[str, Any]]:
    """The entries of `training` or `test`. Raises AutoconfError for one that is no {"image": path, "label": path}."""
    form = '{"image": "imagesTr/x.nii.gz", "label": "labelsTr/x.nii.gz"}'
    if not isinstance(items, list):
        raise AutoconfError(f"{known.path}: its {part} is no list of {form}. {CURE}")
    for number, item in enumerate(items):
        image, label = (item.get("image"), item.get("label")) if isinstance(item, dict) else (None, None)
        if not isinstance(image, str) or not image or not isinstance(label, (str, type(None))):
            raise AutoconfError(f"{known.path}: its {part}[{number}] is not of the form {form}. {CURE}")
    return items


def _scan(root: str, item: dict[str, Any], known: DatasetJson) -> Scan:
    image = os.path.normpath(os.path.join(root, item["image"]))
    label = os.path.normpath(os.path.join(root, item["label"])) if item.get("label") else None
    case = os.path.basename(image).removesuffix(".gz").removesuffix(".nii")
    channels = tuple(channel for channel in known.channels if channel is not None)
    return Scan(case, case, (image,) * len(MODALITIES), label, channels, family="decathlon")
