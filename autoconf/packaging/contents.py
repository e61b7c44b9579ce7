"""Which files make a bundle, and what it says of itself."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoconf.errors import AutoconfError

SHARED = os.path.join("shared", "scripts")  # beside the bundles of a checkout: what all of them use
METADATA = os.path.join("configs", "metadata.json")
WEIGHTS = os.path.join("models", "model.pt")
KINDS = {  # folder of a bundle -> ends of the names that belong there; all else stays behind
    "": ("LICENSE", "LICENSE.txt"),
    "configs": (".yaml", ".yml", ".json", ".conf"),
    "docs": (".md", ".txt"),
    "scripts": (".py",),
}
LARGEST_TEXT = 2_000_000  # bytes; a longer file in these folders is no config, script or page
NUMBER = r"(?:0|[1-9][0-9]{0,8})"
SEMANTIC = re.compile(rf"{NUMBER}\.{NUMBER}\.{NUMBER}")
STEM = re.compile(rf"(.+)_v({NUMBER}\.{NUMBER}\.{NUMBER})")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class About:
    """A bundle's own metadata. name: of its folder and its archives. raw: all of metadata.json."""

    name: str
    version: str
    raw: dict[str, Any]

    @property
    def stem(self) -> str:
        """`unetr3d_v0.1.0`, as MONAI's model zoo calls archives."""
        return f"{self.name}_v{self.version}"


def read_about(folder: str) -> About:
    """Raises AutoconfError for a folder that is no bundle, or whose name or version cannot be used."""
    path = os.path.join(folder, METADATA)
    try:
        with open(path, encoding="utf-8") as stream:
            raw = json.load(stream)
    except FileNotFoundError:
        raise AutoconfError(f"{folder} is no bundle: {path} is not there. Give a bundle's folder.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise AutoconfError(f"{path}: cannot be read ({type(error).__name__}: {error}).") from None
    name, version = (str(raw.get(key, "")) if isinstance(raw, dict) else "" for key in ("name", "version"))
    if not NAME.fullmatch(name):
        raise AutoconfError(f"{path}: its name is {name!r:.60}. It must be letters, digits, - and _.")
    if not SEMANTIC.fullmatch(version):
        raise AutoconfError(f"{path}: its version is {version!r:.60}. It must be three numbers, such as 0.1.0.")
    return About(name, version, raw)


def split(stem: str) -> tuple[str, str]:
    """`brats_vnet_v0.1.0` -> (`brats_vnet`, `0.1.0`); a name without a version has the version ``."""
    found = STEM.fullmatch(stem)
    return (found[1], found[2]) if found else (stem, "")


def as_numbers(version: str) -> tuple[int, ...]:
    """`0.10.2` -> (0, 10, 2), which sorts as versions do."""
    return tuple(int(part) for part in version.split("."))


def collect(folder: str) -> tuple[dict[str, str], list[str]]:
    """Files of a bundle, name -> path, sorted; and what stays behind, folders of strangers as one.

    Names are relative to the bundle's folder. In a checkout its shared scripts are among them.

    Links are no files here: what they lead to may be anything. Python's own caches stay behind without a word.
    """
    kept, left = shared_scripts(folder), []
    for root, folders, files in os.walk(folder):
        inside = os.path.relpath(root, folder)
        inside = "" if inside == "." else inside
        top = inside.split(os.sep)[0]
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in [name for name in folders if name.startswith(".") or os.path.islink(os.path.join(root, name))]:
            left.append(os.path.join(inside, name) + os.sep)
            folders.remove(name)
        if top and top not in KINDS and top != "models":
            left.append(inside + os.sep)
            folders.clear()
            continue
        for name in sorted(files):
            path = os.path.join(inside, name)
            if _belongs(folder, path, top):
                kept[path] = os.path.join(folder, path)
            elif path != os.path.join("models", ".gitkeep"):
                left.append(path)
    return dict(sorted(kept.items())), left


def shared_scripts(folder: str) -> dict[str, str]:
    """Name -> path of the scripts that a bundle of a checkout shares with others: none of one that is whole."""
    beside = Path(folder).resolve().parent / SHARED
    if (Path(folder) / "scripts" / "errors.py").exists():
        return {}
    return {os.path.join("scripts", path.name): str(path) for path in beside.glob("*.py")}


def _belongs(folder: str, path: str, top: str) -> bool:
    full, name = os.path.join(folder, path), os.path.basename(path)
    if os.path.islink(full) or not os.path.isfile(full):
        return False
    if path == WEIGHTS:
        return True
    if name.startswith(".") or os.path.getsize(full) > LARGEST_TEXT:
        return False
    ends = KINDS.get(top, ())
    if not (name in ends if top == "" else name.endswith(ends)):
        return False
    try:  # a scan may be called scan.txt
        return "\0" not in Path(full).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
