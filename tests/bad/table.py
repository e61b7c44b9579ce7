"""All rows of bad input, and the page that says what happens with each: no line of it is written by hand."""

from __future__ import annotations

import html
import re
from pathlib import Path

from bad import descriptions, files, headers, lists, others, plans, runs, sets, voxels
from bad.row import Row
from bad.ways import RESIDENT, SCANS, Way, go

PAGE = Path(__file__).resolve().parents[1] / "golden" / "bad_inputs.md"
SECTIONS: dict[str, tuple[dict[str, Way], list[Row]]] = {
    "Files": (SCANS, files.ROWS),
    "Headers": (SCANS, headers.ROWS),
    "Values of a scan": (SCANS, voxels.SCANS),
    "Masks": (SCANS, voxels.MASKS),
    "Sizes and directions of a whole case": (SCANS, voxels.CASES),
    "Names": (SCANS, sets.NAMES),
    "Data sets": (SCANS, sets.SETS),
    "Rights": (SCANS, others.USERS),
    "Changed during the run": (SCANS, others.CHANGING),
    "Pictures": (SCANS, others.PICTURES),
    "Arrays and MetaImages": (SCANS, others.ARRAYS),
    "Descriptions of data sets": (descriptions.DESCRIPTIONS, descriptions.DESCRIBED),
    "Datalists": (lists.DATALISTS, lists.LISTS),
    "Override files": (plans.PLANS, plans.OVERRIDES),
    "What a training run left": (runs.RUNS, runs.LEFT),
}
ROWS = [(row, ways) for ways, rows in SECTIONS.values() for row in rows]
HEAD = f"""# Bad input, and what happens

Written by `python -m bad` in tests/; `tests/test_bad_inputs.py` reads every input again and fails where this page says
something else. {len(ROWS)} kinds. Bad scans are put into a sound phantom data set and read up to three ways: `autoconf
inspect DATA`; the unetr3d bundle, from a folder to the saved mask (a mask: as `evaluating` reads it; a picture: as
pseudo2d does); and `autoconf score`, with the bad file as a prediction. Of other files each section names its readers.

- **right**: it is read, and the answer is that of the sound file, or of what the files hold: sizes, spacing and labels
  in fingerprint.json, the mask on the scan's own grid, the Dice.
- **left out**: `inspect` excludes the case, counts it, and says the line in problems.csv; `--strict` stops.
- **exit 1**: one line on stderr, which is the one shown, and nothing is written. (If the bundle's run has begun, ignite
  logs the same line before it.)

None ends in a traceback or waits for ever, and none takes more than {RESIDENT >> 20} MB beyond what the program takes
at its start, whatever a header promises. What a file really holds is read: a large scan takes memory in proportion.
Text in brackets comes from a library, and may differ by its version. DATA is the folder, CASE the case that is bad; an
empty field is a reader that has no use for such a file. `tests/test_bad_bytes.py` looks for further kinds: it changes
bytes at random.
"""


def line(row: Row, ways: dict[str, Way]) -> str:
    """Read a row's input by all its ways, check how each ends, and say it as a line of the page."""
    cells = [row.given]
    for end, way in zip(row.ends, ways.values(), strict=False):
        cells.append("" if end is None else go(row, way, end))
    cells += [""] * (1 + len(ways) - len(cells))
    return "| " + " | ".join(html.escape(cell, quote=False).replace("|", "\\|") for cell in cells) + " |"


def plain(line: str) -> str:
    """The line without what stands in brackets, which a library says."""
    return re.sub(r"\(.*?\)(?=[.; |])", "(...)", line)


def page() -> str:
    parts = [HEAD]
    for title, (ways, rows) in SECTIONS.items():
        head = ["| given | " + " | ".join(f"`{name}`" for name in ways) + " |", "| --- " * (1 + len(ways)) + "|"]
        parts.append("\n".join([f"## {title}", "", *head, *(line(row, ways) for row in rows), ""]))
    return "\n".join(parts)
