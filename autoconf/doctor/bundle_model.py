"""Does a trained network do its work? Measured on a few cases, with its own plan and in the precision that it uses."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser

from autoconf.data.scans import modality_of
from autoconf.data.volumes import bounding_box
from autoconf.doctor.bundle_data import mask_size
from autoconf.doctor.checks import Outcome, Subject
from autoconf.doctor.lists import read_list
from autoconf.doctor.opened import config, image_format, load_weights, preprocessed
from autoconf.doctor.paired import ENOUGH, Gain, gain
from autoconf.doctor.samples import sample
from autoconf.score.metrics import overlap
from autoconf.score.references import flair_threshold

CASES, QUICK_CASES = 6, 3  # at most, of each side
BLOCKS = ("TransformerBlock", "SwinTransformerBlock")  # classes of MONAI whose output can be their input
FEW = f"too few cases for a verdict, which needs {ENOUGH} patients"
ARITHMETIC = "this machine's arithmetic (run evaluating again with --amp False and compare)"
LOOK_AT_MODALITY = f"Look at: its files and their order in the datalist, their registration, {ARITHMETIC}"
LOOK_AT_TRANSFORMER = f"Look at: {ARITHMETIC}, weights of another plan, scans unlike those that trained it"
LOOK_AT_WEIGHTS = f"Look at: weights of another plan or voxel size, the order of the modalities, {ARITHMETIC}, regions"


@dataclass(frozen=True)
class Ready:
    """A case as the network gets it. image: (1, C, ...) floats on the CPU. truth: (...) of the first region."""

    patient: str
    image: torch.Tensor
    truth: np.ndarray

    def cut(self, window: tuple[slice, ...]) -> Ready:
        """The part inside a window, one slice per spatial axis."""
        return replace(self, image=self.image[(slice(None), slice(None), *window)], truth=self.truth[window])


def modalities_used(subject: Subject) -> Outcome:
    """Dice with each modality replaced by 0, its mean after z-scoring, in turn.

    Only cases that have a modality say something of it.
    """
    parser, network = trained(subject)
    cases = shown(subject, parser)
    whole = predict(parser, network, cases)
    dice = dices(whole, cases)
    said, unused, gains = [f"all {np.mean(dice):.3f}"], [], {}
    for place, name in sorted((int(place), name) for place, name in image_format(subject)["channel_def"].items()):
        having = [number for number, case in enumerate(cases) if case.image[:, place].any()]
        if not having:
            said.append(f"no case has {name}")
            continue
        those = [cases[number] for number in having]
        without = predict(parser, network, those, drop=place)
        gains[name] = gain(dices(without, those), [dice[n] for n in having], [case.patient for case in those])
        said.append(f"without {name} {np.mean(dices(without, those)):.3f}")
        if all(np.array_equal(whole[n], mask) for n, mask in zip(having, without, strict=True)):
            unused.append(name)
    wrong = [f"never looked at: {', '.join(unused)}"] if unused else []
    wrong += [f"better without {name} ({found})" for name, found in gains.items() if found.is_clear]
    note = f"{'; '.join(wrong)}. {LOOK_AT_MODALITY}" if wrong else _note(gains)
    return Outcome(f"Dice {', '.join(said)} (n = {len(cases)})", not wrong, note)


def _note(gains: dict[str, Gain]) -> str:
    """What stands beside a pass: what it could not decide, if anything. gains: by what was left out."""
    if any(found.few for found in gains.values()):
        return FEW
    unclear = [f"perhaps better without {name} ({found})" for name, found in gains.items() if found.is_unclear]
    return "; ".join(unclear) or "on the network's own voxels"


def transformer_share(subject: Subject) -> Outcome:
    """Dice with each transformer block handing on its input."""
    parser, network = trained(subject)
    blocks = [module for module in network.modules() if type(module).__name__ in BLOCKS]
    if not blocks:
        return Outcome("the network has no transformer", None)
    cases = shown(subject, parser)
    whole = dices(predict(parser, network, cases), cases)
    with contextlib.ExitStack() as undo:
        for block in blocks:
            undo.callback(block.register_forward_hook(lambda _, given, __: given[0]).remove)
        without = dices(predict(parser, network, cases), cases)
    found = gain(without, whole, [case.patient for case in cases])
    measured = f"Dice {np.mean(whole):.3f}, {np.mean(without):.3f} with {len(blocks)} blocks as identity"
    measured += f" (n = {len(cases)})"
    if found.is_clear:
        return Outcome(measured, False, f"better without its transformer ({found}). {LOOK_AT_TRANSFORMER}")
    return Outcome(measured, True, _note({"its transformer": found}))


def beats_threshold(subject: Subject) -> Outcome:
    """Dice on cases of the folds that train, of the network and of `autoconf score`'s FLAIR threshold."""
    names = image_format(subject)["channel_def"]
    flair = next((int(place) for place, name in names.items() if modality_of(name) == "flair"), None)
    if flair is None:
        return Outcome("the bundle takes no FLAIR, of which the threshold is made", None)
    parser, network = trained(subject, training=_count(subject))
    if first_region(parser) != "wt":
        return Outcome(f"its first region is {first_region(parser)}; the threshold is of the whole tumour", None)
    spacing = parser.get_parsed_content("target_spacing")
    cases, bright = [], []
    for case in ready(subject, parser, "train"):
        if case.image[:, flair].any():
            box = window(case.truth, patch(subject, parser))
            bright.append(flair_threshold(case.image[0, flair].numpy(), spacing)[box])
            cases.append(case.cut(box))
    if not cases:
        return Outcome("no training case has FLAIR", None)
    own, theirs = dices(predict(parser, network, cases), cases), dices(bright, cases)
    found = gain(theirs, own, [case.patient for case in cases])
    measured = f"Dice {np.mean(own):.3f}, a FLAIR threshold {np.mean(theirs):.3f} (n = {len(cases)} training cases)"
    if found.is_clear or (found.mean > 0 and not found.few):  # on its own cases it should be far above
        return Outcome(measured, False, f"worse than a threshold on cases that it was trained on. {LOOK_AT_WEIGHTS}")
    return Outcome(measured, True, FEW if found.few else "on the network's own voxels")


