"""Find which prediction belongs to which truth. Looks at names only; no image is read here."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

from autoconf.data.brats import CaseError, find_cases, patient_of, walk_files
from autoconf.data.datalist import Case, Datalist, read_datalist
from autoconf.data.images import find_images
from autoconf.data.layouts.brats import family_of
from autoconf.data.masks import masks_in
from autoconf.data.pairs import Pair, if_there
from autoconf.errors import AutoconfError

FLAIR = 3  # its place in a case's images
SPLITS = ("testing", "validation", "training", "folds")


@dataclass(frozen=True)
class Pairs:
    """What is to be scored, and what was left aside: predictions without truth, truths without prediction."""

    kind: str  # "volumes" or "images"
    scored: list[Pair]
    without_truth: list[str] = field(default_factory=list)
    without_pred: list[str] = field(default_factory=list)
    training: list[Pair] = field(default_factory=list)  # true masks that a model may have learned from, without pred


def find_pairs(pred: str, truth: str, split: str, dataset_dir: str = "") -> Pairs:
    """Match a folder of predicted masks with the truth, by name.

    truth: a datalist (all cases of its `split`, so a prediction may be missing), or a folder of BraTS cases, of
    <case>.nii.gz masks, or of image masks with the same relative names (only what both have is scored).
    Raises AutoconfError where nothing matches or a name is not unique.
    """
    if not os.path.isdir(pred):
        raise AutoconfError(f"{pred or 'PRED'}: no such folder. Give the folder that holds the predicted masks.")
    if truth.lower().endswith(".json"):
        return _pairs_of_datalist(pred, truth, split, dataset_dir)
    if not os.path.isdir(truth):
        raise AutoconfError(f"{truth or 'TRUTH'}: no such folder. Give a folder of true masks, or a datalist.json.")
    predictions = masks_in(pred)
    kind = "volumes" if predictions else "images"
    if predictions:
        truths = {pair.case: pair for pair in _true_masks(truth)}
    else:
        predictions = _images(pred)
        truths = {name: Pair(name, None, path, patient=name) for name, path in _images(truth).items()}
    both = sorted(predictions.keys() & truths.keys())
    if not both:
        raise AutoconfError(_no_match(pred, sorted(predictions), truth, sorted(truths)))
    return Pairs(
        kind,
        [replace(truths[case], pred=predictions[case]) for case in both],
        without_truth=sorted(predictions.keys() - truths.keys()),
        without_pred=sorted(truths.keys() - predictions.keys()),
    )


def _pairs_of_datalist(pred: str, path: str, split: str, dataset_dir: str) -> Pairs:
    if split not in SPLITS:
        raise AutoconfError(f"--split {split}: no such part of the data. There are: {', '.join(SPLITS)}.")
    datalist = read_datalist(path, dataset_dir)
    learned = datalist.training if split == "folds" else datalist.learning()
    cases = {"testing": datalist.testing, "validation": datalist.validating()}.get(split, learned)
    if not cases:
        raise AutoconfError(f"{path}: its {split} split lists no case. Choose another with --split.")
    bare = next((case.name for case in cases if not case.label), None)
    if bare and not datalist.is_3d:
        raise AutoconfError(f"{path}: lists images without true masks. Give a folder of true masks instead.")
    if bare:
        raise AutoconfError(
            f"{path}: its {split} case '{bare}' has no label. Add its mask, or take it out of that list."
        )
    pairs = sorted((_pair_of(case, datalist) for case in cases), key=lambda pair: pair.case)
    predictions = masks_in(pred) if datalist.is_3d else _images(pred)
    # pseudo2d writes the mask of `class/1.jpg` to `class/1.jpg.png`
    named = {p.case: predictions.get(p.case) or predictions.get(f"{p.case}.png") for p in pairs}
    if not any(named.values()):
        raise AutoconfError(_no_match(pred, sorted(predictions), f"the {split} split of {path}", list(named)))
    return Pairs(
        datalist.kind,
        [replace(pair, pred=named[pair.case]) for pair in pairs],
        without_truth=sorted(name for name, found in predictions.items() if found not in named.values()),
        training=[_pair_of(case, datalist) for case in learned if case.label],
    )


def _pair_of(case: Case, datalist: Datalist) -> Pair:
    """The case of a datalist, without a prediction. Of a file with all modalities no image is taken."""
    flair = datalist.file_of(case, "flair")
    path = if_there(flair[0]) if flair and not case.stacked else None
    regions = datalist.regions_of(case)
    return Pair(case.name, None, case.label or "", path, case.patient, dict(regions) if regions else None)


def _true_masks(folder: str) -> list[Pair]:
    """The true masks of a folder of BraTS cases, with their FLAIR images; or else of all NIfTI files in it."""
    try:
        cases = find_cases(folder)
    except CaseError as error:
        raise AutoconfError(str(error)) from error
    named = [
        Pair(case.case, None, case.label, case.image[FLAIR], case.patient, family=family_of(case))
        for case in cases
        if case.label
    ]
    return named or [Pair(case, None, path, patient=patient_of(case)) for case, path in masks_in(folder).items()]


def _images(folder: str) -> dict[str, str]:
    """Relative path -> path of all images in a folder."""
    return {name: os.path.join(folder, name) for name in find_images(folder)}


def _no_match(pred: str, predictions: list[str], truth: str, cases: list[str]) -> str:
    """What lies on either side, for an error message."""
    held = [
        f"{where} holds "
        + (f"{len(names)} masks, e.g. {names[0]}" if names else f"{len(list(walk_files(where)))} files but no masks")
        for where, names in ((pred, predictions), (truth, cases))
    ]
    return (
        f"no prediction matches: {held[0]}; {held[1]}. "
        "Name each prediction <case>.nii.gz, or, for images, as its true mask."
    )
