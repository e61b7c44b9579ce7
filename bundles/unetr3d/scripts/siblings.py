"""One file of a scan names all of it: what MONAI Label hands over, and where the other three modalities lie.

MONAI Label keeps one file per case: {"image": path} where a datalist has {"image": paths, "channels", "case"}. The
other modalities are looked for beside the file, in a folder `modalities` below it, and, as the file may be one of
those, in the folder above.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping
from typing import Any

from .brats import MODALITIES, SCHEMES, expected_names

BELOW = "modalities"  # a folder that MONAI Label does not list the files of
EXTENSIONS = (".nii.gz", ".nii")
_FILE = re.compile(
    "(?P<case>.+)(?P<end>" + "|".join(end for ends in SCHEMES.values() for end in ends[:-1]) + r")\.nii(\.gz)?", re.I
)


class Alone(ValueError):
    """A file without the other modalities of its scan. The message is one line: what, where, what to do."""


def whole_item(item: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    """An item whose `image` is one file, as MONAI Label makes it, with all modalities of the scan and its `case`.

    Any other item is returned as it is: a datalist lists its files. Raises Alone.
    """
    found = dict(item)
    if isinstance(found.get("image"), (str, os.PathLike)):
        case, found["image"] = siblings(os.fspath(found["image"]))
        found["case"] = found.get("case", case)
    return found


def siblings(path: str) -> tuple[str, list[str]]:
    """The name of a scan and its files in the order of MODALITIES, by one of them. Raises Alone if one is not there."""
    folder, name = os.path.split(path)
    match = _FILE.fullmatch(name)
    if not match:
        raise Alone(
            f"{path} is not named as one contrast of a scan, so the other three cannot be found: {expected_names()}. "
            "`autoconf layout` makes such a folder; choose a scan of it instead of sending a single file."
        )
    ends = next(ends for ends in SCHEMES.values() if match["end"].lower() in ends)
    files = []
    for contrast, end in zip(MODALITIES, ends, strict=False):  # the mask's end is left over
        file = path if end == match["end"].lower() else _find(folder, match["case"] + end)
        if file is None:
            raise Alone(
                f"{path}: no {contrast} image of this scan beside it or in '{BELOW}': looked for "
                f"{match['case']}{end}.nii.gz. The network needs {', '.join(MODALITIES)}; a single file cannot be "
                "segmented. `autoconf layout` makes a folder with all four."
            )
        files.append(file)
    return match["case"], files


def _find(folder: str, stem: str) -> str | None:
    """A contrast's file, in any case of letters."""
    for place in (folder, os.path.join(folder, BELOW), os.path.dirname(folder)):
        names = {name.lower(): name for name in os.listdir(place)} if os.path.isdir(place) else {}
        for extension in EXTENSIONS:
            if (stem + extension).lower() in names:
                return os.path.join(place, names[(stem + extension).lower()])
    return None
