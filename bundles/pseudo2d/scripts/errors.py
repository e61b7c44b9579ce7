"""How a bundle refuses bad input: one line on stderr, exit status 1, no traceback.

This file is the same in every bundle of the project; a test compares the copies.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]


def bundle_root() -> str:
    """Return the folder that holds this bundle, so that the configs work from any directory."""
    return str(ROOT)


def refuse(message: str) -> NoReturn:
    """Stop with one line that says what was found, where, and what to do.

    SystemExit, unlike an Exception, passes through MONAI's instantiation unwrapped,
    so the user sees this line alone. Never call it from a worker thread or process.
    """
    raise SystemExit(f"{ROOT.name}: {message}")
