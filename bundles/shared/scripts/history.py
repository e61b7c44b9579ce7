"""What a training leaves to look at, while it runs and later: how it was started, and how it went."""

from __future__ import annotations

import csv
import functools
import json
import os
import platform
import shlex
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from .checks import files_on_top
from .errors import ROOT
from .files import whole_file
from .handlers import loss_of, mean_loss, remember

PICTURE_EVERY = 10.0  # seconds: to draw takes a fifth of one, which short epochs would feel
PACKAGES = ("torch", "monai", "numpy", "nibabel", "pytorch-ignite")


class History:
    """Write run.json when a training starts, progress.csv and progress.png after each epoch.

    output_dir: where to. datalist: what is trained on, for the record. validator: the evaluator whose key metric is
    written beside the loss. score: what that metric is; the validator knows whether more of it is better.
    The table has epoch, seconds since the start, learning rate, mean loss, and `validation_SCORE` (empty in epochs
    without validation).
    The picture needs matplotlib; without it there is only the table. Of short epochs not each is drawn; the last is.
    A run that goes on after a stop continues its table; the seconds between are not counted.
    """

    COLUMNS = ("epoch", "seconds", "learning_rate", "loss")
    COLOURS = ("#0072B2", "#D55E00")  # blue and vermilion of Okabe and Ito: safe for all colour sight

    def __init__(self, output_dir: str, datalist: str, validator: Engine, score: str = "Dice") -> None:
        self.folder = Path(output_dir)
        self.datalist = os.path.abspath(datalist)
        self.validator = validator
        self.score = score

    def attach(self, engine: Engine) -> None:
        remember(engine, "history", self)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)

    def _start(self, engine: Engine) -> None:
        self.began = time.monotonic()
        self.losses: list[torch.Tensor] = []
        self.rows: list[tuple[int, float, float, float, float | str]] = []
        self.validated = 0
        self.drawn = float("-inf")
        run = _run(engine) | {"datalist": self.datalist}
        with whole_file(self.folder / "run.json", "w") as file:
            json.dump(run, file, indent=2)

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, and the losses of an epoch that is not done."""
        losses = torch.stack(self.losses) if self.losses else torch.empty(0)
        return {"rows": [list(row) for row in self.rows], "validated": self.validated, "losses": losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The opposite; the clock goes on where the last row was written."""
        self.rows = [tuple(row) for row in state["rows"]]
        self.validated = state["validated"]
        self.losses = list(state.get("losses", []))
        self.began -= self.rows[-1][1] if self.rows else 0.0

    def _iteration(self, engine: Engine) -> None:
        self.losses += loss_of(engine.state.output)

    def _epoch(self, engine: Engine) -> None:
        state, score = self.validator.state, ""
        if state.iteration and state.epoch > self.validated:  # a validator's epochs go on counting
            self.validated = state.epoch
            score = round(float(state.metrics[state.key_metric_name]), 6)
        rate = engine.optimizer.param_groups[0]["lr"]
        loss = mean_loss(self.losses)
        self.losses.clear()
        self.rows.append((engine.state.epoch, round(time.monotonic() - self.began, 1), rate, round(loss, 6), score))
        rows = [(*self.COLUMNS, "validation_" + self.score.lower().replace(" ", "_")), *self.rows]
        with whole_file(self.folder / "progress.csv", "w") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        if engine.state.epoch == engine.state.max_epochs or time.monotonic() >= self.drawn + PICTURE_EVERY:
            self.drawn = time.monotonic()
            self._draw()

    def _draw(self) -> None:
        try:
            from matplotlib.figure import Figure  # without pyplot: no window, no state that others share
        except ImportError:
            return
        figure = Figure(figsize=(7, 5.5))
        figure.subplots_adjust(0.12, 0.09, 0.98, 0.98, hspace=0.18)
        upper, lower = figure.subplots(2, sharex=True)
        upper.plot([row[0] for row in self.rows], [row[3] for row in self.rows], color=self.COLOURS[0])
        upper.set_ylabel("training loss")
        scored = [(row[0], row[4]) for row in self.rows if row[4] != ""]
        if scored:
            is_better = self.validator.metric_cmp_fn
            best = functools.reduce(lambda one, other: other if is_better(other[1], one[1]) else one, scored)
            lower.plot(*zip(*scored, strict=True), color=self.COLOURS[1], marker=".")
            lower.plot(*best, marker="o", color="black", fillstyle="none")
            lower.set_title(f"best {best[1]:.3f} in epoch {best[0]}", fontsize=10)
        lower.set_ylabel(f"validation {self.score}")
        lower.set_ylim(0, 1 if self.score == "Dice" else None)
        lower.set_xlabel("epoch")
        for panel in (upper, lower):
            panel.grid(alpha=0.3)
            panel.xaxis.get_major_locator().set_params(integer=True)
        with whole_file(self.folder / "progress.png") as file:
            figure.savefig(file, format="png", dpi=110)


def _run(engine: Engine) -> dict[str, Any]:
    """Everything that is needed to repeat a run, and to say what it ran on."""
    device = torch.device(engine.state.device)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "bundle": ROOT.name,
        "command": shlex.join(["python", "-m", "monai.bundle", *sys.argv[1:]]),
        "folder": os.getcwd(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seed": torch.initial_seed(),
        "cases": len(engine.data_loader.dataset),
        "max_epochs": engine.state.max_epochs,
        "weights": sum(weight.numel() for weight in engine.network.parameters()),
        "device": gpu or f"CPU, {torch.get_num_threads()} of {os.cpu_count()} cores",
        "system": platform.platform(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "files": files_on_top(sys.argv),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
