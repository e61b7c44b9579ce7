"""Read text, JSON and CSV files of others, and look into what they hold without trusting its form."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from typing import Any

from autoconf.errors import AutoconfError

LARGEST = 1e300  # JSON knows whole numbers that no float can hold


def read_table(path: str) -> list[dict[str, str]] | None:
    """The rows of a CSV file; None where there is none. Raises AutoconfError for a row with missing or extra values."""
    text = read_text(path)
    if text is None:
        return None
    lines = [line for line in read_lines(path, text) if line]
    for place, line in enumerate(lines):
        if len(line) != len(lines[0]):
            raise AutoconfError(f"{path}: line {place + 1} has {len(line)} values, not {len(lines[0])}. Make it again.")
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def read_lines(path: str, text: str) -> list[list[str]]:
    """The lines of a CSV file's text, the first one included. Raises AutoconfError for what is no such text."""
    try:
        return list(csv.reader(io.StringIO(text)))
    except csv.Error as error:
        raise AutoconfError(f"{path}: is damaged ({error}). Make it again, or remove it.") from None


def read_dict(path: str) -> dict[str, Any] | None:
    """The content of a JSON file that must be {...}; None where there is no file. Raises AutoconfError."""
    content = read_json(path)
    if content is not None and not isinstance(content, dict):
        raise AutoconfError(f"{path}: holds no {{...}} but something else. Make it again, or remove it.")
    return content


def read_json(path: str) -> Any:
    """The content of a JSON file; None where there is none. Raises AutoconfError for a damaged one."""
    text = read_text(path)
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AutoconfError(f"{path}: is damaged ({error}). Make it again, or remove it.") from None


def read_text(path: str) -> str | None:
    """The text of a file; None where there is none. Raises AutoconfError for bytes that are no text."""
    if not path or not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except UnicodeDecodeError:
        raise AutoconfError(f"{path}: is damaged (no text). Make it again, or remove it.") from None


def at(content: Any, *keys: str) -> Any:
    """content[key][key]..., or None where a file of another form has no such place."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def number(content: Any, *keys: str) -> float | None:
    """A finite number at that place, or None."""
    value = at(content, *keys)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < math.inf:
        return None
    return float(value) if abs(value) < LARGEST else None


def texts(content: Any, *keys: str) -> list[str]:
    """The texts of a list at that place; none if there is no list."""
    value = at(content, *keys)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def items(content: Any, *keys: str) -> list[dict[str, Any]]:
    """The dicts of a list at that place; none if there is no list."""
    value = at(content, *keys)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
