"""A command that needs another one runs it as a user would: as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from autoconf.errors import AutoconfError

HOME = Path(__file__).resolve().parents[1]  # the folder that holds autoconf


def environment() -> dict[str, str]:
    """For a process that finds autoconf from any folder, installed or not."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(HOME), os.environ.get("PYTHONPATH", ""))))}


def run_command(*words: object) -> str:
    """`python -m autoconf WORDS`; returns what it printed. Raises AutoconfError with its last line if it fails."""
    command = [sys.executable, "-m", "autoconf", *map(str, words)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment())
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise AutoconfError(lines[-1].removeprefix("autoconf: ") if lines else f"{words[0]} ended: {done.returncode}.")
    return done.stdout
