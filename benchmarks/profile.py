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

PARTS = ("make the batch", "augment it", "forward", "loss", "backward", "clip and step", "handlers and rest")
COLOURS = ("#E69F00", "#F0E442", "#0072B2", "#56B4E9", "#004B7A", "#009E73", "#999999")  # Okabe and Ito's
ITERATIONS, QUICK_ITERATIONS = 30, 5


def profile(task: Task, picture: str) -> dict[str, dict[str, float]]:
    """Draw the picture; returns the median milliseconds of each part, for each pipeline."""
    count = QUICK_ITERATIONS if task.quick else ITERATIONS
    zoo = task.overrides(output_dir=str(task.scratch / "run_zoo"))
    found = {
        "zoo-style": parts(Training(["train.yaml", str(ZOO)], zoo), count),
        "ours": parts(Training(["train.yaml"], task.overrides()), count),
    }
    draw(found, picture, task.device)
    return found


def parts(training: Training, count: int) -> dict[str, float]:
    """Median milliseconds of each part of an iteration."""
    trainer, stamps = training.trainer, {}
    rows: list[dict[str, float]] = []

    def stamp(name: str) -> None:
        wait_for(training.device)
        stamps[name] = time.perf_counter()

    def row(_: Any) -> None:
        stamp("end")
        order = ("begin", "batch", "ready", "forward", "loss", "backward", "step", "end")
        rows.append({part: 1000 * (stamps[b] - stamps[a]) for part, a, b in zip(PARTS, order, order[1:], strict=True)})

    prepare = trainer.prepare_batch

    def prepared(*args: Any, **kwargs: Any) -> Any:
        stamp("batch")
        batch = prepare(*args, **kwargs)
        stamp("ready")
        return batch

    trainer.prepare_batch = prepared
    trainer.add_event_handler(Events.GET_BATCH_STARTED, lambda _: stamp("begin"))
    for event, name in (("FORWARD", "forward"), ("LOSS", "loss"), ("BACKWARD", "backward"), ("MODEL", "step")):
        trainer.add_event_handler(getattr(IterationEvents, f"{event}_COMPLETED"), lambda _, name=name: stamp(name))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, row)
    training.run(count + 3)
    return {part: round(statistics.median(one[part] for one in rows[3:]), 2) for part in PARTS}


def draw(found: dict[str, dict[str, float]], picture: str, device: str) -> None:
    """One bar for each pipeline; the numbers are milliseconds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), dpi=110, layout="constrained")
    axes = figure.subplots()
    names = list(found)[::-1]
    widest = max(sum(one.values()) for one in found.values())
    for place, name in enumerate(names):
        left = 0.0
        for part, colour in zip(PARTS, COLOURS, strict=True):
            width = found[name][part]
            axes.barh(place, width, left=left, color=colour, edgecolor="white", label=part if place == 0 else None)
            if width > 0.03 * widest:
                white = colour in ("#0072B2", "#004B7A", "#009E73")
                axes.text(left + width / 2, place, f"{width:.0f}", ha="center", va="center", color="white" if white else "black")
            left += width
        axes.text(left + 0.005 * widest, place, f"{left:.0f} ms", va="center", fontweight="bold")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(0, 1.1 * widest)
    axes.set_xlabel(f"milliseconds of one training iteration on {device} (medians)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(PARTS), fontsize=8, frameon=False)
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture)
