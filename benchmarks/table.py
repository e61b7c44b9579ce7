"""Results as a Markdown table, and the marked part of a page that holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def as_markdown(reports: list[dict[str, Any]]) -> str:
    lines = ["| what | measured, medians | ratio (min to max of rounds) | goal | met |", "|---|---|---|---|---|"]
    for report in reports:
        lines += [_row(name, result) for name, result in report["results"].items()]
    return "\n".join(lines)


def marks(name: str) -> tuple[str, str]:
    """Between these lines of a page a program writes."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def read_page(path: str, name: str) -> str:
    """The text of a page that `fill` can fill. Raises ValueError if its marks are missing or in the wrong order."""
    text = Path(path).read_text(encoding="utf-8")
    begin, end = marks(name)
    if not 0 <= text.find(begin) < text.find(end):
        raise ValueError(f"{path} lacks the marks {begin} and {end}. Add them.")
    return text


def fill(page: str, name: str, text: str) -> str:
    """The page with its marked part replaced. Raises ValueError if a mark is missing."""
    begin, end = marks(name)
    before, after = page[: page.index(begin)], page[page.index(end) :]
    return f"{before}{begin}\n\n{text}\n\n{after}"


def _row(name: str, result: dict[str, Any]) -> str:
    figures = ", ".join(f"{who} {numbers['median']:g}" for who, numbers in result["figures"].items())
    ratio = result["ratio"]
    spread = f" ({ratio['min']:.3g} to {ratio['max']:.3g})" if ratio["min"] < ratio["max"] else ""
    goal = "" if result["goal"] is None else f"{'≤' if result['better'] == 'low' else '≥'} {result['goal']:g}"
    met = {True: "yes", False: "**no**", None: ""}[result["met"]]
    of = " / ".join(ratio["of"])
    return f"| {name} | {figures} {result['unit']} | {of}: **{ratio['median']:.3g}**{spread} | {goal} | {met} |"
