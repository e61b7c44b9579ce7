"""Sections put together into one file that needs nothing else: no network, no font, no script of others."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from autoconf.pages.html import Section, escape

HERE = Path(__file__).parent


def document(kind: str, name: str, parts: Sequence[Section]) -> str:
    """A page of sections that needs nothing else. kind: what it is about, "Run"; name: which one."""
    links = "".join(f'<li><a href="#{part.ident}">{escape(part.title)}</a></li>' for part in parts)
    body = "".join(
        f'<section id="{part.ident}" aria-labelledby="{part.ident}-heading">'
        f'<h2 id="{part.ident}-heading">{escape(part.title)}</h2>{part.body}</section>'
        for part in parts
    )
    style, script = ((HERE / file).read_text(encoding="utf-8") for file in ("page.css", "page.js"))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{kind} {escape(name)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#main">Skip to the report</a>\n'
        f'<header><h1>{kind} <span class="name">{escape(name)}</span></h1>'
        '<button type="button" id="theme" hidden>Dark</button></header>\n'
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n<main id="main" tabindex="-1">{body}</main>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _policy(style: str, script: str) -> str:
    """Nothing may be loaded, and nothing may run but our own script: no text of a file can become one."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    allowed = f"style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'"
    return f"default-src 'none'; img-src data:; {allowed}; base-uri 'none'; form-action 'none'"
