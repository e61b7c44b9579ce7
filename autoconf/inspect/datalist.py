"""Build the datalist: plain data, as both bundles read it."""

from __future__ import annotations

import os
from typing import Any

from autoconf.data.brats import CONTRASTS
from autoconf.data.labels import commonest
from autoconf.data.scans import Found, Scan
from autoconf.data.split import TESTING, kin
from autoconf.inspect.sets import Sides


def image_item(image: Any, group: str, masks: dict[str, str]) -> dict[str, Any]:
    """The entry of one 2D image. group: what must stay on one side with it. masks: image -> mask."""
    item = {"case": image.case, "patient": group} | ({"class": image.group} if image.group else {})
    item["image"] = image.case
    return item | ({"label": masks[image.case]} if image.case in masks else {})


def head(data: str, kind: str, seed: int) -> dict[str, Any]:
    """What the datalist is of; relative paths start from `dataset_dir`."""
    folder = os.path.abspath(data)
    return {"name": os.path.basename(folder), "kind": kind, "dataset_dir": folder, "seed": seed}


def contrasts_of(found: Found) -> list[str]:
    """The contrasts as a case's `image` lists them: of 4D files, as the channels lie."""
    channels = found.scans[0].channels
    if not channels or found.scans[0].convert:
        return list(CONTRASTS)
    names = [f"channel {place}" for place in range(max(channels) + 1)]
    for contrast, channel in zip(CONTRASTS, channels, strict=True):
        names[channel] = contrast
    return names


def volume_sections(
    data: str, scans: list[Scan], rows: list[Any], schemes: list[Any], sides: Sides, groups: list[str]
) -> dict[str, Any]:
    """`regions` of most scans, then the sections; a scan of another scheme has regions of its own."""
    usual = commonest(schemes)
    items = []
    for scan, row, scheme in zip(scans, rows, schemes, strict=True):
        item: dict[str, Any] = {"case": scan.case, "patient": scan.patient, "image": _image_of(data, scan)}
        if row["tumour_voxels"]:
            item["label"] = _relative(data, scan.label or "")
            item |= {"regions": _listed(scheme)} if scheme.regions != usual.regions else {}
        items.append(item)
    labels = {"labels": {"0": "background", **{str(v): name for v, name in sorted(usual.meaning.items()) if name}}}
    return labels | {"regions": _listed(usual)} | sections(items, sides, groups)


def _listed(scheme: Any) -> dict[str, list[int]]:
    return {region: list(values) for region, values in scheme.regions.items()}


def _image_of(data: str, scan: Scan) -> list[str | None] | str:
    if scan.channels:
        return _relative(data, scan.files[0])
    return [_relative(data, path) if path else None for path in scan.image]


def _relative(data: str, path: str) -> str:
    """Below the data folder relative to it, "/" between folders; a converted file lies elsewhere and is absolute."""
    relative = os.path.relpath(path, data).replace(os.sep, "/")
    return os.path.abspath(path) if relative.startswith("../") else relative


def sections(items: list[dict[str, Any]], sides: Sides, groups: list[str]) -> dict[str, Any]:
    """`training`, each item with its fold, `testing`, and `unlabelled`, whose side is None.

    An unlabelled item of a patient who has labelled ones says on which `side` those are, testing or a fold: whoever
    learns from unlabelled scans must leave it out where that side is held out.
    """
    both = list(zip(items, sides, strict=True))
    training = [
        {"case": item["case"], "patient": item["patient"], "fold": side} | item
        for item, side in both
        if side not in (TESTING, None)
    ]
    testing = [item for item, side in both if side == TESTING]
    unlabelled = [
        item | ({} if of_kin is None else {"side": of_kin})
        for (item, side), of_kin in zip(both, kin(groups, sides), strict=True)
        if side is None
    ]
    return {"training": training, "testing": testing, "unlabelled": unlabelled}
