"""What the configs of a bundle would run, as a list for a person to read before anything of it runs.

A MONAI config can name any class or function (`_target_`) and any Python expression (`$...`), and scripts/ is code
anyway: no list of forbidden names would make a stranger's bundle safe (docs/decisions/0026). Nothing is run here.
"""

from __future__ import annotations

import configparser
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from pydoc import locate
from typing import Any

import yaml

from autoconf.errors import AutoconfError

MONAI_PARTS = (  # of MONAI; its others (bundle, apps, fl, auto3dseg, utils) download, import and start programs
    *("networks", "transforms", "data", "losses", "metrics", "inferers", "handlers", "engines", "optimizers"),
    *("visualize", "config"),
)
USUAL = (*(f"monai.{part}." for part in MONAI_PARTS), "torch.nn.", "torch.optim.", "torch.utils.data.", "ignite.")
LOCATED = ("reader", "writer")  # of LoadImage and SaveImage: names that MONAI looks up as it does a `_target_`
INDEX = re.compile(r"::\d+$")
LARGEST = 2_000_000  # bytes; no config is longer
CONFIGS = (".yaml", ".yml", ".json")
LONGEST = 160  # letters of a line
STREAMS = ("()", "(sys.stdout,)", "(sys.stderr,)")  # what a log may be written to
PLAIN_LOGS = ("StreamHandler", "logging.StreamHandler", "logging.Formatter", "", "{}", *STREAMS)


def what_runs(folder: Path) -> list[str]:
    """A line for each `$` expression, for each target that is not MONAI's, torch's or ignite's, for other files' parts
    (`%`), for what logging.conf evaluates, and for code outside scripts/. Raises AutoconfError for a config that cannot
    be read."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        lines = dict.fromkeys(_of_file(name, path))  # each once
        found += [_printable(f"{name}: {line}") for line in lines]
    return found


def _of_file(name: str, path: Path) -> Iterator[str]:
    end = path.suffix.lower()
    if end in CONFIGS:
        yield from _of_config(name, path)
    elif end == ".conf":
        yield from _of_log(name, path)
    elif end in (".md", ".txt", "") or path.match("models/*.pt") or path.match("scripts/*.py"):
        return
    else:
        yield "is no config, page or script of a bundle"


def _of_config(name: str, path: Path) -> Iterator[str]:
    if path.stat().st_size > LARGEST:
        raise AutoconfError(f"{name}: is too long for a config. Nothing was kept.")
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise AutoconfError(f"{name}: cannot be read ({type(error).__name__}). Nothing was kept.") from None
    for key, value in _values(content):
        last = INDEX.sub("", key.replace("#", "::")).rpartition("::")[2].lstrip("+")
        if last == "_target_" and not isinstance(value, str):
            yield f"{last} {json.dumps(value, default=str)}"
        if not isinstance(value, str):
            continue
        if value.startswith("$") or re.match(r"%(/|~|[A-Za-z]:|.*\.\.)", value):
            yield f"{key.rpartition('::')[2]}: {value}"
        elif (last == "_target_" or last in LOCATED) and not is_usual(value):
            yield f"{last} {value}"


def _values(content: Any) -> Iterator[tuple[str, Any]]:
    """(path, value) of everything below, in its order; a part that is named again (YAML's `*`) only once."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", content)]
    while waiting:
        key, value = waiting.pop()
        yield key, value
        if not isinstance(value, dict | list) or id(value) in seen:
            continue
        seen.add(id(value))
        pairs = list(value.items() if isinstance(value, dict) else enumerate(value))
        waiting += [(f"{key}::{name}" if key else str(name), part) for name, part in reversed(pairs)]


def _of_log(name: str, path: Path) -> Iterator[str]:
    """Python's logging evaluates parts of logging.conf; all that a bundle needs is a stream."""
    log = configparser.RawConfigParser()
    try:
        log.read_string(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, configparser.Error) as error:
        raise AutoconfError(f"{name}: cannot be read ({type(error).__name__}). Nothing was kept.") from None
    for section in log.sections():
        for key, value in log.items(section):
            if key in ("class", "args", "kwargs", "defaults") and value.replace(" ", "") not in PLAIN_LOGS:
                yield f"{section} {key}: {value}"


def is_usual(target: str) -> bool:
    """Whether MONAI would take this name for a part of USUAL: looked up, as MONAI does, and never called."""
    full = target
    if "." not in target:
        modules = _locator().get_component_module_name(target)
        full = f"{modules[0] if isinstance(modules, list) else modules}.{target}"
    if not full.startswith(("monai.", "torch.", "ignite.")):
        return False
    try:
        found = locate(full)
    except Exception:  # noqa: BLE001 - whatever an import of theirs raises
        return False
    return f"{getattr(found, '__module__', '')}.".startswith(USUAL)


@cache
def _locator() -> Any:
    from monai.bundle import ComponentLocator

    return ComponentLocator()


def _printable(line: str) -> str:
    """In one line: a key may hold anything."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in line[: LONGEST + 1])
    return shown if len(shown) <= LONGEST else shown[:LONGEST] + "..."
