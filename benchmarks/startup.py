"""How long it takes until a training learns, how that grows with the number of cases, and how much memory it needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from ignite.engine import Engine, Events

from .inference import CASES, QUICK_CASES, few, weights
from .machine import ROOT
from .rounds import Result
from .synthetic import make_cases
from .task import BUNDLE, ZOO, BenchmarkError, Task, last_line
from .worker import peak_mb

GOAL_SECONDS = 10.0
ITERATIONS, QUICK_ITERATIONS = 20, 2  # of a training whose memory or growth is measured
SIZES = (4, 40, 400, 4000)
FLAT = 1.2  # largest / smallest: what single runs differ by anyway
FASTER = 1.5  # what a further case may cost more among many cases than among few, before we call it faster than linear


class StopAfter:
    """A handler that ends the process after some iterations, and says what it took: for an override file."""

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._stop)

    def _start(self, engine: Engine) -> None:
        if engine.state.iteration == 1:
            self.began = self.after_first = time.time()

    def _stop(self, engine: Engine) -> None:
        iteration = engine.state.iteration
        if iteration == 1 < self.iterations:  # memory is taken and pages are mapped in the first one
            self.after_first = time.time()
        if iteration >= self.iterations:
            seconds = (time.time() - self.after_first) / max(1, iteration - 1)
            said = {"began": self.began, "iteration_s": seconds, "peak_mb": peak_mb()}
            print(json.dumps(said), flush=True)
            os._exit(0)


def train(task: Task, files: list[str], iterations: int, **overrides: Any) -> dict[str, float]:
    """`monai.bundle run training` as a process of its own, ended after some iterations.

    Returns seconds from its start to its first iteration, seconds of an iteration, and its peak memory in MB.
    """
    stop = task.scratch / "stop.yaml"
    handler = {"_target_": "benchmarks.startup.StopAfter", "iterations": iterations}
    stop.write_text(yaml.safe_dump({"+train::handlers": [handler]}))
    files = [str(BUNDLE / "configs" / "train.yaml"), *files, task.plan_file, str(stop)]
    settings = {key: task.overrides()[key] for key in ("datalist", "output_dir", "cache_dir", "device")} | overrides
    words = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "training", "--config_file", str(files)]
    words += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    began = time.time()
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"began"')]
    if not said:
        raise BenchmarkError(f"the training ended early: {last_line(done.stderr)}")
    return {"start_s": said[0]["began"] - began, "iteration_s": said[0]["iteration_s"], "peak_mb": said[0]["peak_mb"]}


def first_epoch(task: Task) -> list[Result]:
    """From the command to the first iteration, Python's start included: cases never seen, and cases in the cache."""
    _ = task.plan_file
    cold, warm = [], []
    for _round in range(task.rounds):
        shutil.rmtree(task.scratch / "prepared", ignore_errors=True)
        cold.append(train(task, [], 1)["start_s"])
        warm.append(train(task, [], 1)["start_s"])
    goal = [GOAL_SECONDS] * len(cold)
    content = json.loads(Path(task.datalist).read_text())
    notes = {"cases": len(content["training"])}
    found = []
    for name, times in (("nothing prepared", cold), ("all in the cache", warm)):
        figures = {name: times, "10 s": goal}
        found.append(Result(f"first epoch, {name}", "s", figures, (name, "10 s"), 1.0, notes=notes))
    return found


def memory(task: Task) -> list[Result]:
    """Peak memory of a training process, by our pipeline and by the zoo's, and of inference."""
    iterations = QUICK_ITERATIONS if task.quick else ITERATIONS
    _ = train(task, [], 1)  # the cache is made: both prepare nothing that they then keep, or all of it
    ours = [train(task, [], iterations)["peak_mb"]]
    zoo = [train(task, [str(ZOO)], iterations)["peak_mb"]]
    both = Result("memory of training", "MB", {"ours": ours, "zoo-style": zoo}, ("ours", "zoo-style"), 1.0)
    segmenting = [inference_peak(task)]
    figures = {"inference": segmenting, "zoo-style training": zoo}
    return [both, Result("memory of inference", "MB", figures, ("inference", "zoo-style training"))]


def inference_peak(task: Task) -> float:
    """MB, of a process that segments a few cases."""
    out = task.scratch / "masks"
    datalist = few(task, QUICK_CASES if task.quick else CASES)
    files = str([str(BUNDLE / "configs" / "inference.yaml"), task.plan_file])
    words = [sys.executable, "-W", "ignore", "-m", "benchmarks.peak", "run", "inferring", "--config_file", files]
    words += ["--datalist", datalist, "--checkpoint", weights(task), "--output_dir", str(out), "--device", task.device]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
    said = [line for line in done.stdout.splitlines() if line.startswith("peak_mb ")]
    if not said:
        raise BenchmarkError(f"inference ended early: {last_line(done.stderr)}")
    return float(said[0].split()[1])


def growth(task: Task) -> list[Result]:
    """Start, iteration and memory of trainings on 4 to 4,000 small synthetic cases, unprepared and then prepared."""
    found: list[Result] = []
    seen: dict[str, list[float]] = {}
    sizes, iterations = (SIZES[:2], QUICK_ITERATIONS) if task.quick else (SIZES, ITERATIONS)
    for size in sizes:
        folder = task.scratch / f"cases_{size}"
        datalist = make_cases(folder, size)
        settings = {"datalist": datalist, "cache_dir": str(folder / "prepared"), "patch_size": "[32,32,32]"}
        settings |= {"target_spacing": "[2.0,2.0,2.0]"}
        cold = train(task, [], iterations, **settings)
        warm = train(task, [], iterations, **settings)
        figures = {"start, nothing prepared": [cold["start_s"]], "start, prepared": [warm["start_s"]]}
        notes: dict[str, Any] = {name: round(warm[name], 4) for name in ("iteration_s", "peak_mb")}
        found.append(Result(f"growth, {size} cases", "s", figures, tuple(figures), None, "high", notes))
        for name, value in (figures | {name: [value] for name, value in notes.items()}).items():
            seen.setdefault(name, []).append(value[0])
        shutil.rmtree(folder)
    found[-1].notes["growth"] = {name: trend(sizes, values) for name, values in seen.items()}
    return found


def trend(sizes: Sequence[int], values: Sequence[float]) -> str:
    """Say how values grow with sizes: flat, linear (each further case costs no more than before it), or faster.

    Compares what a further case costs in the last step with what it cost in the steps before; two sizes show no trend.
    """
    if max(values) <= FLAT * min(values):
        return "flat"
    pairs = list(zip(sizes, values, strict=False))
    costs = [(v2 - v1) / (n2 - n1) for (n1, v1), (n2, v2) in zip(pairs, pairs[1:], strict=False)]
    if len(costs) < 2 or max(costs[:-1]) <= 0:
        return f"{costs[-1]:.3g} a case"
    faster = costs[-1] > FASTER * max(costs[:-1])
    return f"{costs[-1]:.3g} a case, " + ("faster than linear" if faster else "linear or less")
