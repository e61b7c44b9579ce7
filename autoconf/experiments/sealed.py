"""The data as experiments may see them: a checked datalist without its testing list."""

from __future__ import annotations

import os

from autoconf.bundle.settings import Bundle
from autoconf.data.datalist import NAME, Datalist, check_kind, read_datalist
from autoconf.errors import AutoconfError

MASKS = "mask_dir"  # a key of the bundle for images, whose masks may lie apart from the datalist


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
