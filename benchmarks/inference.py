"""What it costs to segment a scan, from its files to the mask's file, against the network's own time."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from .rounds import Result
from .task import Task, open_config, wait_for

CASES, QUICK_CASES = 22, 2
EMPTY = -3.0  # added to the untrained network's output, so that its masks are mostly empty, as real ones are


def inference(task: Task) -> list[Result]:
    """All of `inferring` but the start of Python: checks of the files, preparation, windows, the way back, the mask."""
    cases = QUICK_CASES if task.quick else CASES
    end_to_end, alone = [], []
    for round_ in range(task.rounds + 1):
        seconds, network = segment(task, cases)
        if round_:  # the first one warms up
            end_to_end.append(seconds)
            alone.append(network)
    gpu = task.device.startswith("cuda")
    figures = {"end to end": end_to_end, "network": alone}
    found = [Result("inference", "s a case", figures, ("end to end", "network"), 3.0 if gpu else 1.15)]
    if gpu:
        limit = {"end to end": end_to_end, "0.3 s": [0.3] * len(end_to_end)}
        found.append(Result("inference, absolute", "s a case", limit, ("end to end", "0.3 s"), 1.0))
    return found


def segment(task: Task, cases: int) -> tuple[float, float]:
    """Seconds a case: of the whole, and of the network's forward passes in it."""
    out = task.scratch / "masks"
    shutil.rmtree(out, ignore_errors=True)
    parser = open_config(["inference.yaml"], task.overrides(output_dir=str(out), checkpoint=weights(task)))
    parser["dataset#data#datalist"] = few(task, cases)
    network = parser.get_parsed_content("network").eval()
    clock = Clock(network, task.device)
    wait_for(task.device)
    began = time.perf_counter()
    evaluator = parser.get_parsed_content("evaluator")
    evaluator.run()
    wait_for(task.device)
    return (time.perf_counter() - began) / cases, clock.seconds / cases


class Clock:
    """Adds up the time of a module's forward passes."""

    def __init__(self, module: torch.nn.Module, device: str) -> None:
        self.seconds, self.device = 0.0, device
        module.register_forward_pre_hook(self._start)
        module.register_forward_hook(self._stop)

    def _start(self, *_: object) -> None:
        wait_for(self.device)
        self.began = time.perf_counter()

    def _stop(self, *_: object) -> None:
        wait_for(self.device)
        self.seconds += time.perf_counter() - self.began


def weights(task: Task) -> str:
    """A file of untrained weights that mark little."""
    path = task.scratch / "untrained.pt"
    if not path.exists():
        torch.manual_seed(0)
        network = open_config(["inference.yaml"], task.overrides()).get_parsed_content("network_def")
        state = network.state_dict()
        last = [name for name in state if name.endswith("bias")][-1]
        state[last] += EMPTY
        torch.save(state, path)
    return str(path)


def few(task: Task, cases: int) -> str:
    """A datalist whose `testing` section holds so many cases, each again if there are fewer."""
    content: dict[str, Any] = json.loads(Path(task.datalist).read_text())
    every = content["training"] + content["testing"]
    chosen = [every[i % len(every)] | {"case": f"{i}_{every[i % len(every)]['case']}"} for i in range(cases)]
    path = task.scratch / f"few_{cases}.json"
    path.write_text(json.dumps(content | {"testing": chosen}))
    return str(path)
