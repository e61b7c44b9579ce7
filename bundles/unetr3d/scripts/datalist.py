"""Turn a datalist (JSON) or a folder of cases into the items that MONAI's datasets take.

An item is {"image": paths, "channels": [4 ints], "label": path, "values": label values per region, "case": str};
`channels` and `values` are for the transforms SelectModalitiesd and Regionsd. Before the run begins the headers of its
files are compared, and their lengths, so that a missing, foreign or incomplete file stops it at once, with one line.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

import numpy as np

from .brats import MODALITIES, CaseError, find_cases, nothing_found, require_complete
from .errors import checked, refuse
from .grids import by, grids_of

REGIONS = ("wt", "tc", "et")  # whole tumour, tumour core, enhancing tumour: each within the one before
WT = REGIONS[:1]
Names = str | Sequence[str]
FILES = ("label", "soft", "ignore")  # of an item, each one on the grid of its image
ALL = "all"  # in place of a fold's number: every case trains
GRID_TOLERANCE_MM = 1e-2  # how far two affines may differ and still mean the same grid


def region_names(regions: Names) -> list[str]:
    """`wt`, `wt,tc,et` or a list of them -> a list. Refuses any other choice: regions are nested, the outer first."""
    names = regions.replace(" ", "").split(",") if isinstance(regions, str) else regions
    names = list(names) if isinstance(names, (list, tuple)) else []
    if names != list(REGIONS[: len(names)]) or not names:
        refuse(f"regions is {regions!r}. It must be wt, or wt,tc or wt,tc,et (whole tumour, core, enhancing).")
    return names


def training_items(datalist: str, dataset_dir: str = "", fold: int | str = 0, regions: Names = WT) -> list[dict]:
    """Items of the datalist's `training` section outside `fold`; with the fold "all", every one."""
    items = [
        i for i in section_items(datalist, dataset_dir, "training", region_names(regions)) if i.get("fold") != fold
    ]
    return checked_items(items, f"{datalist}: no training case outside fold {fold}. Choose another with --fold.")


def validation_items(datalist: str, dataset_dir: str = "", fold: int | str = 0, regions: Names = WT) -> list[dict]:
    """Items of the datalist's `training` section inside `fold`; the `testing` section is never read here.

    With the fold "all" nothing is left to validate: fold 0 is shown, and said to have trained.
    """
    if fold == ALL:
        print("fold all: every case trains; the validation Dice is of training cases and flatters", file=sys.stderr)
        fold = 0
    items = [
        i for i in section_items(datalist, dataset_dir, "training", region_names(regions)) if i.get("fold") == fold
    ]
    return checked_items(items, f"{datalist}: no case in fold {fold}. Choose another with --fold.")


def evaluation_items(
    datalist: str, dataset_dir: str = "", section: str = "testing", fold: int = 0, regions: Names = WT
) -> list[dict]:
    """Items to score: `testing` (the default), or `validation`, the training cases inside `fold`."""
    if section == "validation":
        return validation_items(datalist, dataset_dir, fold, regions)
    if section != "testing":
        refuse(f"section is {section!r}. It must be testing or validation.")
    items = section_items(datalist, dataset_dir, section, region_names(regions))
    return checked_items(items, f"{datalist}: its 'testing' list is empty. Score --section validation instead.")


def inference_items(datalist: str = "", dataset_dir: str = "") -> list[dict]:
    """Items to segment: a datalist's `testing` section, or else every case folder below `dataset_dir`.

    No truth is needed, and none is read.
    """
    if datalist:
        items = section_items(datalist, dataset_dir, "testing", ())
    elif dataset_dir:
        items = folder_items(dataset_dir)
    else:
        refuse("nothing to segment. Give --dataset_dir FOLDER (BraTS-named cases) or --datalist FILE.")
    items = [{key: item[key] for key in ("image", "channels", "case")} for item in items]
    return checked_items(items, f"{datalist}: its 'testing' list is empty. Give --dataset_dir instead.", truth=False)


def folder_items(folder: str) -> list[dict]:
    try:
        cases = find_cases(folder)
        if not cases:
            raise CaseError(nothing_found(folder))
        for case in cases:
            require_complete(case)
    except CaseError as error:
        refuse(str(error))
    except OSError as error:
        refuse(f"{error.filename} cannot be read ({error.strerror}). Check its permissions.")
    return [{"image": list(case.image), "channels": list(range(len(MODALITIES))), "case": case.case} for case in cases]


def section_items(
    datalist: str, dataset_dir: str, section: str, regions: Sequence[str], also: Sequence[str] = ()
) -> list[dict]:
    """Read one section, with its paths made absolute by `dataset_dir` or the folder the datalist names.

    also: keys of an item that are kept although a plain training has no use for them.
    """
    if not datalist:
        refuse("no datalist. Make one with `python -m autoconf inspect DATA --out WORK`; give it as --datalist FILE.")
    try:
        with open(datalist, encoding="utf-8") as stream:
            content = checked(json.load(stream), "object", "it")
        modalities = [
            checked(name, "text", "a contrast") for name in checked(content["modalities"], "list", "modalities")
        ]
        regions_of_all = _label_values(content.get("regions"), "regions")
        listed = content.get(section, []) if section == "unlabelled" else content[section]
        items = [_item(item, modalities, regions_of_all, also) for item in checked(listed, "list", section)]
        _check_names([item["case"] for item in items], section)
        root = root_of(content, datalist, dataset_dir)
    except OSError as error:
        refuse(f"cannot read datalist {datalist}: {error.strerror}.")
    except (ValueError, KeyError, RecursionError) as error:
        refuse(f"{datalist} is not a datalist of volumes ({_what(error)}). `autoconf inspect` writes one.")
    if not set(MODALITIES) <= set(modalities):
        refuse(f"{datalist} lists the modalities {modalities}; this network needs {list(MODALITIES)}.")
    return [_absolute(_of_regions(item, regions, datalist), root) for item in items]


