"""Pieces of HTML. Every text that comes from a file goes through `escape`."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NUMERIC = ' class="n"'  # of a cell that holds a number
LONGEST = 400  # bytes of one text from a file; longer ones are cut, so that no file can make the page huge


@dataclass(frozen=True)
class Section:
    """A part of the page. ident: its anchor. body: HTML, below a heading of level 2."""

    ident: str
    title: str
    body: str


def escape(text: object, longest: int = LONGEST) -> str:
    """Any value as HTML text, safe inside elements and quoted attributes; surrogates and control signs replaced.

    longest: bytes of the result; a longer text is cut and ends in three dots.
    """
    words = str(text)
    safe = html.escape("".join(s if s in "\n\t" or s.isprintable() else "\ufffd" for s in words[:longest]))
    if len(words) <= longest and len(safe.encode()) <= longest:
        return safe
    cut = safe.encode()[: longest - 3].decode(errors="ignore")
    return re.sub("&[^;]*$", "", cut) + "..."  # no half of an &amp;


def paragraph(text: object, kind: str = "") -> str:
    """A paragraph of plain text. kind: its class."""
    return f"<p{f' class={kind}' if kind else ''}>{escape(text)}</p>"


def missing(what: str, command: str) -> str:
    """One line that says what is not there, and the command that would make it."""
    return f'<div class="missing"><p>{escape(what)} Make it with:</p>{shell(command)}</div>'


def bullets(texts: Iterable[object], kind: str = "") -> str:
    """A list; nothing for no texts."""
    lines = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul{f' class={kind}' if kind else ''}>{lines}</ul>" if lines else ""


def table(rows: Sequence[Sequence[object]], header: Sequence[str], caption: str, kind: str = "") -> str:
    """A table inside a box of its own, which scrolls where the page is narrow.

    The first cell of a row is its heading. A cell that is a float shows three decimals, None nothing.
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    lines = []
    for row in rows:
        first, *others = row
        cells = "".join(f"<td{NUMERIC * isinstance(cell, (int, float))}>{_cell(cell)}</td>" for cell in others)
        lines.append(f'<tr><th scope="row">{_cell(first)}</th>{cells}</tr>')
    return (
        f'<div class="box" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table{f' class={kind}' if kind else ''}><caption><span>{escape(caption)}</span></caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Names and values, those without a value left out."""
    lines = [f"<div><dt>{escape(name)}</dt><dd>{_cell(value)}</dd></div>" for name, value in pairs if value is not None]
    return f"<dl>{''.join(lines)}</dl>"


def more(summary: str, body: str) -> str:
    """What is shown on request."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def shell(command: object) -> str:
    """A command to copy: a line per flag, joined by backslashes; quoted so that people can read it."""
    try:
        words = shlex.split(str(command))
    except ValueError:  # a quotation that does not end
        return code(command)
    text = ""
    for word in words:
        text += (" \\\n    " if word.startswith("--") else " ") + quoted(word)
    return code(text.strip())


def quoted(word: str) -> str:
    """A word of a command; in double quotes where that spares the reader a heap of single ones."""
    if word == "&&" or (word and re.fullmatch(r"[\w@%+=:,./~-]+", word, re.ASCII)):
        return word
    return f'"{word}"' if "'" in word and not re.search(r'["$`\\\\!\n]', word) else shlex.quote(word)


def code(text: object) -> str:
    """A command or a file, line by line, in a box that scrolls."""
    return f'<pre tabindex="0"><code>{escape(text, 20_000)}</code></pre>'


def counted(count: int, one: str) -> str:
    """`1 case`, `2 cases`."""
    return f"{count:,} {one if count == 1 else one + 's'}"


def _cell(cell: object) -> str:
    return "" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else escape(cell)
