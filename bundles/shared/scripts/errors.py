"""How a bundle refuses bad input: one line on stderr, exit status 1, no traceback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from . import ROOT

KINDS = {"text": str, "list": list, "object": dict, "whole number": int, "number": (int, float)}

speak: Callable[[str], None] | None = None  # set where one of several processes speaks for all of them


def bundle_root() -> str:
    """Return the folder that holds this bundle, so that the configs work from any directory."""
    return str(ROOT)


def refuse(message: str) -> NoReturn:
    """Stop with one line that says what was found, where, and what to do.

    SystemExit, unlike an Exception, passes through MONAI's instantiation unwrapped,
    so the user sees this line alone. Never call it from a worker process; a pool of threads hands it on.
    """
    line = message.replace("\n", " ")  # a name out of a JSON file may hold anything
    if speak is None:
        raise SystemExit(f"{ROOT.name}: {line}")
    speak(f"{ROOT.name}: {line}\n")
    raise SystemExit(1)


def checked(value: Any, kind: str, what: str) -> Any:
    """A value that JSON gave us, if it is of that kind; otherwise a ValueError that says so.

    kind: a key of KINDS. what: how the message names the value.
    """
    if isinstance(value, bool) or not isinstance(value, KINDS[kind]):
        raise ValueError(f"{what} is no {kind}: {value!r:.60}")
    return value
