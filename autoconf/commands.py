"""A command that needs another one runs it as a user would: as a process of its own."""

from __future__ import annotations

import subprocess
import sys

from autoconf.errors import AutoconfError


def run_command(*words: object) -> str:
    """`python -m autoconf WORDS`; returns what it printed. Raises AutoconfError with its last line if it fails."""
    command = [sys.executable, "-m", "autoconf", *map(str, words)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [
            f"{words[0]} ended with {done.returncode}"
        ]
        raise AutoconfError(said[-1].removeprefix("autoconf: "))
    return done.stdout
