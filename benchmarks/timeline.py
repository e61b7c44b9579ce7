"""Where the time of a training iteration goes, as a picture: the zoo's way above, ours below."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from ignite.engine import Events
from monai.engines import IterationEvents

from .task import ZOO, Task, wait_for
from .worker import Training

# a part of an iteration -> the colour that shows it, of Okabe and Ito's
PARTS = {
    "make the batch": "#E69F00",  # the zoo's way augments each sample here
    "augment the batch": "#F0E442",
    "forward": "#0072B2",
    "loss": "#56B4E9",
    "backward": "#004B7A",
    "clip": "#CC79A7",
    "optimiser": "#009E73",
    "handlers and rest": "#999999",
}
DARK = ("#0072B2", "#004B7A", "#009E73")  # black could not be read on them
MOMENTS = ("begin", "batch", "ready", "forward", "loss", "backward", "clip", "step", "end")  # around the parts
ITERATIONS, QUICK_ITERATIONS = 10, 3  # of a round
UNCOUNTED = 2  # at a round's begin


def profile(task: Task, picture: str) -> dict[str, dict[str, float]]:
    """Draw the picture; returns the median milliseconds of each part, for each pipeline. They run in turn."""
    count = UNCOUNTED + (QUICK_ITERATIONS if task.quick else ITERATIONS)
    zoo = task.overrides(output_dir=str(task.scratch / "run_zoo"))
    stopwatches = {
        "zoo-style": Stopwatch(Training(["train.yaml", str(ZOO)], zoo)),
        "ours": Stopwatch(Training(["train.yaml"], task.overrides())),
    }
    for _ in range(task.rounds):
        for stopwatch in stopwatches.values():
            stopwatch.training.run(count)
    found = {name: stopwatch.medians() for name, stopwatch in stopwatches.items()}
    draw(found, picture, task.device)
    return found


class Stopwatch:
    """Takes the time at each of MOMENTS of a trainer's iterations; a GPU is waited for at each, so nothing overlaps."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.moments: dict[str, float] = {}
        self.rows: list[dict[str, float]] = []
        trainer = training.trainer
        trainer.prepare_batch = self._around(trainer.prepare_batch, "batch", "ready")
        self.fire = trainer.fire_event
        trainer.fire_event = self._fire  # before the handlers of an event, so that those have a part of their own
        trainer.add_event_handler(Events.GET_BATCH_STARTED, lambda _: self.take("begin"))
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._row)

    def take(self, moment: str) -> None:
        wait_for(self.training.device)
        self.moments[moment] = time.perf_counter()

    def _around(self, function: Any, before: str, after: str) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.take(before)
            result = function(*args, **kwargs)
            self.take(after)
            return result

        return wrapped

    def _fire(self, event: Any) -> None:
        names = {"FORWARD": "forward", "LOSS": "loss", "BACKWARD": "backward", "MODEL": "step"}
        moment = names.get(event.name.removesuffix("_COMPLETED"))
        if moment:  # others, such as a saved checkpoint, are no part of an iteration
            self.take(moment)
        self.fire(event)
        if event == IterationEvents.BACKWARD_COMPLETED:
            self.take("clip")

    def _row(self, engine: Any) -> None:
        self.take("end")
        if engine.state.iteration > UNCOUNTED:
            self.rows.append(durations(self.moments))

    def medians(self) -> dict[str, float]:
        return {part: round(statistics.median(row[part] for row in self.rows), 2) for part in PARTS}


def durations(moments: dict[str, float]) -> dict[str, float]:
    """Seconds at each of MOMENTS -> milliseconds of each of PARTS."""
    steps = zip(PARTS, MOMENTS[:-1], MOMENTS[1:], strict=True)
    return {part: 1000 * (moments[after] - moments[before]) for part, before, after in steps}


def draw(found: dict[str, dict[str, float]], picture: str, device: str) -> None:
    """One bar for each pipeline; the numbers are milliseconds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    names = list(found)[::-1]
    widest = max(sum(one.values()) for one in found.values())
    for place, name in enumerate(names):
        left = 0.0
        for part, colour in PARTS.items():
            width = found[name][part]
            label = part if place == 0 else None
            axes.barh(place, width, height=0.6, left=left, color=colour, edgecolor="white", label=label)
            if width > 0.03 * widest:
                ink = "white" if colour in DARK else "black"
                axes.text(left + width / 2, place, f"{width:.0f}", ha="center", va="center", color=ink)
            left += width
        axes.text(left + 0.005 * widest, place, f"{left:.0f} ms", va="center", fontweight="bold")
        thin = ", ".join(f"{part} {n:.1f}" for part, n in found[name].items() if n <= 0.03 * widest)
        axes.text(0, place - 0.34, thin, va="top", fontsize=8, color="#444444")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(0, 1.1 * widest)
    axes.set_ylim(-0.6, len(names) - 0.6)
    axes.set_xlabel(f"milliseconds of one training iteration on {device} (medians)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(PARTS), fontsize=8, frameon=False)
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture)
