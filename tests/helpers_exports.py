"""Several commands of `python -m monai.bundle` in one fresh process, which loads torch and MONAI only once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers_bundles import BUNDLES

RUNNER = """
import contextlib, io, json, runpy, sys
commands = json.loads(sys.stdin.read())
for command in commands:
    out, sys.argv, code = io.StringIO(), ["monai.bundle", *command], 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
        except SystemExit as stop:
            code = stop.code
            if isinstance(code, str):
                print(code)
                code = 1
        except Exception as error:
            print(f"Traceback: {type(error).__name__}: {error}")
            code = 1
    print(json.dumps([code or 0, out.getvalue()]), flush=True)
"""


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
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUNNER],
        input=json.dumps([[str(word) for word in command] for command in commands]),
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=900,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == len(commands), done.stderr[-3000:]
    return [Done(*json.loads(line)) for line in lines]


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
