"""What configs/settings.yaml says of a setting: which values it may have, and that in words.

Standard library only, and nothing of this project, so that a bundle can carry its own copy: the files
`autoconf/bundle/rules.py` and `bundles/shared/scripts/rules.py` are the same, byte for byte (a test compares them).

A rule is a mapping with

    kind        int, float, bool, str, strs (one or several); of path, file and device nothing is asked here
    one_of      the only values that are allowed
    least, most, above, below    of a number
    multiple_of of a whole number
    count       so many of them, as a list; rising: none smaller than the one before
    or          further values that are allowed
    unit, example, note          for the words
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

Rule = Mapping[str, Any]
COUNTS = {2: "two", 3: "three"}
NOUNS = {"int": "whole number", "float": "number"}


def is_allowed(rule: Rule, value: Any) -> bool:
    """Whether a setting may have this value."""
    value = list(value) if isinstance(value, tuple) else value
    if any(type(other) is type(value) and other == value for other in (*rule.get("or", ()), *rule.get("one_of", ()))):
        return True
    if "one_of" in rule:
        return False
    if "count" not in rule:
        return _is_one(rule, value)
    if not isinstance(value, list) or len(value) != rule["count"]:
        return False
    return all(_is_one(rule, one) for one in value) and not (rule.get("rising") and value != sorted(value))


def _is_one(rule: Rule, value: Any) -> bool:
    kind = rule["kind"]
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "str":
        return isinstance(value, str)
    if kind == "strs":
        return all(isinstance(one, str) for one in (value if isinstance(value, list) else [value]))
    if kind not in NOUNS:
        return True
    if isinstance(value, bool) or not isinstance(value, int if kind == "int" else Real) or not math.isfinite(value):
        return False
    fits = rule.get("least", value) <= value <= rule.get("most", value)
    fits = fits and rule.get("above", -math.inf) < value < rule.get("below", math.inf)
    return fits and value % rule.get("multiple_of", value or 1) == 0


def described(rule: Rule) -> str:
    """`a whole number of at least 1`, `True or False, or force`: what the value must be."""
    said = _described_one(rule) + (f" ({rule['note']})" if "note" in rule else "")
    said += f", {rule['unit']}" if "unit" in rule else ""
    said += f", such as {rule['example']}" if "example" in rule else ""
    return said + "".join(f", or {other}" for other in rule.get("or", ()))


def _described_one(rule: Rule) -> str:
    kind = rule["kind"]
    if "one_of" in rule:
        return " or ".join(map(str, rule["one_of"]))
    if kind == "bool":
        return "True or False, with a capital letter"
    if kind in ("str", "strs"):
        return "text" if kind == "str" else "names"
    if kind not in NOUNS:
        return f"a {kind}"
    noun = f"multiple of {rule['multiple_of']}" if "multiple_of" in rule else NOUNS[kind]
    if "count" in rule:
        many = noun.replace("multiple", "multiples") if "multiple_of" in rule else noun + "s"
        noun = f"{COUNTS[rule['count']]} {many}"
    else:
        noun = f"a {noun}"
    return " ".join(filter(None, (noun, _range(rule), "that do not fall" if rule.get("rising") else "")))


def _range(rule: Rule) -> str:
    if "least" in rule and ("most" in rule or "below" in rule):
        return f"from {rule['least']} to " + (str(rule["most"]) if "most" in rule else f"below {rule['below']}")
    parts = [f"of at least {rule['least']}"] if "least" in rule else []
    parts += [f"{word} {rule[word]}" for word in ("above", "below") if word in rule]
    return " and ".join(parts)
