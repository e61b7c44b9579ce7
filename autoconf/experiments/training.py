"""One training run, and its score on the fold that it did not see: what each part of an experiment does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from autoconf.bundle.runs import drop_weights
from autoconf.bundle.tables import last_row, read_dice
from autoconf.errors import AutoconfError
from autoconf.experiments.setup import Setup
from autoconf.workers.parts import Part, PartFailed, Worker


def train(
    setup: Setup, part: Part[Any], worker: Worker, configs: Sequence[str | Path], values: Mapping[str, object]
) -> None:
    """A training run, from its last epoch on if it was stopped; nothing if its last weights are there.

    values: for the command line, where paths belong. Raises PartFailed.
    """
    if part.weights.exists():  # it is written when all epochs are done
        return
    print(f"{part.name}: training; its log: {part.log}", flush=True)
    given = {"datalist": setup.datalist, "output_dir": part.run, "resume": True} | setup.cache()
    worker.run(part, "training", configs, given | worker.on_device | dict(values))


def evaluate(
    setup: Setup,
    part: Part[Any],
    worker: Worker,
    configs: Sequence[str | Path],
    fold: int,
    out: Path,
    values: Mapping[str, object] | None = None,
) -> None:
    """Segment and score the cases of a fold with the last weights; masks and tables go to `out`. Raises PartFailed."""
    given = {"datalist": setup.datalist, "fold": fold, "section": "validation"}
    given |= {"checkpoint": part.weights, "output_dir": out} | worker.on_device | dict(values or {})
    worker.run(part, "evaluating", configs, given)


def dice_of_fold(
    setup: Setup,
    part: Part[Any],
    worker: Worker,
    configs: Sequence[str | Path],
    fold: int,
    values: Mapping[str, object] | None = None,
) -> dict[str, float]:
    """case -> Dice on its scan's own grid, of every case of a fold; drops weights and masks. Raises PartFailed."""
    out = part.folder / "evaluation"
    evaluate(setup, part, worker, configs, fold, out, values)
    try:
        dice = read_dice(out / "dice_raw.csv")
    except AutoconfError as error:
        raise PartFailed(str(error)) from None
    if dice.keys() != {case.name for case in setup.data.validating(fold)}:
        raise PartFailed(f"{out / 'dice_raw.csv'}: holds other cases than fold {fold}")
    drop_weights(part.run)
    for path in out.glob("*.nii.gz"):
        path.unlink()
    return dice


def write_override(part: Part[Any], values: Mapping[str, Any]) -> Path:
    """The settings of one part, an override file on top of the plan."""
    path = part.folder / "override.yaml"
    path.write_text(yaml.safe_dump(dict(values), sort_keys=False, default_flow_style=None), encoding="utf-8")
    return path


def seconds_of(part: Part[Any]) -> float:
    """Of the training run, as its table has them: stops are not counted."""
    return round(float(last_row(part.run / "progress.csv").get("seconds") or 0), 1)
