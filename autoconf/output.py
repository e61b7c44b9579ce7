"""What a command hands to its user: files that are whole or absent, tables, and progress."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from tqdm import tqdm

from autoconf.errors import AutoconfError

T = TypeVar("T")
NUMBER = re.compile(r"-?[\d.]+(e[+-]\d+)?")
LINE_EVERY = 10.0  # seconds between progress lines where there is no terminal


def check_out(out: str, outside: str | None = None, flag: str = "--out") -> None:
    """Refuse an output folder that cannot be written, or that lies inside `outside`; creates nothing.

    flag: that names it, for errors. Called before the long work. Raises AutoconfError.
    """
    if not out:
        raise AutoconfError(f"{flag} is empty. Give it a folder.")
    if outside is not None:
        data = os.path.realpath(outside)
        if os.path.commonpath([data, os.path.realpath(out)]) == data:
            raise AutoconfError(f"{out}: lies inside the data folder {outside}. Give {flag} a folder outside it.")
    folder = os.path.abspath(out)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        raise AutoconfError(f"{out}: {folder} is a file, not a folder. Give {flag} another folder.")
    try:
        tempfile.TemporaryFile(dir=folder).close()  # asks more than the permission bits: a read-only or full disk too
    except OSError as error:
        raise AutoconfError(
            f"{out}: cannot write in {folder} ({error.strerror}). Give {flag} another folder."
        ) from None


def check_out_file(out: str, example: str) -> None:
    """The same for a file. example: a name for it, for the messages."""
    if not out:
        raise AutoconfError(f"--out is empty. Give it a file, such as {example}.")
    if os.path.isdir(out):
        raise AutoconfError(f"{out} is a folder. Give --out a file, such as {os.path.join(out, example)}.")
    check_out(os.path.dirname(os.path.abspath(out)))


def write_files(out: str, files: Mapping[str, str | bytes]) -> None:
    """Write all files (name -> content) into folder `out`, or none: each is written aside, then all are renamed."""
    os.makedirs(out, exist_ok=True)
    aside = f".{secrets.token_hex(4)}.partial"  # of this call alone: several workers may write the same files
    targets = {os.path.join(out, name): content for name, content in files.items()}
    try:
        for path, content in targets.items():
            with open(path + aside, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
        for path in targets:
            os.replace(path + aside, path)
    except OSError as error:  # a full disk does not say which file it was
        raise AutoconfError(f"{path}: {error.strerror}. Free some space, or give --out another folder.") from error
    finally:
        for path in targets:
            if os.path.exists(path + aside):
                os.remove(path + aside)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """One JSON file, atomically; makes its folder. Raises AutoconfError."""
    folder, name = os.path.split(os.fspath(path))
    write_files(folder, {name: json.dumps(content, indent=1) + "\n"})


def to_json(content: Any) -> str:
    """JSON for people and for `diff`: two spaces per level, but a list or dict of up to 100 characters in one line."""
    return _json(content, 0) + "\n"


def to_csv(rows: Sequence[Mapping[str, Any]], columns: Iterable[str] = ()) -> str:
    """Rows, each column -> value, as CSV under a head. columns: their order; else as the first row has them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns) or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _json(value: Any, level: int) -> str:
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if len(flat) <= 100 - level or not isinstance(value, (dict, list)) or not value:
        return flat
    pad = " " * (level + 2)
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {_json(item, level + 2)}" for key, item in value.items()]
        return "{\n" + ",\n".join(pad + part for part in parts) + "\n" + " " * level + "}"
    return "[\n" + ",\n".join(pad + _json(item, level + 2) for item in value) + "\n" + " " * level + "]"


def cases_of(cases: int, patients: int) -> str:
    """`12 cases of 11 patients`, `1 case of 1 patient`"""
    return " of ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((cases, "case"), (patients, "patient")))


def by(numbers: Iterable[object]) -> str:
    """`240x240x155`."""
    return "x".join(map(str, numbers))


def table(rows: Sequence[Sequence[object]], header: Sequence[str] = ()) -> str:
    """Rows as aligned columns, two spaces apart; a rule under the header; floats with three decimals.

    A column of nothing but numbers (1234, -0.5) is aligned to the right.
    """
    cells = [[f"{value:.3f}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    numeric = [all(NUMBER.fullmatch(row[i]) for row in cells) for i in range(len(rows[0]))]
    lines = ([list(header)] if header else []) + cells
    widths = [max(len(line[i]) for line in lines) for i in range(len(numeric))]
    if header:
        lines.insert(1, ["-" * width for width in widths])
    text = []
    for line in lines:
        padded = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(line, widths, numeric, strict=True)]
        text.append("  ".join(padded).rstrip())
    return "\n".join(text)


def progress(items: Sequence[T] | Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the items with a progress bar on a terminal; elsewhere with a line on stdout every few seconds."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what, leave=False)
        return
    said = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - said > LINE_EVERY:
            said = time.monotonic()
            print(f"{what}: {done} of {total}", flush=True)
        yield item