def root_of(content: dict, datalist: str, dataset_dir: str) -> str:
    """The folder that a datalist's paths start from: `dataset_dir`, or the one it names, or its own.

    Raises ValueError if what it names is no text.
    """
    named = content.get("dataset_dir")
    return dataset_dir or checked(os.path.dirname(datalist) if named is None else named, "text", "dataset_dir")


def _check_names(cases: Sequence[str], section: str) -> None:
    """Raise ValueError for a name that is no file's, or that two cases have: one's mask would replace the other's."""
    seen: set[str] = set()
    for case in cases:
        if "/" in case or os.sep in case:
            raise ValueError(f"a case is called {case!r:.200}, but masks are named after cases: no '/'")
        if case in seen:
            raise ValueError(f"two cases of {section} are called {case!r:.200}; masks are named after cases")
        seen.add(case)


def _item(item: dict, modalities: list[str], regions: dict[str, list[int]], also: Sequence[str] = ()) -> dict:
    """Check one entry of the datalist and say where each of MODALITIES lies among its loaded channels, -1 for nowhere.

    An image is one file with all modalities on its last axis, or a file per contrast, null where it is missing.
    """
    case = checked(checked(item, "object", "a case")["case"], "text", "the name of a case")
    image = item["image"]
    if isinstance(image, str):
        paths, present = [image], list(modalities)
    else:
        if len(checked(image, "list", f"the image of case {case!r}")) != len(modalities) or not any(image):
            raise ValueError(f"case {case!r} needs {len(modalities)} images")
        paths = [checked(path, "text", f"a path of case {case!r}") for path in image if path is not None]
        present = [contrast for contrast, path in zip(modalities, image, strict=True) if path is not None]
    channels = [present.index(contrast) if contrast in present else -1 for contrast in MODALITIES]
    found = {"case": case, "image": paths, "channels": channels, "regions": regions}
    if item.get("regions") is not None:
        found["regions"] = _label_values(item["regions"], f"regions of case {case!r}")
    if item.get("fold") is not None:
        found["fold"] = checked(item["fold"], "whole number", f"the fold of case {case!r}")
    if item.get("label") not in (None, ""):
        found["label"] = checked(item["label"], "text", f"the label of case {case!r}")
    for key in also:
        if item.get(key) not in (None, ""):
            kind = "text" if key in FILES or isinstance(item[key], str) else "whole number"
            found[key] = checked(item[key], kind, f"the {key} of case {case!r}")
    return found


def _label_values(regions: dict[str, list[int]] | None, what: str) -> dict[str, list[int]]:
    """Check what a datalist says of regions; {} where it says nothing."""
    regions = {} if regions is None else checked(regions, "object", what)
    for name, values in regions.items():
        for value in checked(values, "list", f"{name!r} in {what}"):
            checked(value, "number", f"a label value of {name!r} in {what}")
    return regions


def _of_regions(item: dict, regions: Sequence[str], datalist: str) -> dict:
    """Replace the item's regions by the label values of those asked for; without any, what is not 0 is tumour."""
    known = item.pop("regions")
    if not known and tuple(regions) == WT:
        return item
    for region in regions:
        if region not in known:
            listed = ", ".join(known) or "none"
            refuse(f"{datalist}: case {item['case']} has no region '{region}' (it has: {listed}). Change --regions.")
    return item | {"values": [list(known[region]) for region in regions]}


def _absolute(item: dict, root: str) -> dict:
    item = {**item, "image": [os.path.join(root, path) for path in item["image"]]}
    return item | {key: os.path.join(root, item[key]) for key in FILES if key in item}


def checked_items(items: list[dict], if_empty: str, truth: bool = True) -> list[dict]:
    """Refuse an empty list, and items whose files are missing, cut short, or on different grids."""
    if not items:
        refuse(if_empty)
    for item in items:
        if truth and "label" not in item:
            refuse(f"the datalist's case {item['case']} has no 'label'. Add its mask, or take it out of that list.")
    files = [[*item["image"], *_files(item.get("label", []))] for item in items]
    grids = grids_of({path: 0 for paths in files for path in paths} | _channels_needed(items))
    for first, *others in files:
        shape, affine = grids[first]
        for path in others:
            other_shape, other_affine = grids[path]
            if other_shape != shape:
                refuse(f"{path} has shape {by(other_shape)} but {first} has {by(shape)}. Bring both onto one grid.")
            if not np.allclose(other_affine, affine, atol=GRID_TOLERANCE_MM):
                refuse(f"{path} and {first} have different affines. Co-register them to one grid.")
    return items


def _files(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _channels_needed(items: list[dict]) -> dict[str, int]:
    """How many channels the files must have that hold all modalities of a case."""
    return {item["image"][0]: max(item["channels"]) + 1 for item in items if len(item["image"]) == 1}


def _what(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else _first_line(error)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
