"""Write a plan's values into the configs of a bundle, as a person would by hand: comments and layout stay."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from autoconf.bundle.overrides import flow
from autoconf.errors import AutoconfError

ALONE = ("train", "evaluate", "inference", "pseudo_label")  # configs that stand alone; the others lie on top of these
SIZES = ("patch_size", "image_size")  # of what the network is given


def freeze(files: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, str]:
    """Config texts with the plan's values in place of their own. files: name -> text of the configs that stand alone.

    values: key (`a::b` for part b of a) -> value. Raises AutoconfError for a key that none of them has.
    """
    texts, found = dict(files), set()
    for name in texts:
        content = yaml.safe_load(texts[name])
        for key, value in values.items():
            changed = replaced(texts[name], key.split("::"), value)
            if changed is not None:
                texts[name] = changed
                found.add(key)
                _put(content, key.split("::"), value)
        if not _reads_as(texts[name], content):
            raise AutoconfError(f"{name}: the plan's values cannot be written into it. Write them by hand.")
    missing = [key for key in values if key not in found]
    if missing:
        raise AutoconfError(f"the plan's '{missing[0]}' is in no config that stands alone. Take it out of the plan.")
    return texts


def _put(content: Any, keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        content = content[key]
    content[keys[-1]] = value


def _reads_as(text: str, content: Any) -> bool:
    try:
        return bool(yaml.safe_load(text) == content)
    except yaml.YAMLError:
        return False


def replaced(text: str, keys: Sequence[str], value: Any) -> str | None:
    """The YAML text with another value at that place; None if there is no such place.

    Only the value's own characters are exchanged. Raises AutoconfError where the value is a block of several lines.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for key in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for name, value in pairs if name.value == key), None)
        if node is None:
            return None
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        raise AutoconfError(f"'{'::'.join(keys)}' is a block of several lines, which no plan can replace.")
    start, end = node.start_mark.index, node.end_mark.index
    new = flow([value])[1:-1]  # quoted as within [] and {}, where it may lie
    return text[:start] + new + _realigned(text[end:], len(new) - (end - start))


def _realigned(rest: str, longer: int) -> str:
    """What follows a value: its comment stays in its column while there is room."""
    line, newline, others = rest.partition("\n")
    bare = line.lstrip(" ")
    if bare.startswith("#"):
        line = " " * max(1, len(line) - len(bare) - longer) + bare
    return line + newline + others


def sized(metadata: str, values: Mapping[str, Any], is_3d: bool) -> str:
    """metadata.json's text with the spatial shapes of the plan's patch (3D) or image (2D) size."""
    size = next((values[key] for key in SIZES if key in values), None)
    if size is None:
        return metadata
    shape = list(size) if is_3d else [size, size]
    content = json.loads(metadata)
    old = content["network_data_format"]["inputs"]["image"]["spatial_shape"]
    changed = metadata.replace(f'"spatial_shape": {json.dumps(old)}', f'"spatial_shape": {json.dumps(shape)}')
    formats = json.loads(changed)["network_data_format"]
    if any(part["spatial_shape"] != shape for side in formats.values() for part in side.values()):
        raise AutoconfError(
            "metadata.json: its spatial shapes cannot be changed. Write each as [64, 80, 64] in one line."
        )
    return changed


def read_texts(folder: str) -> dict[str, str]:
    """`configs/train.yaml` and so on -> text, of the configs that stand alone."""
    texts = {}
    for name in ALONE:
        path = os.path.join("configs", f"{name}.yaml")
        if os.path.exists(os.path.join(folder, path)):
            with open(os.path.join(folder, path), encoding="utf-8", newline="") as stream:
                texts[path] = stream.read()
    return texts
