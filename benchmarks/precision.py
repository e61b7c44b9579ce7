"""What it costs to compare bfloat16 with float32 before it is trusted: the first time, and in later runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from .rounds import Result, in_turn
from .task import Task, wait_for
from .worker import Training


def precision(task: Task) -> list[Result]:
    """The check of bfloat16 before it is trusted, once for a machine, against the network in both precisions."""
    training = Training(["train.yaml"], task.overrides())
    from scripts import arithmetic, inferers, verdicts  # the bundle's, on the path

    device = torch.device(task.device)
    network, loss = training.parser.get_parsed_content("network"), training.trainer.loss_function
    image, label = training.trainer.prepare_batch(next(iter(training.trainer.data_loader)), device, False)

    @torch.no_grad()
    def both_precisions() -> None:
        for low in (True, False):
            with torch.autocast(device.type, torch.bfloat16, enabled=low):
                network(image)

    contestants: dict[str, Callable[[], Any]] = {
        "answer": lambda: arithmetic.judge_answer(network, image),
        "gradients": lambda: arithmetic.judge_gradients(network, image, label, loss),
        "later": lambda: verdicts.read(verdicts.facts(network, image, "answer")),
        "both precisions": both_precisions,
    }
    timed = {name: lambda work=work: seconds(work, task.device) for name, work in contestants.items()}
    notes = (
        {} if inferers.bf16_is_fast(device) else {"note": "this device has no fast bfloat16: its runs check nothing"}
    )
    return [Result("precision check", "s", in_turn(timed, task.rounds), ("answer", "both precisions"), notes=notes)]


def seconds(work: Callable[[], Any], device: str) -> float:
    wait_for(device)
    began = time.perf_counter()
    work()
    wait_for(device)
    return time.perf_counter() - began
