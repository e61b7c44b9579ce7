"""What is done for each part: one or two processes of the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoconf.bundle.runs import drop_weights
from autoconf.data.datalist import Datalist, read_datalist
from autoconf.errors import AutoconfError
from autoconf.experiments.efficiency import draw
from autoconf.experiments.efficiency.masks import dice_of_masks
from autoconf.experiments.efficiency.parts import CurveTask, pseudo_masks
from autoconf.experiments.efficiency.settings import SCRATCH, LabelCurve
from autoconf.experiments.training import dice_of_fold, seconds_of, train, write_override
from autoconf.output import write_json
from autoconf.workers.parts import Part, PartFailed, Worker


def do_task(curve: LabelCurve, part: Part[CurveTask], worker: Worker) -> dict[str, Any]:
    """Returns the part's result. Raises PartFailed."""
    step = _point if part.task.size else _pretrain if part.task.start else _pseudo_masks
    return step(curve, part, worker)


def _pseudo_masks(curve: LabelCurve, part: Part[CurveTask], worker: Worker) -> dict[str, Any]:
    """Pseudo-masks of all scans, none of whose labels is shown; then their own Dice, which learns nothing either."""
    masks = part.folder / "masks"
    if not (masks / "pseudo_labels.csv").exists():  # the last file that is written
        data = draw.to_mark(curve.setup.data)
        print(f"{part.name}: {len(data.unlabelled)} scans; its log: {part.log}", flush=True)
        values = {"datalist": _listed(part, data), "output_dir": masks}
        worker.run(part, "pseudo_labelling", [curve.setup.config("pseudo_label")], values)
    try:
        return {"dice": dice_of_masks(curve.setup.data, masks)}
    except AutoconfError as error:
        raise PartFailed(str(error)) from None


def _pretrain(curve: LabelCurve, part: Part[CurveTask], worker: Worker) -> dict[str, Any]:
    """A training run without a true mask, once for all points of a seed."""
    start, fold = part.task.start, curve.fold(part.task.seed)
    data = draw.without_labels(curve.setup.data)
    if start == "pseudo":
        path = pseudo_masks(curve).folder / "masks" / "datalist.json"
        data = draw.marked(curve.setup.data, read_datalist(str(path)), fold)
    _train(curve, part, worker, data, f"pretrain_{start}", {}, {})
    drop_weights(part.run, but=part.weights.name)
    return {"fold": fold, "epochs": curve.epochs[start], "seconds": seconds_of(part)}


def _point(curve: LabelCurve, part: Part[CurveTask], worker: Worker) -> dict[str, Any]:
    """Train with the labels of a draw, then score the last epoch on the fold that was held out."""
    task, setup = part.task, curve.setup
    fold = curve.fold(task.seed)
    data = draw.with_labels_of(setup.data, fold, task.seed, task.size)
    # A draw is run through as often as it takes: then few labels are few labels, and not a short training as well.
    values: dict[str, Any] = {"train::sampler::num_samples": curve.crops(fold)}
    if task.start == SCRATCH:
        _train(curve, part, worker, data, "", values, {})
    else:
        _train(curve, part, worker, data, "finetune", values | curve.tuning, {"pretrained": part.needs[0].weights})
    listed = {"datalist": part.folder / "datalist.json"}
    dice = dice_of_fold(setup, part, worker, setup.configs("evaluate"), fold, listed)
    cases = len(draw.drawn(setup.data, fold, task.seed, task.size))
    return {"fold": fold, "cases": cases, "steps": curve.steps(fold), "seconds": seconds_of(part), "dice": dice}


def _train(
    curve: LabelCurve,
    part: Part[CurveTask],
    worker: Worker,
    data: Datalist,
    config: str,
    values: dict[str, Any],
    given: dict[str, object],
) -> None:
    """config: of the bundle, between train.yaml and the plan. values: for the override file. given: paths."""
    task, setup = part.task, curve.setup
    epochs = curve.epochs[SCRATCH if task.size else task.start]
    own = {"max_epochs": epochs, "val_interval": epochs, "seed": task.seed, "fold": curve.fold(task.seed)}
    override = write_override(part, own | values)
    configs = [*setup.configs("train", *([config] if config else [])), override]
    train(setup, part, worker, configs, {"datalist": _listed(part, data)} | given)


def _listed(part: Part[CurveTask], data: Datalist) -> Path:
    path = part.folder / "datalist.json"
    write_json(path, data.plain())
    return path
