"""All kinds of bad input, and the page that says what is promised of each: no line of it is written by hand.

python tests/bad_inputs.py     # sends every kind every way, and writes tests/golden/bad_inputs.md
"""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path

import bad_files
import bad_headers
import bad_others
import bad_sets
import bad_voxels
from helpers_bad_inputs import WAYS, Kind
from helpers_bad_ways import RESIDENT, go

PAGE = Path(__file__).resolve().parents[1] / "tests" / "golden" / "bad_inputs.md"
SECTIONS = {  # title -> (where it is tested, the kinds)
    "Files": ("tests/bad_files.py", bad_files.KINDS),
    "Headers": ("tests/bad_headers.py", bad_headers.KINDS),
    "Values of a scan": ("tests/bad_voxels.py", bad_voxels.SCANS),
    "Masks": ("tests/bad_voxels.py", bad_voxels.MASKS),
    "Sizes and directions of a whole case": ("tests/bad_voxels.py", bad_voxels.CASES),
    "Names": ("tests/bad_sets.py", bad_sets.NAMES),
    "Data sets": ("tests/bad_sets.py", bad_sets.SETS),
    "Rights": ("tests/bad_others.py", bad_others.USERS),
    "Changed during the run": ("tests/bad_others.py", bad_others.CHANGING),
    "Pictures": ("tests/bad_others.py", bad_others.PICTURES),
    "Arrays and descriptions": ("tests/bad_others.py", bad_others.ARRAYS),
}
KINDS = [kind for _, kinds in SECTIONS.values() for kind in kinds]
HEAD = f"""# Bad input, and what happens

Written by `python tests/bad_inputs.py`; `tests/test_bad_inputs.py` sends every kind again and fails where this page
says something else. {len(KINDS)} kinds, each put into a sound phantom data set and sent up to three ways: `autoconf
inspect DATA`; the unetr3d bundle, from a folder to the saved mask (a mask: as `evaluating` reads it; a picture: as
pseudo2d does); and `autoconf score`, with the bad file as a prediction.

- **right**: it is read, and the answer is that of the sound file, or of what the files hold: sizes, spacing and labels
  in fingerprint.json, the mask on the scan's own grid, the Dice.
- **left out**: `inspect` goes on without the case, counts it, and says the line in problems.csv; `--strict` stops.
- **exit 1**: one line on stderr, which is the one shown, and nothing is written. (If the bundle's run has begun, ignite
  logs the same line before it.)

None ends in a traceback or waits for ever, and none takes more than {RESIDENT >> 20} MB beyond what the program takes
at its start, whatever a header promises. What a file really holds is read: a large scan takes memory in proportion.
Text in brackets comes from a library, and may differ by its version. DATA is the folder, CASE the case that is bad; an
empty field is a way that has no use for such a file. `tests/test_bad_bytes.py` looks for further kinds: it changes
bytes at random.
"""


def row(kind: Kind) -> str:
    """Send a kind all its ways, check what is promised, and say what happened, as a line of the table."""
    cells = [kind.what]
    for way in WAYS:
        outcome = go(kind, way) if kind.promise(way) else None
        cells.append("" if outcome is None else ("exit 1: " if outcome.end == "refused" else "") + outcome.line)
    return "| " + " | ".join(html.escape(cell, quote=False).replace("|", "\\|") for cell in cells) + " |"


def plain(line: str) -> str:
    """The line without what stands in brackets, which a library says."""
    return re.sub(r"\(.*?\)(?=[.; |])", "(...)", line)


def main() -> int:
    parts = [HEAD]
    for title, (where, kinds) in SECTIONS.items():
        rows = [row(kind) for kind in kinds]
        head = ["| given | `inspect` | bundle | `score` |", "| --- | --- | --- | --- |"]
        parts.append("\n".join([f"## {title}", "", f"Tested in `{where}`.", "", *head, *rows, ""]))
    PAGE.write_text("\n".join(parts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
