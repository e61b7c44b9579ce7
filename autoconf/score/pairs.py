"""Find which prediction belongs to which truth. Looks at names only; no image is read here."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

from autoconf.errors import AutoconfError
from autoconf.inspect.brats import CaseError, find_cases, walk_files
from autoconf.inspect.images import find_images

NIFTI = (".nii.gz", ".nii")
FLAIR = 3  # its place in a case's images
PROBABILITY = "_probability"  # end of the names of probability maps
SPLITS = ("testing", "validation", "training")


@dataclass(frozen=True)
class Pair:
    """One case to score. pred is None where the prediction is missing, flair where no image is known."""

    case: str
    pred: str | None
    truth: str
    flair: str | None = None


@dataclass(frozen=True)
class Pairs:
    """What is to be scored, and what was left aside: predictions without truth, truths without prediction."""

    kind: str  # "volumes" or "images"
    scored: list[Pair]
    without_truth: list[str] = field(default_factory=list)
    without_pred: list[str] = field(default_factory=list)


def find_pairs(pred: str, truth: str, split: str, dataset_dir: str = "") -> Pairs:
    """Match a folder of predicted masks with the truth, by name.

    truth: a datalist (all cases of its `split`, so a prediction may be missing), or a folder of BraTS cases, of
    <case>.nii.gz masks, or of image masks with the same relative names (only what both have is scored).
    Raises AutoconfError where nothing matches or a name is not unique.
    """
    if not os.path.isdir(pred):
        raise AutoconfError(f"{pred}: no such folder. Give the folder that holds the predicted masks.")
    if truth.lower().endswith(".json"):
        return _pairs_of_datalist(pred, truth, split, dataset_dir)
    if not os.path.isdir(truth):
        raise AutoconfError(f"{truth}: no such folder. Give a folder of true masks, or a datalist.json.")
    predictions = _masks(pred)
    if predictions:
        truths = _true_masks(truth)
        kind = "volumes"
    else:
        predictions = {name: os.path.join(pred, name) for name in find_images(pred)}
        truths = {name: (os.path.join(truth, name), None) for name in find_images(truth)}
        kind = "images"
    both = sorted(predictions.keys() & truths.keys())
    if not both:
        raise AutoconfError(_no_match(pred, sorted(predictions), truth, sorted(truths)))
    return Pairs(
        kind,
        [Pair(case, predictions[case], *truths[case]) for case in both],
        without_truth=sorted(predictions.keys() - truths.keys()),
        without_pred=sorted(truths.keys() - predictions.keys()),
    )


def _pairs_of_datalist(pred: str, path: str, split: str, dataset_dir: str) -> Pairs:
    if split not in SPLITS:
        raise AutoconfError(f"--split {split}: no such part of the data. There are: {', '.join(SPLITS)}.")
    datalist = _read_datalist(path)
    if datalist["kind"] != "volumes":
        raise AutoconfError(f"{path}: lists images, which have no true masks. Give a folder of true masks instead.")
    items = datalist["testing"] if split == "testing" else datalist["training"]
    if split != "testing":
        items = [item for item in items if (item.get("fold") == 0) == (split == "validation")]
    if not items:
        raise AutoconfError(f"{path}: its {split} split lists no case. Choose another with --split.")
    predictions = _masks(pred)
    cases = [item["case"] for item in items]
    if not predictions.keys() & set(cases):
        raise AutoconfError(_no_match(pred, sorted(predictions), f"the {split} split of {path}", cases))
    root = dataset_dir or datalist["dataset_dir"]
    bare = next((item["case"] for item in items if not item.get("label")), None)
    if bare:
        raise AutoconfError(
            f"{path}: its {split} case '{bare}' has no label. Add its mask, or take it out of that list."
        )
    return Pairs(
        "volumes",
        [
            Pair(
                item["case"],
                predictions.get(item["case"]),
                os.path.join(root, item["label"]),
                _flair_of(item["image"], root),
            )
            for item in sorted(items, key=lambda item: item["case"])
        ],
        without_truth=sorted(predictions.keys() - set(cases)),
    )


def _read_datalist(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            datalist = json.load(file)
        datalist = {key: datalist[key] for key in ("kind", "dataset_dir", "training", "testing")}
        for item in [*datalist["training"], *datalist["testing"]]:
            if not isinstance(item["case"], str) or not isinstance(item.get("label", ""), str):
                raise ValueError(f"the case or label of {item['case']!r:.60} is no text")
            if not isinstance(item["image"], (str, list)):
                raise ValueError(f"the image of {item['case']!r:.60} is no path and no list of paths")
        if not isinstance(datalist["dataset_dir"], str):
            raise ValueError("dataset_dir is no text")
        return datalist
    except FileNotFoundError:
        raise AutoconfError(f"{path}: no such file. Make it with: python -m autoconf inspect DATA --out OUT") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AutoconfError(
            f"{path}: not a datalist ({type(error).__name__}: {error}). "
            "Make it with: python -m autoconf inspect DATA --out OUT"
        ) from error


def _masks(folder: str) -> dict[str, str]:
    """case -> path of the NIfTI files that lie directly in the folder."""
    masks: dict[str, str] = {}
    for name in sorted(os.listdir(folder)):
        end = next((end for end in NIFTI if name.lower().endswith(end)), None)
        if end is None or name.startswith("."):
            continue
        case = name[: -len(end)]
        if case in masks:
            raise AutoconfError(f"{folder}: holds both {os.path.basename(masks[case])} and {name}. Remove one.")
        masks[case] = os.path.join(folder, name)
    return {case: path for case, path in masks.items() if not _is_probability(case, masks)}


def _is_probability(case: str, masks: dict[str, str]) -> bool:
    """True for `<case>_probability` beside `<case>`, as inference writes the two on request."""
    return case.removesuffix(PROBABILITY) != case and case.removesuffix(PROBABILITY) in masks


def _true_masks(folder: str) -> dict[str, tuple[str, str | None]]:
    """case -> (path of the true mask, path of its FLAIR image if there is one)."""
    try:
        cases = find_cases(folder)
    except CaseError as error:
        raise AutoconfError(str(error)) from error
    named = {case.case: (case.label, case.image[FLAIR]) for case in cases if case.label}
    return named or {case: (path, None) for case, path in _masks(folder).items()}


def _no_match(pred: str, predictions: list[str], truth: str, cases: list[str]) -> str:
    """What lies on either side, for an error message."""
    there = f"{len(predictions)} masks, e.g. {predictions[0]}" if predictions else f"{_files(pred)} files but no masks"
    wanted = f"{len(cases)} masks, e.g. {cases[0]}" if cases else f"{_files(truth)} files but no masks"
    return (
        f"no prediction matches: {pred} holds {there}; {truth} holds {wanted}. "
        "Name each prediction <case>.nii.gz, or, for images, as its true mask."
    )


def _flair_of(image: str | list[str | None], root: str) -> str | None:
    """The path of the FLAIR image; None where it is missing, or lies in one file with the other contrasts."""
    path = image[FLAIR] if isinstance(image, list) and len(image) > FLAIR else None
    return _if_there(os.path.join(root, path)) if isinstance(path, str) else None


def _if_there(path: str) -> str | None:
    return path if os.path.isfile(path) else None


def _files(folder: str) -> int:
    return sum(1 for _ in walk_files(folder))
