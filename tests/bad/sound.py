"""The sound phantom data set that rows break, and what `inspect` must measure of a case."""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from autoconf.__main__ import main
from autoconf.phantom import phantom
from bad.row import CASE, ENDS


@functools.cache
def sound(slices: bool = False) -> Path:
    """Four phantom heads, or slices of three; `work` beside `data` is what inspect says of them. For this process."""
    home = Path(tempfile.mkdtemp(prefix="sound_"))
    home.chmod(0o755)  # others than root read it too
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()):
        phantom(str(home / "data"), cases=3 if slices else 4, size=32, slices=slices)
        assert main(["inspect", str(home / "data"), "--out", str(home / "work")]) == 0
    return home


def listed(work: Path) -> list[str]:
    """The cases of a datalist, sorted."""
    found = json.loads((work / "datalist.json").read_text(encoding="utf-8"))
    return sorted(item["case"] for part in ("training", "testing", "unlabelled") for item in found[part])


def measured(work: Path) -> dict[str, dict[str, Any]]:
    """The rows of fingerprint.json by case."""
    return {row["case"]: row for row in json.loads((work / "fingerprint.json").read_text())["cases"]}


@functools.cache
def sound_row() -> dict[str, Any]:
    return measured(sound() / "work")[CASE]


def facts(home: Path) -> dict[str, Any]:
    """What fingerprint.json must say of a case, by nibabel and numpy alone."""
    stored = {end: nibabel.load(next(home.glob(f"*-{end}.nii*"))) for end in ENDS}
    images = {end: nibabel.as_closest_canonical(image) for end, image in stored.items()}
    affine = images["t1n"].affine
    head = np.any([np.asarray(images[end].dataobj) != 0 for end in ENDS[:4]], axis=0)
    mask = np.asarray(images["seg"].dataobj)
    values, counts = np.unique(mask[mask != 0], return_counts=True)
    row = {
        "shape": list(mask.shape),
        "spacing": [round(float(mm), 6) for mm in np.sqrt((affine[:3, :3] ** 2).sum(axis=0))],
        "orientation": "".join(nibabel.aff2axcodes(stored["t1n"].affine)),
        "brain_shape": [int(places.max() - places.min() + 1) for places in np.nonzero(head)],
        "labels": np.unique(mask).astype(int).tolist(),
        "tumour_voxels": int(counts.sum()),
        "label_voxels": {str(int(v)): int(n) for v, n in zip(values, counts, strict=True)},
    }
    return row | {"tumour_ml": round(row["tumour_voxels"] * abs(np.linalg.det(affine[:3, :3])) / 1000, 4)}
