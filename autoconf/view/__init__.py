"""`autoconf view`: masks that have no truth, drawn over their scans.

cases.py  which scan belongs to which mask, read      page.py  a page per case, and one that lists them
"""

from __future__ import annotations

import os

from autoconf.data.brats import MODALITIES
from autoconf.errors import AutoconfError
from autoconf.output import check_out, progress, write_files
from autoconf.pages.html import counted
from autoconf.view.cases import find, read
from autoconf.view.page import case_page, index_page

INDEX = "index.html"


def view(masks: str, scans: str, out: str, modality: str = "flair") -> None:
    """Draw masks over their scans: one HTML page per case, and index.html with volumes and what looks odd.

    For masks of scans that nobody marked; where there is a truth, `score` and `report` say more. The pages need no
    network and no other program, and hold slices of the scans: share them as you would share the scans.

    masks: folder of <case>.nii.gz, as `run inferring` writes them.
    scans: the folder of scans that were segmented, in any layout that inspect reads, or a datalist.json.
    out: folder for the pages.
    modality: t1, t1c, t2 or flair; a case without it is shown on the next best.
    """
    if modality not in MODALITIES:
        raise AutoconfError(f"--modality {modality}: no such modality. There are: {', '.join(MODALITIES)}.")
    check_out(out)

    found, left = find(masks, scans)
    for line in left:
        print(f"left out: {line}")
    seen, failed = [], []
    for one in progress(found, len(found), "drawing"):
        try:
            shown = read(one, modality)
        except AutoconfError as error:
            failed.append(f"{one.case}: {error}")
            continue
        write_files(out, {f"{one.case}.html": case_page(shown)})
        seen.append(shown.facts)
    if not seen:
        raise AutoconfError(f"no mask could be drawn. {failed[0]}")
    write_files(out, {INDEX: index_page(masks, seen, [*left, *failed])})
    for line in failed:
        print(f"left out: {line}")
    print(f"wrote  {os.path.join(out, INDEX)} and the pages of {counted(len(seen), 'mask')}")
