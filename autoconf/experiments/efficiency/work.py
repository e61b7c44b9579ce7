"""Who does which part, and the doing: each part is one or two processes of the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from autoconf.bundle.runs import bundle_command, drop_weights, run_again
from autoconf.bundle.tables import Shown, last_row, read_dice
from autoconf.data.datalist import Datalist, read_datalist
from autoconf.errors import AutoconfError
from autoconf.experiments.efficiency import draw
from autoconf.experiments.efficiency.masks import dice_of_masks
from autoconf.experiments.efficiency.parts import Part, marks, parts
from autoconf.experiments.efficiency.settings import SCRATCH, LabelCurve
from autoconf.workers.places import Claim, write_json
from autoconf.workers.sealed import prepared
from autoconf.workers.turns import Failed, Left, in_turn, say


def do_parts(job: LabelCurve, wait: bool) -> Left:
    """Do one free part after the other. wait: until no other worker is at one."""

    def do(part: Part, claim: Claim) -> dict[str, Any]:
        return (_point if part.size else _pretrain if part.start else _mark)(job, part, claim)

    return in_turn(parts(job), do, wait)


def _mark(job: LabelCurve, part: Part, claim: Claim) -> dict[str, Any]:
    """Pseudo-masks of all scans, none of whose labels is shown; then their own Dice, which learns nothing either."""
    masks = claim.folder / "masks"
    if not (masks / "pseudo_labels.csv").exists():  # the last file that is written
        data = draw.to_mark(job.data)
        say(part, f"marking {len(data.unlabelled)} scans; its log: {part.log}")
        asked: dict[str, object] = {"datalist": _listed(claim, data), "output_dir": masks}
        _run(part, claim, "pseudo_labelling", [job.config("pseudo_label")], asked)
    try:
        return {"dice": dice_of_masks(job, masks)}
    except AutoconfError as error:
        raise Failed(str(error)) from None


def _pretrain(job: LabelCurve, part: Part, claim: Claim) -> dict[str, Any]:
    """A training without a true mask, once for all points of a seed."""
    fold = job.fold(part.seed)
    data = draw.without_labels(job.data)
    if part.start == "pseudo":
        path = marks(job).place.folder / "masks" / "datalist.json"
        data = draw.marked(job.data, read_datalist(str(path)), fold)
    _train(job, part, claim, data, f"pretrain_{part.start}", {})
    drop_weights(part.run, but=part.weights.name)
    return {"fold": fold, "epochs": job.epochs[part.start], "seconds": _seconds(part)}


def _point(job: LabelCurve, part: Part, claim: Claim) -> dict[str, Any]:
    """Train with the labels of a draw, then score the last epoch on the fold that was held out."""
    fold = job.fold(part.seed)
    data = draw.with_labels_of(job.data, fold, part.seed, part.size)
    # A draw is run through as often as it takes: then few labels are few labels, and not a short training as well.
    values = {"train::sampler::num_samples": job.crops(fold)}
    if part.start == SCRATCH:
        _train(job, part, claim, data, "", values)
    else:
        given: dict[str, object] = {"pretrained": part.needs[0].weights}
        _train(job, part, claim, data, "finetune", values | job.tuning, given)
    out = claim.folder / "evaluation"
    asked = {"datalist": claim.folder / "datalist.json", "fold": fold, "section": "validation"}
    asked |= {"checkpoint": part.weights, "output_dir": out} | _device(job)
    _run(part, claim, "evaluating", job.configs("evaluate"), asked)
    try:
        dice = read_dice(out / "dice_raw.csv")
    except AutoconfError as error:
        raise Failed(str(error)) from None
    if dice.keys() != {case.name for case in job.data.validating(fold)}:
        raise Failed(f"{out / 'dice_raw.csv'}: holds other cases than fold {fold}")
    drop_weights(part.run)
    for path in out.glob("*.nii.gz"):
        path.unlink()
    cases = len(draw.drawn(job.data, fold, part.seed, part.size))
    return {"fold": fold, "cases": cases, "steps": job.steps(fold), "seconds": _seconds(part), "dice": dice}


def _train(
    job: LabelCurve,
    part: Part,
    claim: Claim,
    data: Datalist,
    config: str,
    values: dict[str, Any],
    given: dict[str, object] | None = None,
) -> None:
    """One training, from its last epoch on if it was stopped. config: of the bundle, between train.yaml and the plan.

    values: for the override file. given: for the command line, where paths belong. Raises Failed.
    """
    if part.weights.exists():  # it is written when all epochs are done
        return
    epochs = job.epochs[SCRATCH if part.size else part.start]
    override = claim.folder / "override.yaml"
    settings = {"max_epochs": epochs, "val_interval": epochs, "seed": part.seed, "fold": job.fold(part.seed)} | values
    override.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    words = {"datalist": _listed(claim, data), "output_dir": part.run, "resume": True} | (given or {})
    words |= prepared(job.work, job.bundle, job.choices, job.home) | _device(job)
    more = [job.config(config)] if config else []
    say(part, f"training; its log: {part.log}")
    _run(part, claim, "training", [*job.configs("train", *more), override], words)


def _run(part: Part, claim: Claim, run_id: str, configs: Sequence[str | Path], values: dict[str, object]) -> None:
    """One process of the bundle. Raises Failed, and AutoconfError for a full disk."""
    shown = Shown(part.name, part.run / "progress.csv")

    def watch() -> None:
        claim.beat()
        shown.look()

    ended = run_again(
        bundle_command(run_id, configs, values), part.log, watch, lambda reason: say(part, f"{reason}; again")
    )
    if not ended.ok:
        raise Failed(ended.reason)


def _listed(claim: Claim, data: Datalist) -> Path:
    path = claim.folder / "datalist.json"
    write_json(path, data.plain())
    return path


def _device(job: LabelCurve) -> dict[str, object]:
    return {"device": job.device} if job.device else {}


def _seconds(part: Part) -> float:
    """Of the training, as its table has them: stops are not counted."""
    return round(float(last_row(part.run / "progress.csv").get("seconds") or 0), 1)
