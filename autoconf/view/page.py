"""The pages: HTML that needs no network, in the form of the report's."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from autoconf.pages.document import document
from autoconf.pages.html import Section, bullets, counted, escape, facts, paragraph
from autoconf.pages.overlays import encode, how_to_read, pictures, shown_on
from autoconf.pages.planes import REGION_NAMES, stacks
from autoconf.view.cases import Drawn, Facts

RESEARCH = "Made by a program for research. Not a medical device; never use it for diagnosis or treatment."
BOX = (
    '<div class="toggles"><label><input type="checkbox" id="show-pred" checked> '
    '<svg class="key pred" viewBox="0 0 36 8" aria-hidden="true"><path d="M1 4h34"/></svg> '
    "what was marked (blue, dashed)</label></div>"
)


def case_page(shown: Drawn) -> str:
    """The page of one case."""
    case, of = shown.case, shown.facts
    drawn, note = encode([(case, stacks(case.scan))])
    names = {region: REGION_NAMES[region] for region in case.scan.masks}
    numbers = facts(
        [*((names[region], f"{volume:.1f} mL") for region, volume in of.volumes.items()), ("Objects", of.objects)]
    )
    about = "".join(map(paragraph, (shown_on(case), note)))
    body = paragraph(RESEARCH, "device") + numbers + bullets((f"Look twice: {text}." for text in of.odd), "warnings")
    body += how_to_read(False, names, BOX) + pictures(drawn, lambda _: "") + about
    body += '<p><a href="index.html">All cases</a></p>'
    return document("Case", case.case, [Section("overlays", "What was marked", body)])


def index_page(masks: str, seen: Sequence[Facts], left: Sequence[str]) -> str:
    """The list of all cases, those that look odd first."""
    ordered = sorted(seen, key=lambda of: (not of.odd, of.case))
    odd = sum(bool(of.odd) for of in seen)
    said = f"{counted(len(seen), 'mask')}, {odd} of which {'looks' if odd == 1 else 'look'} odd."
    body = paragraph(RESEARCH, "device") + paragraph(said, "headline")
    body += _table(ordered) + bullets((f"Left out: {line}" for line in left), "warnings")
    return document("Masks", masks, [Section("cases", "Cases", body)])


def _table(ordered: Sequence[Facts]) -> str:
    regions = [name for name in REGION_NAMES if any(name in of.volumes for of in ordered)]
    header = ["case", *(f"{REGION_NAMES[name].lower()}, mL" for name in regions), "objects", "in the largest", "odd"]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    lines = []
    for of in ordered:
        numbers = [f"{of.volumes[name]:.1f}" if name in of.volumes else "" for name in regions]
        numbers += [str(of.objects), f"{of.largest:.0%}" if of.objects else ""]
        cells = "".join(f'<td class="n">{number}</td>' for number in numbers)
        link = f'<a href="{escape(quote(of.case))}.html">{escape(of.case)}</a>'
        lines.append(f'<tr><th scope="row">{link}</th>{cells}<td>{escape("; ".join(of.odd))}</td></tr>')
    caption = "Volumes of what was marked; objects touch at no corner"
    return (
        f'<div class="box" tabindex="0" role="region" aria-label="{caption}"><table><caption><span>{caption}</span>'
        f"</caption><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )
