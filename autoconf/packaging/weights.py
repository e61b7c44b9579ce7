"""Weights as plain tensors: looked at without running what a file may hold."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from autoconf.errors import AutoconfError
from autoconf.packaging.archive import MOST_BYTES

ENDS = (".pt", ".pth", ".ts", ".ckpt", ".bin", ".pkl", ".pickle", ".joblib")
PICKLES = (b"PK\3\4", b"\x80")  # how a file begins that torch.load reads, whatever it is called


def check_all(folder: Path) -> list[str]:
    """A line for each file of weights below a folder that holds code. Raises AutoconfError for pickles with code."""
    said = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            begins = file.read(4)
        if path.suffix.lower() in ENDS or begins.startswith(PICKLES):
            said += check(path)
    return said


def _unpacked(path: Path) -> int:
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError):
        return 0  # torch says what is wrong with it


def check(path: Path) -> list[str]:
    """Raises AutoconfError unless the file loads as plain tensors; a line if it is TorchScript (.ts), which is code."""
    if path.suffix.lower() == ".ts" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any("/code/" in name for name in archive.namelist()):
                return [f"{path.name} is TorchScript: it runs code of its own when it is loaded"]
    import torch

    if zipfile.is_zipfile(path) and _unpacked(path) > MOST_BYTES:
        raise AutoconfError(f"{path.name}: grows beyond {MOST_BYTES / 1e9:.0f} GB when it is loaded. Do not use it.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a pickle can raise anything before it is refused
        first = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise AutoconfError(
            f"{os.path.join(path.parent.name, path.name)}: does not load as plain tensors ({first}). It may hold "
            "code: do not use it."
        ) from None
    if not isinstance(content, dict):
        raise AutoconfError(f"{path.name}: holds a {type(content).__name__}, not weights by name. Do not use it.")
    return []
