"""Which patients keep their labels, and the datalists of each run: no run is shown a label that it may not have."""

from __future__ import annotations

import hashlib
from typing import Any

Content = dict[str, Any]  # of a datalist without its testing list
TRUTH = ("label", "soft", "ignore", "regions", "fold")  # keys of an item that a scan without a mask has not


def patient(item: Content) -> str:
    return str(item.get("patient", item["case"]))


def order(content: Content, fold: int, seed: int) -> list[str]:
    """All labelled patients outside the fold, as a hash of seed and name orders them; the first N are a draw of N.

    So draws are nested, and depend on nothing but the seed and who is there.
    """
    names = {patient(item) for item in content["training"] if item["fold"] != fold}
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())


def drawn(content: Content, fold: int, seed: int, size: int) -> list[Content]:
    """The labelled cases of a draw of `size` patients."""
    chosen = set(order(content, fold, seed)[:size])
    return [item for item in content["training"] if item["fold"] != fold and patient(item) in chosen]


def of_fold(content: Content, fold: int) -> list[Content]:
    """The cases that are held out and scored."""
    return [item for item in content["training"] if item["fold"] == fold]


def with_labels_of(content: Content, fold: int, seed: int, size: int) -> Content:
    """A training: the draw, and the fold that it is scored on. Nothing else is listed."""
    return content | {"training": drawn(content, fold, seed, size) + of_fold(content, fold), "unlabelled": []}


def without_labels(content: Content) -> Content:
    """A training on images alone: all of them, without a mask; the bundle leaves out those of the fold."""
    training = [_bare(item) | {"fold": item["fold"]} for item in content["training"]]
    return content | {"training": training, "unlabelled": _unlabelled(content)}


def to_mark(content: Content) -> Content:
    """Every scan as one that needs a pseudo-mask; `side` says of which fold it is."""
    labelled = [_bare(item) | {"side": item["fold"]} for item in content["training"]]
    return content | {"training": [], "unlabelled": labelled + _unlabelled(content)}


def marked(content: Content, masks: Content, fold: int) -> Content:
    """A training on pseudo-masks: those of `masks`, what became of `to_mark`, and the fold to validate on.

    Those of the fold itself are taken out, as the bundle would: by their `side`.
    """
    return content | {
        "training": of_fold(content, fold),
        "unlabelled": [item for item in masks["unlabelled"] if item.get("side") != fold],
    }


def _unlabelled(content: Content) -> list[Content]:
    found = content.get("unlabelled") or []
    return [_bare(item) for item in found if item.get("side") != "testing"]


def _bare(item: Content) -> Content:
    return {key: value for key, value in item.items() if key not in TRUTH}
