"""Searches as tests start them: from the command line, with tests/stand_in in MONAI's place."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from helpers_bundles import REPO, STAND_IN, UNETR3D, write_yaml
from helpers_processes import hears_ctrl_c, run_module

KEYS = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "dice_weight": {"low": 0.2, "high": 0.9},
    "weight_decay": {"low": 1e-5, "high": 1e-1, "log": True},
}


class Home:
    """A folder with inspected data, in which searches are started."""

    def __init__(self, work: Path, folder: Path) -> None:
        self.work, self.folder = work, folder
        self.log = folder / "log"
        self.space(KEYS)

    def space(self, keys: dict, epochs: int = 4, **more: object) -> None:
        write_yaml(self.folder / "space.yaml", {"max_epochs": epochs, "keys": keys} | more)

    def command(self, *words: object) -> list[str]:
        return [sys.executable, "-W", "ignore", "-m", "autoconf", *self.words(*words)]

    def words(self, *words: object) -> list[str]:
        """Of a search, after `autoconf`."""
        given = ["tune", self.work, "--bundle", UNETR3D, *words]
        given += [] if "--folder" in words else ["--folder", self.folder / "tune"]
        given += [] if {"--space", "--preset"} & set(map(str, words)) else ["--space", self.folder / "space.yaml"]
        return [str(word) for word in given]

    def env(self, seconds: float = 0.0) -> dict[str, str]:
        path = os.pathsep.join([str(STAND_IN), str(REPO)])
        return os.environ | {"PYTHONPATH": path, "STAND_IN_LOG": str(self.log), "STAND_IN_SECONDS": str(seconds)}

    def run(self, *words: object, expect: int = 0, env: dict | None = None) -> subprocess.CompletedProcess[str]:
        done = run_module("autoconf", self.words(*words), self.folder, env or self.env())
        assert done.returncode == expect, done.stdout[-2000:] + done.stderr[-4000:]
        return done

    @contextlib.contextmanager
    def started(self, *words: object, seconds: float = 0.15) -> Iterator[subprocess.Popen]:
        process = subprocess.Popen(
            self.command(*words),
            preexec_fn=hears_ctrl_c,
            cwd=self.folder,
            env=self.env(seconds),
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def trials(self) -> list[dict[str, str]]:
        with open(self.folder / "tune" / "trials.csv", newline="") as stream:
            return list(csv.DictReader(stream))

    def result(self) -> dict:
        return json.loads((self.folder / "tune" / "result.json").read_text())

    def runs(self, run_id: str = "training") -> list[tuple[str, int]]:
        """(folder of the trial, process) of each start."""
        return [(Path(out).parent.name, pid) for name, _, pid, out in self.starts() if name == run_id]

    def starts(self) -> list[tuple[str, str, int, str]]:
        """(run, fold, process, output folder) of each start."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        found = [line.split(" ", 4)[1:] for line in lines if line.startswith("run ")]
        return [(name, fold, int(pid), out) for name, fold, pid, out in found]
