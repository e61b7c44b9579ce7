"""Items of scans that nobody marked, or only a program: to label, or to learn from without a truth."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .datalist import ALL, WT, Names, checked_items, folder_items, region_names, section_items
from .errors import refuse

PARTS = ("training", "unlabelled", "validation")  # of a datalist; `validation` is what trains no network: the fold


def unlabelled_items(datalist: str = "", dataset_dir: str = "", section: str = "unlabelled") -> list[dict]:
    """Items to make pseudo-masks for: one section of a datalist, or else every case folder below `dataset_dir`.

    Unlabelled scans of patients who are in testing are left out: who learns from them has seen the test patients.
    No truth is read.
    """
    if section not in ("unlabelled", "training", "testing"):
        refuse(f"section is {section!r}. It must be unlabelled, training or testing.")
    if datalist:
        items = section_items(datalist, dataset_dir, section, (), ("side",))
        items = [item for item in items if item.get("side") != "testing"]
    elif dataset_dir:
        items = folder_items(dataset_dir)
    else:
        refuse("nothing to label. Give --datalist FILE (its unlabelled cases) or --dataset_dir FOLDER.")
    items = [{key: item[key] for key in ("image", "channels", "case")} for item in items]
    empty = f"{datalist}: its '{section}' list has no case to label. Choose another with --section."
    return checked_items(items, empty, truth=False)


def image_items(datalist: str, dataset_dir: str = "", fold: int | str = 0, parts: Names = PARTS[:2]) -> list[dict]:
    """Items to learn from without any truth, of some of PARTS.

    `training` leaves `fold` out, `validation` is that fold. An unlabelled scan of a patient of the testing list is
    never taken, and one of a patient of the fold only if `validation` is asked for.
    With the fold "all" none is left out, and `validation` alone is fold 0, which is said to have trained.
    """
    names = _part_names(parts, PARTS)
    if fold == ALL and names == ["validation"]:
        print(
            "fold all: no fold is left out; the validation loss is of fold 0, which trains, and flatters",
            file=sys.stderr,
        )
        fold = 0
    items = []
    for name in names:
        found = section_items(
            datalist, dataset_dir, "unlabelled" if name == "unlabelled" else "training", (), ("side",)
        )
        items += [item for item in found if _is_of(item, name, fold, "validation" in names)]
    items = [{key: item[key] for key in ("image", "channels", "case")} for item in items]
    return checked_items(
        items, f"{datalist}: no case in {', '.join(names)} (fold {fold}). Change --parts.", truth=False
    )


def pseudo_items(
    datalist: str, dataset_dir: str = "", fold: int | str = 0, parts: Names = PARTS[1:2], regions: Names = WT
) -> list[dict]:
    """Items whose `label` may be a pseudo-mask, of `unlabelled` and of `training` outside `fold`; whole tumour alone.

    An item may name two more files, `soft` (the probability of tumour, 0 to 1) and `ignore` (not 0 where nobody knows):
    `label` is then a list, and the item's `targets` says which of its files they are. In `unlabelled` what is not 0 is
    tumour; scans without a label are left out, as are those of patients of the testing list and the fold.
    """
    names = _part_names(parts, PARTS[:2])
    if tuple(region_names(regions)) != WT:
        refuse(f"regions is {regions!r}. A pseudo-mask holds the whole tumour alone: leave --regions out.")
    items: list[dict] = []
    for name in names:
        of = WT if name == "training" else ()
        found = section_items(datalist, dataset_dir, name, of, ("side", "soft", "ignore"))
        found = [_with_targets(item) for item in found if _is_of(item, name, fold, False)]
        marked = [item for item in found if name == "training" or "label" in item]
        if len(marked) < len(found):
            print(
                f"left out {len(found) - len(marked)} of {len(found)} unlabelled cases: no pseudo-mask", file=sys.stderr
            )
        items += marked
    return checked_items(items, f"{datalist}: no case with a mask in {', '.join(names)} (fold {fold}). Change --parts.")


def _part_names(parts: Names, known: Sequence[str]) -> list[str]:
    names = parts.replace(" ", "").split(",") if isinstance(parts, str) else parts
    names = list(names) if isinstance(names, (list, tuple)) else []
    if not names or not set(names) <= set(known) or len(set(names)) < len(names):
        refuse(f"parts is {parts!r}. It must be some of {', '.join(known)}, with commas.")
    return names


def _is_of(item: dict, part: str, fold: int | str, with_validation: bool) -> bool:
    """Whether an item may be used as one of a part. `side`: where the labelled scans of an unlabelled patient are."""
    if part == "unlabelled":
        side = item.get("side")
        return side != "testing" and (side != fold or with_validation)
    return (item.get("fold") == fold) is (part == "validation")


def _with_targets(item: dict) -> dict:
    """Put the files of a pseudo-mask into `label`, one after the other, and their places into `targets`."""
    item = {key: value for key, value in item.items() if key != "side" and (key != "values" or value)}
    more = [(key, item.pop(key)) for key in ("soft", "ignore") if key in item]
    if "label" not in item:
        return item
    files = [item["label"], *(path for _, path in more)]
    return item | {"label": files, "targets": {key: place for place, (key, _) in enumerate(more, start=1)}}
