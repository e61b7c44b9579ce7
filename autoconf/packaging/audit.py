"""What the configs of a bundle would run, found by reading them; nothing is run here.

A MONAI config can name any class or function (`_target_`) and any Python expression (`$...`). What is usual is passed
over; the rest is listed, so that a person can look before he runs it. It knows the ways that are known to us
(tests/test_share_attacks.py), and is no proof: scripts/ is code anyway.
"""

from __future__ import annotations

import ast
import builtins
import configparser
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

COMPARISONS = ("operator.lt", "operator.gt", "operator.le", "operator.ge")  # of a metric with the best one so far
TRUSTED = ("monai.", "torch.", "ignite.", "scripts.")  # where a `_target_` may come from without a word
MONAI_PARTS = {  # of MONAI; its others (bundle, apps, fl, auto3dseg, utils) download, import and start programs
    *("networks", "transforms", "data", "losses", "metrics", "inferers", "handlers", "engines", "optimizers"),
    *("visualize", "config"),
}
MONAI_APPS = {"deepedit", "deepgrow", "detection", "generation", "nuclick", "pathology", "reconstruction", "vista3d"}
TORCH_UTILS = {"data", "tensorboard", "checkpoint"}  # of torch.utils; its others compile and download
NAMES = {  # what an expression may name
    *("monai", "torch", "np", "numpy", "math", "ref"),
    *("len", "max", "min", "sum", "abs", "round", "int", "float", "str", "bool", "list", "tuple", "dict", "set"),
    *("range", "sorted", "zip", "enumerate", "isinstance", "any", "all", "print", "True", "False", "None"),
}
BUILTINS = set(dir(builtins)) - NAMES
DANGEROUS = {  # parts of torch, numpy, MONAI and others that load, fetch, write or run what a file or a text says
    *("load", "fromfile", "from_file", "save", "hub", "load_library", "pickle", "dump", "tofile", "memmap"),
    *("savez", "savez_compressed", "savetxt", "loadtxt", "genfromtxt", "fromregex", "DataSource", "open_memmap"),
    *("system", "popen", "Popen", "exec", "eval", "compile", "jit", "classes", "utils", "open", "FileIO"),
    *("write_text", "write_bytes", "touch", "mkdir", "rename", "unlink", "rmdir", "rmtree", "symlink_to"),
    *("builtins", "ctypeslib", "f2py"),
    *("testing", "package", "serialization", "multiprocessing", "elastic", "launcher", "launch", "rpc", "spawn", "fx"),
    *("cpp_extension", "load_inline", "load_url", "model_zoo", "fileConfig", "dictConfig", "locate", "instantiate"),
    *("optional_import", "run_cmd", "bundle", "apps", "fl", "auto3dseg", "ConfigParser", "ConfigExpression"),
}
HARMLESS = {  # modules of Python's library whose names others bear, too
    *("array", "copy", "io", "numbers", "queue", "random", "select", "signal", "statistics", "string", "time"),
}
LIBRARY = set(sys.stdlib_module_names) - HARMLESS
PYTHONS_OWN = LIBRARY | HARMLESS | BUILTINS  # what no `_target_` begins with
NO_SCRIPT = LIBRARY | {"torch", "monai", "numpy", "np"}  # what a script imports, and is not the script's
NO_PART = LIBRARY | DANGEROUS - {"utils", "apps"}  # of a `_target_`; those two have harmless parts
NO_ATTRIBUTE = LIBRARY | DANGEROUS  # of an expression
REFERENCE = re.compile(r"@\w*(?:::\w*)*")  # another part of the config, as MONAI finds it; what follows is Python
RELATIVE = re.compile(r"[@%]::")  # MONAI puts the keys above in its place
INDEX = re.compile(r"::\d+$")
LOCATED = ("reader", "writer")  # of LoadImage and SaveImage: names that MONAI looks up as it does a `_target_`
PLAIN_KEY = re.compile(r"[\w\s.:+~-]*")
IMPORT = re.compile(r"^\s*(import|from)\s")
LARGEST = 2_000_000  # bytes; no config is longer
CONFIGS = (".yaml", ".yml", ".json")
COMPILED = (".pyc", ".pyo", ".so", ".pyd", ".dll", ".dylib", ".pth", ".egg", ".whl", ".exe")
STREAMS = ("()", "(sys.stdout,)", "(sys.stderr,)")  # what a log may be written to


@dataclass(frozen=True)
class Finding:
    """One place. is_code: it runs what no config needs; else only a class from elsewhere."""

    where: str
    what: str
    is_code: bool

    def __str__(self) -> str:
        """In one line: a key may hold anything."""
        return "".join(letter if letter.isprintable() else "?" for letter in f"{self.where:.200}: {self.what}")


def audit(folder: Path) -> list[Finding]:
    """All that is unusual in the configs of a bundle's folder, and code where nobody looks, in the order of files."""
    found = []
    scripts = {path.stem for path in folder.glob("scripts/**/*")}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        found += [
            Finding(f"{name} {key}".strip(), what, is_code) for key, what, is_code in _of_file(name, path, scripts)
        ]
    return found


