"""The data as long work may see them: a checked datalist without its testing list, and cases prepared once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoconf.bundle.overrides import Choice
from autoconf.bundle.settings import Bundle
from autoconf.data.split import TESTING
from autoconf.errors import AutoconfError

MASKS = "mask_dir"  # a key of the bundle for images, whose masks may lie apart from the datalist
CACHE = "cache_dir"  # a key of the bundle for volumes


def read_sealed(work: str, to: Bundle, has_masks: bool) -> dict[str, Any]:
    """WORK/datalist.json with its paths' root made absolute, and nothing in its testing list.

    has_masks: whether masks are given apart from the list. Raises AutoconfError for a list that is none, of other data
    than the bundle's, without masks or folds, or in whose training list stands a test case, or another scan of a test
    patient: whoever chose by that would have chosen for the test.
    """
    path = os.path.join(work, "datalist.json")
    try:
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream)
        kind, training = content["kind"], content["training"]
        bare = [item["case"] for item in training if not item.get("label")]
        if not all(type(item.get("fold")) is int and isinstance(item["case"], str) for item in training):
            raise ValueError("a training case has no name or no fold")
        tested = {name for item in content.get(TESTING) or [] for name in _names(item)}
        leaked = [item["case"] for item in training if tested & _names(item)]
        root = os.path.abspath(content.get("dataset_dir") or os.path.dirname(path))
    except FileNotFoundError:
        raise AutoconfError(f"{path} is not there. Make it with: autoconf inspect DATA --out {work}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AutoconfError(
            f"{path} is not what inspect writes ({type(error).__name__}: {error}). Run it again."
        ) from None
    if (kind == "volumes") is not to.is_3d:
        needs = "volumes" if to.is_3d else "2D images"
        raise AutoconfError(f"{work} holds {kind}; bundle '{to.name}' needs {needs}. Give another --bundle.")
    if not os.path.isdir(root):
        raise AutoconfError(f"{root}, where {path} says the data lie, is not there. Inspect them again.")
    if leaked:
        raise AutoconfError(
            f"{path}: '{leaked[0]}' is in its training and its testing list, or its patient is. Test cases must stay "
            "unseen: take it out of one of them."
        )
    if bare and not has_masks:
        add = f"Give the masks with --set {MASKS}=MASKS." if MASKS in to.config else "Add its mask, inspect again."
        raise AutoconfError(f"{path}: its training case '{bare[0]}' has no label. {add}")
    return content | {"dataset_dir": root, TESTING: []}


def prepared(work: str, to: Bundle, plan: Mapping[str, Choice], home: Path) -> dict[str, object]:
    """What a training is told of the place of prepared cases: the same for all parts, and beside those of others.

    home: of the long work, where prepared cases lie if nothing may be written into `work`.
    """
    if CACHE not in to.config:
        return {}
    named = plan[CACHE].value if CACHE in plan else to.config[CACHE]
    beside = work if os.access(work, os.W_OK) else home
    return {CACHE: os.path.abspath(str(named or "") or os.path.join(beside, "prepared"))}


def _names(item: dict[str, Any]) -> set[str]:
    return {str(item["case"]), str(item.get("patient", item["case"]))}
