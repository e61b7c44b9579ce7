"""Several commands of `python -m monai.bundle`, with all that each said in one text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers_bundles import BUNDLES
from helpers_processes import run_module


@dataclass(frozen=True)
class Done:
    """What became of one command."""

    code: int
    output: str

    @property
    def last(self) -> str:
        lines = [line for line in self.output.splitlines() if line.strip()]
        return lines[-1] if lines else ""


def monai_bundle(*commands: list[Any], cwd: Path) -> list[Done]:
    """Exit status and output of each command, given as its words; all of one bundle, one after the other."""
    done = [run_module("monai.bundle", [str(word) for word in command], cwd, {}, timeout=900) for command in commands]
    return [Done(one.returncode, one.stdout + one.stderr) for one in done]


def run(bundle: str, run_id: str, files: list[str | Path], *words: object) -> list[Any]:
    """The words of `run RUN_ID` with files of the bundle's `configs`, or paths."""
    paths = [str(f) if isinstance(f, Path) else str(BUNDLES / bundle / "configs" / f"{f}.yaml") for f in files]
    return ["run", *([run_id] if run_id else []), "--config_file", str(paths), *words]


def assert_done(done: Done) -> None:
    assert done.code == 0, done.output[-3000:]


def assert_refused(done: Done, bundle: str, *said: str) -> None:
    """It ended with one line that names the bundle and holds every text of `said`, and no traceback."""
    assert done.code == 1 and "Traceback" not in done.output, done.output[-3000:]
    assert done.last.startswith(f"{bundle}: "), done.output[-3000:]
    for text in said:
        assert text in done.last, done.last
