"""A contestant in a process of its own, which waits between its rounds."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .machine import ROOT
from .task import BenchmarkError, last_line, open_config, wait_for


class Worker:
    """A training by config files, of which some iterations are run when asked."""

    def __init__(self, names: list[str], overrides: dict[str, Any]) -> None:
        words = [sys.executable, "-W", "ignore", "-m", "benchmarks.worker", json.dumps(names), json.dumps(overrides)]
        # a pipe that nobody reads would fill up and stop the process
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()
        self.said.close()

    def ask(self, iterations: int) -> dict[str, float]:
        """{"seconds": of an iteration, "peak_mb": so far}. Raises BenchmarkError with the last line of its error."""
        with contextlib.suppress(BrokenPipeError):
            print(iterations, file=self.process.stdin, flush=True)
            for line in self.process.stdout:  # type: ignore[union-attr]
                if line.startswith("{"):
                    return json.loads(line)
        self.process.wait()
        self.said.seek(0)
        raise BenchmarkError(f"a training ended early: {last_line(self.said.read())}")


class Training:
    """unetr3d's own trainer, by its config, of which epochs of any length can be run one after the other."""

    def __init__(self, names: list[str], overrides: dict[str, Any]) -> None:
        os.makedirs(overrides["output_dir"], exist_ok=True)
        self.parser = open_config(names, overrides | {"val_interval": 10**6, "crops_per_case": 10**6, "max_epochs": 1})
        from scripts.speed import seed_all  # the bundle's, on the path

        seed_all(0)  # as its run does: on a GPU, with cuDNN's fastest ways
        self.device = overrides["device"]
        self.trainer = self.parser.get_parsed_content("train#trainer")
        from ignite.engine import Events

        self.trainer.add_event_handler(Events.EPOCH_STARTED, self._begin)
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._end)

    def _begin(self, _: Any) -> None:
        wait_for(self.device)
        self.began = time.perf_counter()

    def _end(self, engine: Any) -> None:
        if engine.state.iteration == engine.state.epoch_length:  # before the epoch's own handlers draw and save
            wait_for(self.device)
            self.ended = time.perf_counter()

    def run(self, iterations: int) -> float:
        """Seconds of an iteration, with everything that the trainer does from the epoch's start to its last step."""
        self.trainer.state.epoch_length = iterations
        self.trainer.state.epoch = 0
        self.trainer.state.iteration = 0
        self.trainer.state.max_epochs = 1
        self.trainer.run()
        return (self.ended - self.began) / iterations


def peak_mb() -> float:
    """Largest resident memory of this process so far, and of its largest child that still runs (a loader's).

    Linux only. Not `ru_maxrss`: there a new program begins with the peak of the process that started it.
    """
    children = [pid for tasks in Path("/proc/self/task").glob("*/children") for pid in tasks.read_text().split()]
    return _peak_mb("self") + max(map(_peak_mb, children), default=0.0)


def _peak_mb(process: str) -> float:
    """0 for a process that has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    names, overrides = (json.loads(word) for word in sys.argv[1:3])
    training = Training(names, overrides)
    for line in sys.stdin:
        seconds = training.run(int(line))
        print(json.dumps({"seconds": seconds, "peak_mb": peak_mb()}), flush=True)


if __name__ == "__main__":
    main()
