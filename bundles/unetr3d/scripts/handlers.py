"""What MONAI's handlers lack: gradient clipping, progress that a person can follow and look at later, names of cases.

This file is the same in every bundle of the project; a test compares the copies.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from pathlib import Path

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
        self.losses += _loss(output)
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


class History:
    """Write progress.csv and progress.png after each epoch: what the bar showed, to look at while it runs and later.

    output_dir: where to. validator: the evaluator whose key metric is written beside the loss. The table has epoch,
    seconds since the start, learning rate, mean loss, and validation Dice (empty in epochs without validation).
    The picture needs matplotlib; without it there is only the table.
    """

    COLUMNS = ("epoch", "seconds", "learning_rate", "loss", "validation_dice")
    COLOURS = ("#0072B2", "#D55E00")  # blue and vermilion of Okabe and Ito: safe for all colour sight

    def __init__(self, output_dir: str, validator: Engine) -> None:
        self.folder = Path(output_dir)
        self.validator = validator

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)

    def _start(self, engine: Engine) -> None:
        self.began = time.monotonic()
        self.losses: list[float] = []
        self.rows: list[tuple[int, float, float, float, float | str]] = []
        self.validated = 0

    def _iteration(self, engine: Engine) -> None:
        self.losses += _loss(engine.state.output)

    def _epoch(self, engine: Engine) -> None:
        state, dice = self.validator.state, ""
        if state.iteration and state.epoch > self.validated:  # a validator's epochs go on counting
            self.validated = state.epoch
            dice = round(float(state.metrics[state.key_metric_name]), 6)
        rate = engine.optimizer.param_groups[0]["lr"]
        loss = sum(self.losses) / max(1, len(self.losses))
        self.losses.clear()
        self.rows.append((engine.state.epoch, round(time.monotonic() - self.began, 1), rate, round(loss, 6), dice))
        self._write()

    def _write(self) -> None:
        partial = self.folder / "progress.csv.partial"
        with open(partial, "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([self.COLUMNS, *self.rows])
        os.replace(partial, self.folder / "progress.csv")
        try:
            from matplotlib.figure import Figure  # without pyplot: no window, no state that others share
        except ImportError:
            return
        figure = Figure(figsize=(7, 5.5), layout="constrained")
        upper, lower = figure.subplots(2, sharex=True)
        upper.plot([row[0] for row in self.rows], [row[3] for row in self.rows], color=self.COLOURS[0])
        upper.set_ylabel("training loss")
        scored = [(row[0], row[4]) for row in self.rows if row[4] != ""]
        if scored:
            best = max(scored, key=lambda item: item[1])
            lower.plot(*zip(*scored, strict=True), color=self.COLOURS[1], marker=".")
            lower.plot(*best, marker="o", color="black", fillstyle="none")
            lower.set_title(f"best {best[1]:.3f} in epoch {best[0]}", fontsize=10)
        lower.set_ylabel("validation Dice")
        lower.set_ylim(0, 1)
        lower.set_xlabel("epoch")
        for panel in (upper, lower):
            panel.grid(alpha=0.3)
            panel.xaxis.get_major_locator().set_params(integer=True)
        partial = self.folder / "progress.png.partial"
        figure.savefig(partial, format="png", dpi=110)
        os.replace(partial, self.folder / "progress.png")


def case_names(batch: list[dict]) -> list[dict]:
    """Name the rows of `MetricsSaver` after the items' cases, not after the first file of each."""
    return [{"filename_or_obj": item["case"]} for item in batch]


def _loss(output: object) -> list[float]:
    """The loss of an iteration, as a list of one; empty where there is none. MONAI gives a dict, or one per item."""
    first = output[0] if isinstance(output, list) and output else output
    return [float(first["loss"])] if isinstance(first, dict) and "loss" in first else []


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
