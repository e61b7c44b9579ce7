"""What MONAI's handlers lack: gradient clipping, progress that a person can follow, names of cases.

This file is the same in every bundle of the project; a test compares the copies.
"""

from __future__ import annotations

import sys
import time

import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from tqdm import tqdm


class ClipGradients:
    """Scale the gradients down to a total norm of at most `max_norm` before each optimiser step.

    With a trainer's `accumulation_steps` the gradients of several batches are added first and clipped once: clipping
    a part sum would weigh its batches less.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        added = getattr(engine, "accumulation_steps", 1)
        length = engine.state.epoch_length or engine.state.iteration
        done = (engine.state.iteration - 1) % length + 1  # of the epoch; its last batch is always stepped on
        if done % added and done != length:
            return
        torch.nn.utils.clip_grad_norm_(engine.network.parameters(), self.max_norm)


class Progress:
    """Show where a run stands: a bar on a terminal, one plain line per epoch elsewhere.

    name: what runs, e.g. "training".
    validator: the evaluator whose key metric (and best so far) is shown beside the loss.
    """

    def __init__(self, name: str, validator: Engine | None = None) -> None:
        self.name = name
        self.validator = validator
        self.bar: tqdm | None = None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.COMPLETED, self._end)

    def _start(self, engine: Engine) -> None:
        self.began = time.monotonic()
        self.losses: list[float] = []
        self.items = 0
        if sys.stderr.isatty():
            total = engine.state.epoch_length * (engine.state.max_epochs or 1)
            self.bar = tqdm(total=total, desc=self.name, unit="step", dynamic_ncols=True)

    def _iteration(self, engine: Engine) -> None:
        output = engine.state.output
        self.items += len(output) if isinstance(output, list) else 1  # MONAI takes a batch apart into its items
        self.losses += loss_of(output)
        if self.bar is not None:
            if self.losses:
                self.bar.set_postfix_str(self._text(engine), refresh=False)
            self.bar.update()

    def _epoch(self, engine: Engine) -> None:
        if self.bar is None and self.validator is not None:
            epoch, epochs = engine.state.epoch, engine.state.max_epochs
            spent = time.monotonic() - self.began
            left = spent / epoch * (epochs - epoch)
            clock = f"{_clock(spent)} spent, {_clock(left)} left"
            print(f"{self.name}: epoch {epoch}/{epochs}  {self._text(engine)}  {clock}", file=sys.stderr, flush=True)
        self.losses.clear()

    def _text(self, engine: Engine) -> str:
        text = f"loss {sum(self.losses) / max(1, len(self.losses)):.4f}"
        state = self.validator.state if self.validator is not None else None
        if state is not None and state.key_metric_name in state.metrics:
            text += f"  validation Dice {state.metrics[state.key_metric_name]:.4f} (best {state.best_metric:.4f})"
        return text

    def _end(self, engine: Engine) -> None:
        if self.bar is not None:
            self.bar.close()
        elif self.validator is None:
            spent = time.monotonic() - self.began
            print(f"{self.name}: {self.items} done in {_clock(spent)}", file=sys.stderr, flush=True)


def case_names(batch: list[dict]) -> list[dict]:
    """Name the rows of `MetricsSaver` after the items' cases, not after the first file of each."""
    return [{"filename_or_obj": item["case"]} for item in batch]


def loss_of(output: object) -> list[float]:
    """The loss of an iteration, as a list of one; empty where there is none. MONAI gives a dict, or one per item."""
    first = output[0] if isinstance(output, list) and output else output
    return [float(first["loss"])] if isinstance(first, dict) and "loss" in first else []


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
