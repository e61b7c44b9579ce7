"""A new version of a bundle, in one command: `python -m tools.bump BUNDLE minor --note "trained on 60 scans"`."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys

from autoconf.errors import AutoconfError
from autoconf.output import write_files
from autoconf.packaging.contents import METADATA, as_numbers, read_about

PARTS = ("major", "minor", "patch")
PAGE = os.path.join("docs", "README.md")
HEADING = re.compile(r"^#+ Changelog(\r?\n)+", re.MULTILINE)


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
    if not note.isprintable():
        raise AutoconfError("--note holds letters that cannot be shown. Take them out.")
    about = read_about(bundle)
    new = raised(about.version, part)
    with open(os.path.join(bundle, METADATA), encoding="utf-8", newline="") as stream:
        files: dict[str, str | bytes] = {METADATA: in_metadata(stream.read(), about.version, new, note)}
    if os.path.exists(os.path.join(bundle, PAGE)):
        with open(os.path.join(bundle, PAGE), encoding="utf-8", newline="") as stream:
            page = stream.read()
        if HEADING.search(page):
            files[PAGE] = HEADING.sub(lambda found: f"{found[0]}- **{new}**: {note}{found[1]}", page, count=1)
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
    before = json.loads(text)
    changelog = before.get("changelog")
    if not isinstance(changelog, dict) or new in changelog:
        raise AutoconfError(f"metadata.json: its changelog must be there, as lines by version, without one of {new}.")
    after = before | {"version": new, "changelog": {new: note} | changelog}
    line = f"{json.dumps(new)}: {json.dumps(note)}"
    for version in re.finditer(rf'("version"\s*:\s*)"{re.escape(old)}"', text):  # others may have such a key, too
        raised_text = f'{text[: version.start()]}{version[1]}"{new}"{text[version.end() :]}'
        for lines in re.finditer(r'("changelog"\s*:\s*\{)(\s*)(\}?)', raised_text):
            end = "}" if lines[3] else f",{lines[2]}"
            changed = f"{raised_text[: lines.start()]}{lines[1]}{lines[2]}{line}{end}{raised_text[lines.end() :]}"
            if json.loads(changed) == after:
                return changed
    raise AutoconfError("metadata.json: its version or changelog cannot be changed. Give it both, as text.")


def main() -> int:
    """The command line; a mistake is one line on stderr and status 1."""
    parser = argparse.ArgumentParser("python -m tools.bump", description=__doc__)
    parser.add_argument("bundle", help="its folder")
    parser.add_argument("part", help="major, minor or patch")
    parser.add_argument("--note", required=True, help="what changed, in one line")
    given = parser.parse_args()
    try:
        bump(given.bundle, given.part, given.note)
    except (AutoconfError, OSError) as error:
        print(f"bump: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