def _of_file(name: str, path: Path, scripts: set[str]) -> Iterator[tuple[str, str, bool]]:
    end = path.suffix.lower()
    if end in CONFIGS:
        yield from _of_config(path, scripts)
    elif name.startswith("configs/") and end == ".conf":
        yield from _of_log(path)
    elif end in COMPILED and not (end == ".pth" and name.startswith("models/")):
        yield "", "is compiled or installed code, which nobody can read", True
    elif end in (".py", ".pyw") and not name.startswith("scripts/"):
        yield "", "is code outside scripts/, which Python may take for a library", True


def _of_config(path: Path, scripts: set[str]) -> Iterator[tuple[str, str, bool]]:
    if path.stat().st_size > LARGEST:
        yield "", "is too long for a config", True
        return
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        yield "", f"cannot be read ({type(error).__name__})", True
        return
    for key, value in _values(content):
        last = INDEX.sub("", key.replace("#", "::")).rpartition("::")[2].lstrip("+")
        is_target = last == "_target_" or (last in LOCATED and isinstance(value, str))
        if is_target and (not isinstance(value, str) or value.startswith(("@", "$", "%"))):
            yield key, "computes what it runs", True
        elif is_target and _is_code(value, scripts):
            yield key, f"runs {value!r:.100}, which no network or transform is", True
        elif is_target and not _is_usual(value) and last == "_target_":
            yield key, f"uses {value!r:.100}, which is not MONAI's, torch's or the bundle's own", False
        if not isinstance(value, str):
            continue
        if value.startswith("%") and re.match(r"%(/|~|[A-Za-z]:|.*\.\.)", value):
            yield key, f"takes a part of a file elsewhere: {value!r:.100}", True
        if value.startswith("$"):
            odd_key = RELATIVE.search(value.replace("#", "::")) and not PLAIN_KEY.fullmatch(key.replace("#", "::"))
            doubt = "mixes keys into Python" if odd_key else doubt_of(value[1:])
            if doubt:
                yield key, f"{doubt}: {value!r:.100}", True


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


def _of_log(path: Path) -> Iterator[tuple[str, str, bool]]:
    """Python's logging evaluates parts of logging.conf; all that a bundle needs is a stream."""
    log = configparser.RawConfigParser()
    try:
        log.read_string(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, configparser.Error) as error:
        yield "", f"cannot be read ({type(error).__name__})", True
        return
    for section in log.sections():
        for key, value in log.items(section):
            is_plain = {
                "class": value in ("StreamHandler", "logging.StreamHandler", "logging.Formatter", ""),
                "args": value.replace(" ", "") in STREAMS,
                "kwargs": value.replace(" ", "") in ("", "{}"),
                "defaults": value == "",
            }
            if not is_plain.get(key, True):
                yield f"{section} {key}", f"is evaluated: {value!r:.100}", True


def _full(target: str) -> str:
    """A name without dots as MONAI looks it up: among its own, then Python's; unchanged if it is neither."""
    if "." in target:
        return target
    modules = _locator().get_component_module_name(target)
    module = modules[0] if isinstance(modules, list) else modules
    return f"{module}.{target}" if module else target


@cache
def _locator() -> Any:
    from monai.bundle import ComponentLocator

    return ComponentLocator()


def _is_usual(target: str) -> bool:
    return target in COMPARISONS or _full(target).startswith(TRUSTED)


def _is_code(target: str, scripts: set[str]) -> bool:
    """Whether it is of Python's own library (`subprocess.run`, `builtins.exec`), or loads or runs what a file says.

    scripts: names of the bundle's own modules; what those import is not theirs (`scripts.x.os.system`).
    """
    if target in COMPARISONS:
        return False
    first, *others = _full(target).split(".")
    if first in PYTHONS_OWN or (not others and first in NAMES):
        return True
    if any(part.startswith("_") for part in others):
        return True
    if first == "scripts":
        return not NO_SCRIPT.isdisjoint(set(others[:-1]) - scripts)
    if not NO_PART.isdisjoint(others):
        return True
    if first == "torch" and others[:2] == ["distributed", "run"]:
        return True
    if first == "torch" and others[:1] == ["utils"]:
        return others[1:2] == [] or others[1] not in TORCH_UTILS
    if first == "monai" and others[0] == "apps":
        return others[1:2] == [] or others[1] not in MONAI_APPS
    return first == "monai" and others[0] not in MONAI_PARTS and others[-1] != "set_determinism"


def doubt_of(expression: str) -> str:
    """Why a person should look at an expression; empty for a usual one. It is parsed, never run."""
    if IMPORT.match(expression):
        return "imports"
    text = REFERENCE.sub(lambda found: f"ref[{found[0][1:]!r}]", expression.replace("#", "::"))  # as MONAI does
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "runs what cannot be read"
    own = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {argument.arg for node in ast.walk(tree) if isinstance(node, ast.Lambda) for argument in node.args.args}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (node.attr.startswith("_") or node.attr in NO_ATTRIBUTE):
            return f"reaches for .{node.attr}"
        if isinstance(node, ast.Name) and (node.id not in NAMES | own or node.id in BUILTINS or node.id[:2] == "__"):
            return f"calls on {node.id}"
    return ""
