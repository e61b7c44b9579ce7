"""Which folds are held out, and whether two experiments are the same: what the experiments share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoconf.errors import AutoconfError


def chosen_folds(words: str, known: list[int], work: str) -> list[int]:
    """`0,2` -> [0, 2]; all of them for an empty text."""
    listed = ", ".join(map(str, known)) or "none"
    if len(known) < 2:
        raise AutoconfError(f"{work} has too few folds to leave one out (it has: {listed}). Inspect more patients.")
    if not words:
        return known
    asked = []
    for word in words.split(","):
        if not word.strip().isdecimal() or int(word) not in known:
            raise AutoconfError(f"--folds {words}: no fold '{word.strip()}'. There are: {listed}.")
        asked.append(int(word))
    return sorted(set(asked))


def difference(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """What one of the two has that the other has not, in words; empty if they are the same."""
    if theirs["bundle"] != mine["bundle"]:
        return f"bundle '{theirs['bundle']}', not '{mine['bundle']}'"
    if theirs["network"] != mine["network"]:
        return f"--network '{theirs['network']}', not '{mine['network']}'"
    for key in [*theirs["values"], *mine["values"]]:
        then, now = (one["values"].get(key, "the bundle's own") for one in (theirs, mine))
        if then != now:
            return f"{key} {then}, not {now}"
    return "another datalist" if theirs["datalist"] != mine["datalist"] else ""
