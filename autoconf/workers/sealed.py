"""The data as long work may see them: a checked datalist without its testing list, and cases prepared once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from autoconf.bundle.overrides import Choice
from autoconf.bundle.settings import Bundle
from autoconf.data.datalist import NAME, Datalist, check_kind, read_datalist
from autoconf.errors import AutoconfError

MASKS = "mask_dir"  # a key of the bundle for images, whose masks may lie apart from the datalist
CACHE = "cache_dir"  # a key of the bundle for volumes


def read_sealed(work: str, to: Bundle, has_masks: bool) -> Datalist:
    """WORK/datalist.json without its testing list.

    has_masks: whether masks are given apart from the list. Raises AutoconfError for a list that is none, of other data
    than the bundle's, without masks or folds, or in whose training list stands a test case, or another scan of a test
    patient: whoever chose by that would have chosen for the test.
    """
    path = os.path.join(work, NAME)
    datalist = read_datalist(path)
    check_kind(work, datalist.kind, to.name, to.is_3d)
    if not os.path.isdir(datalist.root):
        raise AutoconfError(f"{datalist.root}, where {path} says the data lie, is not there. Inspect them again.")
    tested = {name for case in datalist.testing for name in (case.name, case.patient)}
    for case in datalist.training:
        if case.fold is None:
            raise AutoconfError(f"{path}: its training case '{case.name}' has no fold. Inspect the data again.")
        if tested & {case.name, case.patient}:
            raise AutoconfError(
                f"{path}: '{case.name}' is in its training and its testing list, or its patient is. Test cases must "
                "stay unseen: take it out of one of them."
            )
        if not case.label and not has_masks:
            add = f"Give the masks with --set {MASKS}=MASKS." if MASKS in to.config else "Add its mask, inspect again."
            raise AutoconfError(f"{path}: its training case '{case.name}' has no label. {add}")
    return datalist.with_cases([*datalist.training, *datalist.unlabelled])


def prepared(work: str, to: Bundle, plan: Mapping[str, Choice], home: Path) -> dict[str, object]:
    """What a training is told of the place of prepared cases: the same for all parts, and beside those of others.

    home: of the long work, where prepared cases lie if nothing may be written into `work`.
    """
    if CACHE not in to.config:
        return {}
    named = plan[CACHE].value if CACHE in plan else to.config[CACHE]
    beside = work if os.access(work, os.W_OK) else home
    return {CACHE: os.path.abspath(str(named or "") or os.path.join(beside, "prepared"))}
