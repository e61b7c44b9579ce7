"""What the configs of a bundle would run, found by reading them; nothing is run here.

A MONAI config can name any class or function (`_target_`) and any Python expression (`$...`). What is usual is passed
over; the rest is listed, so that a person can look before he runs it. It finds what is written plainly, not what is
hidden with effort: scripts/ is code anyway.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

COMPARISONS = ("operator.lt", "operator.gt", "operator.le", "operator.ge")  # of a metric with the best one so far
TRUSTED = ("monai.", "torch.", "ignite.", "scripts.")  # where a `_target_` may come from without a word
NAMES = {  # what an expression may name
    *("monai", "torch", "np", "numpy", "math", "ref"),
    *("len", "max", "min", "sum", "abs", "round", "int", "float", "str", "bool", "list", "tuple", "dict", "set"),
    *("range", "sorted", "zip", "enumerate", "isinstance", "any", "all", "print", "True", "False", "None"),
}
DANGEROUS = {  # parts of torch, numpy and others that load, fetch or run what a file says
    *("load", "fromfile", "save", "hub", "load_library", "pickle"),
    *("system", "popen", "Popen", "exec", "eval", "compile", "jit", "classes", "utils"),
    *("os", "sys", "subprocess", "importlib", "builtins", "ctypes"),
}
REFERENCE = re.compile(r"@(?:\w|::|#)+")  # another part of the config; what follows a dot is Python
IMPORT = re.compile(r"^\s*(import|from)\s")


@dataclass(frozen=True)
class Finding:
    """One place. is_code: it runs what no config needs; else only a class from elsewhere."""

    where: str
    what: str
    is_code: bool

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def audit(folder: Path) -> list[Finding]:
    """All that is unusual in the configs of a bundle's folder, in the order of files and keys."""
    found = []
    for path in sorted(folder.glob("configs/**/*")):
        if path.suffix.lower() in (".yaml", ".yml", ".json") and path.is_file():
            name = path.relative_to(folder).as_posix()
            found += [Finding(f"{name} {key}".strip(), what, is_code) for key, what, is_code in _of_file(path)]
    return found


def _of_file(path: Path) -> Iterator[tuple[str, str, bool]]:
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        yield "", f"cannot be read ({type(error).__name__})", True
        return
    for key, name, value in _leaves(content):
        if not isinstance(value, str):
            continue
        if name == "_target_" and _is_code(value):
            yield key, f"runs {value!r:.100}, which no network or transform is", True
        elif name == "_target_" and not _is_usual(value):
            yield key, f"uses {value!r:.100}, which is not MONAI's, torch's or the bundle's own", False
        if value.startswith("$"):
            doubt = doubt_of(value[1:])
            if doubt:
                yield key, f"{doubt}: {value!r:.100}", True


def _leaves(content: Any, key: str = "") -> Iterator[tuple[str, str, Any]]:
    """(path, last key, value) of everything that is no list and no dict."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else None
    if pairs is None:
        yield key, key.rpartition("::")[2], content
        return
    for name, value in pairs:
        yield from _leaves(value, f"{key}::{name}" if key else str(name))


def _is_usual(target: str) -> bool:
    """A name without dots is looked up among MONAI's own; `@x` is another part of the config."""
    return "." not in target or target in COMPARISONS or target.startswith((*TRUSTED, "@", "$"))


def _is_code(target: str) -> bool:
    """Whether it is of Python's own library (`subprocess.run`, `builtins.exec`), or loads or runs what a file says."""
    first, *others = target.split(".")
    if target in COMPARISONS or not others or first == "scripts":
        return False
    return first in sys.stdlib_module_names or not (DANGEROUS - {"utils"}).isdisjoint(others)


def doubt_of(expression: str) -> str:
    """Why a person should look at an expression; empty for a usual one. It is parsed, never run."""
    if IMPORT.match(expression):
        return "imports"
    text = REFERENCE.sub("ref", expression)
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "runs what cannot be read"
    own = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {argument.arg for node in ast.walk(tree) if isinstance(node, ast.Lambda) for argument in node.args.args}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (node.attr.startswith("_") or node.attr in DANGEROUS):
            return f"reaches for .{node.attr}"
        if isinstance(node, ast.Name) and node.id not in NAMES | own:
            return f"calls on {node.id}"
    return ""
