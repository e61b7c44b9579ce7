"""Worst, median and best case in three planes: grey slices inside the page, with outlines of truth and prediction."""

from __future__ import annotations

from autoconf.errors import AutoconfError
from autoconf.pages.html import Section, escape, missing, paragraph
from autoconf.pages.overlays import PicturedCase, encode, how_to_read, pictures, shown_on
from autoconf.pages.planes import stacks
from autoconf.report.read import RunFiles
from autoconf.report.scans import chosen_pairs, read_case
from autoconf.report.verdict import score_command
from autoconf.report.words import region_name


def overlays(found: RunFiles) -> Section:
    """The section, without pictures where masks or images are not there."""
    title = "Overlays"
    if found.scores is None:
        return Section("overlays", title, missing("No scored masks to draw.", score_command(found)))
    shown, said = read_cases(found)
    if not shown:
        return Section("overlays", title, "".join(paragraph(text, "missing") for text in said))
    drawn, note = encode([(case, stacks(case.scan)) for case in shown])
    names = {r: region_name(found.scores, r) for r in shown[0].scan.masks if all(r in c.scan.masks for c in shown)}
    first = next(iter(names.values()))
    parts = [_legend(shown[0].scan.flat, names), *(paragraph(text, "missing") for text in said), paragraph(note)]

    def heading(case: PicturedCase) -> str:
        title = f"<h3>{escape(f'{case.place.capitalize()}: {case.case}')}</h3>"
        return title + paragraph(f"{first} Dice {case.dice:.3f}. {shown_on(case)}")

    return Section("overlays", title, "".join(parts) + pictures(drawn, heading))


def read_cases(found: RunFiles) -> tuple[list[PicturedCase], list[str]]:
    """The cases that can be drawn, and one line for each thing that cannot."""
    if found.scores is None:
        return [], []
    try:
        pairs = chosen_pairs(found.scores)
    except AutoconfError as error:
        return [], [f"The masks cannot be drawn: {error}"]
    shown, said = [], []
    for place, dice, pair in pairs:
        try:
            shown.append(read_case(found, found.scores, place, dice, pair))
        except (AutoconfError, OSError, SyntaxError, ValueError) as error:
            said.append(f"{pair.case} cannot be drawn: {error}")
    return shown, said


def _legend(flat: bool, regions: dict[str, str]) -> str:
    """How to read the pictures, and what to show. flat: of 2D images. regions: names, by region."""
    sample = '<svg class="key {0}" viewBox="0 0 36 8" aria-hidden="true"><path d="M1 4h34"/></svg>'
    boxes = "".join(
        f'<label><input type="checkbox" id="show-{kind}" checked> {sample.format(kind)} {label}</label>'
        for kind, label in (("truth", "truth (orange, solid)"), ("pred", "prediction (blue, dashed)"))
    )
    return how_to_read(flat, regions, f'<div class="toggles">{boxes}</div>')
