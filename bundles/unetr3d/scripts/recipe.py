"""What was done to a scan, as plain data that is the same in every process: transforms, settings and code."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import torch


def digest(content: Any) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def describe(thing: Any) -> Any:
    """A transform with all its settings as plain data, the same in every process.

    Of an object its class and what it holds; of code that belongs to this bundle also what its file says.
    """
    if thing is None or isinstance(thing, (bool, int, float, str)):
        return thing
    if isinstance(thing, Mapping):
        return {str(key): describe(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple, set, frozenset)):
        parts = [describe(value) for value in thing]
        return sorted(parts, key=str) if isinstance(thing, (set, frozenset)) else parts
    if isinstance(thing, (np.ndarray, np.generic, torch.Tensor)):
        return {"dtype": str(thing.dtype), "values": thing.tolist()}
    if isinstance(thing, Enum):
        return _name(type(thing)) + "." + thing.name
    if isinstance(thing, functools.partial):
        return {"call": describe(thing.func), "with": describe([thing.args, thing.keywords])}
    if isinstance(thing, (torch.dtype, np.dtype, torch.device, os.PathLike)):
        return str(thing)
    if inspect.ismethod(thing):
        return {"call": _named(thing.__func__), "of": describe(thing.__self__)}
    if isinstance(thing, type) or inspect.isroutine(thing):
        return _named(thing)
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ()) if hasattr(thing, name)]
    held = {name: getattr(thing, name) for name in slots if not name.startswith("__")} | getattr(thing, "__dict__", {})
    held = {key: value for key, value in held.items() if not _passing(value)}
    return {"class": _named(type(thing)), **{key: describe(held[key]) for key in sorted(held)}}


def _passing(value: Any) -> bool:
    """Whether an attribute is no setting: a random state, or what belongs to one thread."""
    return type(value).__module__ in ("numpy.random.mtrand", "numpy.random", "_thread", "_thread._local", "threading")


def _named(code: Any) -> str:
    name = _name(code)
    if hasattr(code, "__code__"):  # two lambdas have one name
        name += " " + digest([_steps(code.__code__), _given(code)])[:16]
    if code.__module__.split(".")[0] != __name__.split(".")[0]:
        return name
    source = Path(inspect.getsourcefile(code) or "")
    return f"{name} {hashlib.blake2b(source.read_bytes(), digest_size=8).hexdigest()}"


def _steps(code: CodeType) -> list:
    """What a function does, the functions within it included, wherever its file lies."""
    constants = [_steps(c) if isinstance(c, CodeType) else [type(c).__name__, describe(c)] for c in code.co_consts]
    return [code.co_code.hex(), code.co_names, constants]


def _given(function: Any) -> Any:
    """What a function computes with that is no argument: its defaults, and what it took from around it."""
    around = [cell.cell_contents for cell in function.__closure__ or () if cell.cell_contents is not function]
    return describe([function.__defaults__, function.__kwdefaults__, around])


def _name(code: Any) -> str:
    return f"{code.__module__}.{code.__qualname__}"