def first_region(parser: ConfigParser) -> str:
    """The region of the network's first channel; "wt" where the bundle knows no others."""
    regions = parser.get_parsed_content("regions") if "regions" in parser else "wt"
    return str(regions.split(",")[0] if isinstance(regions, str) else regions[0]).strip()


def trained(subject: Subject, training: int = 1) -> tuple[ConfigParser, Any]:
    """train.yaml with the plan and a few cases, and its network with the checkpoint's weights, on the config's device.

    training: cases of the folds that train. Raises RuntimeError if the weights are those of another network or plan.
    """
    overrides = sample(subject, training, _count(subject), **mask_size(subject))
    parser = config(subject, "train", **overrides, dropout=0.0, amp=True)
    network = parser.get_parsed_content("network")
    load_weights(network, subject.checkpoint)
    return parser, network.eval()


def _count(subject: Subject) -> int:
    return QUICK_CASES if subject.quick else CASES


def ready(subject: Subject, parser: ConfigParser, which: str) -> list[Ready]:
    """The preprocessed cases of a dataset (`train` or `validate`), on the network's own voxels."""
    patients = {case.name: case.patient for case in read_list(subject).cases}
    found = []
    for item, done in preprocessed(parser, which):
        image = torch.as_tensor(done["image"]).float()[None].clone()
        found.append(Ready(patients[item["case"]], image, np.asarray(done["label"])[0] > 0))
    return found


def shown(subject: Subject, parser: ConfigParser) -> list[Ready]:
    """What the network is asked about: the cases of fold 0, whole or a patch of each."""
    size = patch(subject, parser)
    return [case.cut(window(case.truth, size)) for case in ready(subject, parser, "validate")]


def patch(subject: Subject, parser: ConfigParser) -> Sequence[int] | None:
    """With --quick the network is asked about one patch of each case, of this size; None: about the whole of it."""
    return parser.get_parsed_content("patch_size") if subject.quick and "patch_size" in parser else None


def window(truth: np.ndarray, size: Sequence[int] | None) -> tuple[slice, ...]:
    """Where a patch lies that is centred on the tumour, as far as the array's edges let it; everywhere if size is None.

    truth: boolean. size: voxels per axis; an axis that is shorter is taken whole.
    """
    if size is None or not truth.any():
        return tuple(slice(None) for _ in truth.shape)
    box = []
    for at, side, length in zip(bounding_box(truth), size, truth.shape, strict=True):
        start = max(0, min((at.start + at.stop) // 2 - side // 2, length - side))
        box.append(slice(start, start + side))
    return tuple(box)


def predict(parser: ConfigParser, network: Any, cases: Sequence[Ready], drop: int | None = None) -> list[np.ndarray]:
    """The mask of the first region for each case, by the inferer that validates. drop: channel to set to 0."""
    inferer = parser.get_parsed_content("validate#inferer")
    device = next(network.parameters()).device
    found = []
    for case in cases:
        image = case.image.clone().to(device)
        if drop is not None:
            image[:, drop] = 0
        with torch.no_grad():
            found.append(inferer(image, network).cpu()[0, 0].numpy() > 0)
    return found


def dices(masks: Sequence[np.ndarray], cases: Sequence[Ready]) -> list[float]:
    """Dice of each case's mask."""
    return [overlap(mask, case.truth).dice for mask, case in zip(masks, cases, strict=True)]
