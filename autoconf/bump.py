"""`autoconf bump`: a new version of a bundle, in one command."""

from __future__ import annotations

import json
import os
import re

from autoconf.errors import AutoconfError
from autoconf.output import write_files
from autoconf.share.contents import METADATA, as_numbers, read_about

PARTS = ("major", "minor", "patch")
PAGE = os.path.join("docs", "README.md")
HEADING = re.compile(r"^#+ Changelog\n+", re.MULTILINE)


def bump(bundle: str, part: str, note: str) -> None:
    """Raise a bundle's version, and write what changed into its metadata and its page.

    bundle: folder of the bundle.
    part: patch (0.1.0 -> 0.1.1) for a mended fault, minor (0.2.0) for something new, major (1.0.0) where old weights,
      plans or outputs no longer fit.
    note: what changed, in one line.
    """
    if part not in PARTS:
        raise AutoconfError(f"'{part}' is no part of a version. There are: {', '.join(reversed(PARTS))}.")
    note = " ".join(note.split())
    if not note:
        raise AutoconfError("--note is empty. Say in one line what changed.")
    about = read_about(bundle)
    new = raised(about.version, part)
    with open(os.path.join(bundle, METADATA), encoding="utf-8") as stream:
        files: dict[str, str | bytes] = {METADATA: in_metadata(stream.read(), about.version, new, note)}
    if os.path.exists(os.path.join(bundle, PAGE)):
        with open(os.path.join(bundle, PAGE), encoding="utf-8") as stream:
            page = stream.read()
        if HEADING.search(page):
            files[PAGE] = HEADING.sub(lambda found: f"{found[0]}- **{new}**: {note}\n", page, count=1)
    write_files(bundle, files)
    print(f"{about.name}: {about.version} -> {new} ({', '.join(files)})")


def raised(version: str, part: str) -> str:
    """`0.1.2`, minor -> `0.2.0`"""
    numbers, place = list(as_numbers(version)), PARTS.index(part)
    numbers[place] += 1
    numbers[place + 1 :] = [0] * (len(PARTS) - place - 1)
    return ".".join(map(str, numbers))


def in_metadata(text: str, old: str, new: str, note: str) -> str:
    """metadata.json's text with the new version and a line for it on top of the changelog; the rest as it was."""
    changed = re.sub(rf'("version":\s*)"{re.escape(old)}"', lambda found: f'{found[1]}"{new}"', text, count=1)
    line = f"{json.dumps(new)}: {json.dumps(note)}"
    changed = re.sub(
        r'("changelog":\s*\{)(\s*)(\}?)',
        lambda found: f"{found[1]}{found[2]}{line}" + ("}" if found[3] else f",{found[2]}"),
        changed,
    )
    before, after = json.loads(text), json.loads(changed)
    if after != before | {"version": new, "changelog": {new: note} | before.get("changelog", {})}:
        raise AutoconfError("metadata.json: its version or changelog cannot be changed. Give it both, as text.")
    return changed
