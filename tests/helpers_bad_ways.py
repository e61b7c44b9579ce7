"""The three ways that a bad input is sent: `autoconf inspect`, a bundle, `autoconf score`.

Each is gone as far as a user goes: the command line of autoconf, and unetr3d's inference.yaml from the folder to the
saved mask, with one convolution in the network's place. All in this process, because to start one takes longer than all
else; memory and time are bounded.
"""

from __future__ import annotations

import atexit
import contextlib
import csv
import functools
import glob
import importlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel
import numpy as np
import pytest
import torch
from helpers_bad_ends import assert_one_line, bundle_says, command, shortened
from helpers_bad_inputs import CASE, ENDS, SPACING, Kind, Outcome, Promise
from helpers_bundles import UNETR3D, as_scripts, scripts
from monai.bundle import ConfigParser

from autoconf.__main__ import main
from autoconf.phantom import phantom

RESIDENT = 400 << 20  # bytes that one way may take in memory, beyond what was there before


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


def go(kind: Kind, way: str) -> Outcome:
    """Make the bad input in a folder of its own and send it one way; check what is promised. Raises AssertionError."""
    with tempfile.TemporaryDirectory(prefix="bad_") as tmp:
        data = Path(tmp) / "data"
        os.chmod(tmp, 0o777 if kind.as_user else 0o700)
        shutil.copytree(sound(kind.where == "picture") / "data", data)
        promise = kind.promise(way)
        assert promise is not None
        made = {"inspect": _inspect, "bundle": _bundle, "score": _score}[way](kind, data, Path(tmp), promise)
    assert made.resident < RESIDENT, f"{made.resident >> 20} MB"
    return made


def case_of(kind: Kind) -> str:
    """What the spoilt case is called by `inspect`."""
    return next(iter(listed(sound(True) / "work"))) if kind.where == "picture" else CASE


def spoilt(kind: Kind, data: Path) -> None:
    """Do to the data what the kind does."""
    home = data / CASE
    target = {"scan": home / f"{CASE}-t2w.nii.gz", "mask": home / f"{CASE}-seg.nii.gz", "case": home, "data": data}
    kind.make(target.get(kind.where, data / case_of(kind)))


@contextlib.contextmanager
def made(kind: Kind, data: Path, before: str) -> Iterator[None]:
    """Inside, the data are spoilt: now, or if the kind is late before that function of the program is called."""
    if not kind.late:
        spoilt(kind, data)
        yield
        return
    module, _, name = before.rpartition(".")
    original = getattr(importlib.import_module(module), name)

    def late(*args: Any, **options: Any) -> Any:
        spoilt(kind, data)
        return original(*args, **options)

    with mock.patch(before, late):
        yield


# --- autoconf inspect ---------------------------------------------------------------------------


def _inspect(kind: Kind, data: Path, tmp: Path, promise: Promise) -> Outcome:
    case = promise.expected.get("case", case_of(kind))
    with made(kind, data, "autoconf.data.measure.in_order"):
        before = sorted(os.listdir(tmp))
        status, line, peak, shown = command("inspect", str(data), "--out", str(tmp / "work"), as_user=kind.as_user)
    if promise.end == "refused":
        assert_one_line(status, line, promise)
        assert sorted(os.listdir(tmp)) == before, "something was written"
        return Outcome("refused", shortened(line, tmp, case), peak)
    assert status == 0, line
    with open(tmp / "work" / "problems.csv", newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["severity"] != "note" and row["problem"] != "alike"]
    cases = listed(tmp / "work")
    everybody = promise.expected.get("of", listed(sound(kind.where == "picture") / "work"))
    if promise.end == "left out":
        (row,) = rows
        assert (row["severity"], row["problem"], row["case"]) == ("left out", promise.expected["kind"], case), row
        assert_one_line(1, "autoconf: " + row["finding"], promise)
        assert case in row["finding"] and cases == [name for name in everybody if name != case]
        return Outcome("left out", "left out: " + shortened(row["finding"], tmp, case), peak)
    assert promise.said in shown, shown
    expected = dict(promise.expected)
    warned = expected.pop("warns", "")
    assert [row["problem"] for row in rows] == ([warned] if warned else []), rows
    assert len(cases) == expected.pop("cases", len(everybody)), cases
    if kind.where != "picture":
        _check_row(expected, data, tmp / "work")
    finding = shortened(rows[0]["finding"], tmp, case) if rows else promise.said
    return Outcome("right", f"right; says: {finding}" if finding else "right", peak)


def listed(work: Path) -> list[str]:
    """The cases of a datalist, sorted."""
    found = json.loads((work / "datalist.json").read_text(encoding="utf-8"))
    return sorted(item["case"] for part in ("training", "testing", "unlabelled") for item in found[part])


def _check_row(expected: dict[str, Any], data: Path, work: Path) -> None:
    """The case's row of fingerprint.json is that of the sound case but for what is expected."""
    name = expected.pop("name", CASE)
    measured = {row["case"]: row for row in json.loads((work / "fingerprint.json").read_text())["cases"]}
    assert sorted(measured) == listed(work)
    anew = facts(data / CASE) if expected.pop("anew", False) else {}
    if name in measured:
        wanted = _sound_row() | {"case": name} | anew | expected
        found = {key: measured[name].get(key) for key in wanted}
        assert found == wanted


@functools.cache
def _sound_row() -> dict[str, Any]:
    rows = json.loads((sound() / "work" / "fingerprint.json").read_text())["cases"]
    return next(row for row in rows if row["case"] == CASE)


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


# --- a bundle -----------------------------------------------------------------------------------


def _bundle(kind: Kind, data: Path, tmp: Path, promise: Promise) -> Outcome:
    if kind.where == "picture":
        return _seen(kind, data, tmp, promise)
    if kind.where == "mask":
        return _learned_from(kind, data, tmp, promise)
    with made(kind, data, "unetr3d_scripts.readers._read"):
        known = {path.name for path in (sound() / "data").iterdir()}
        new = [path for path in data.iterdir() if path.name not in known] if data.is_dir() else []
        folder = data if kind.where == "data" else next(iter(new), data / CASE)
        status, line, peak = bundle_says(lambda: segment(folder, tmp / "masks"), as_user=kind.as_user)
    if promise.end == "refused":
        assert_one_line(status, line, promise)
        assert not (tmp / "masks").exists()
        return Outcome("refused", shortened(line, tmp, CASE), peak)
    assert status == 0, line
    assert promise.said in line, line
    name = promise.expected.get("name", CASE)
    masks = sorted(path.name for path in (tmp / "masks").iterdir())
    assert masks == promise.expected.get("masks", [f"{name}.nii.gz"]), masks
    scan = next(path for path in sorted(folder.rglob("*-t2f.*")) if path.name.startswith(f"{name}-t2f"))
    dice = agreement(tmp / "masks" / f"{name}.nii.gz", scan)
    assert dice >= promise.expected.get("dice", 0.99), dice
    first = shortened(line.split("\n")[0], tmp, CASE)
    return Outcome("right", f"right; says: {first}" if line else "right", peak)


@functools.cache
def config(name: str) -> ConfigParser:
    """A config of the bundle; to read one takes longer than to segment a small scan."""
    parser = ConfigParser()
    parser.read_config(str(UNETR3D / "configs" / name))
    return parser


def segment(folder: Path, out: Path) -> None:
    """inference.yaml with a network that marks where FLAIR is more than one standard deviation above its mean."""
    parser = config("inference.yaml")
    network = torch.nn.Conv3d(4, 1, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([0.0, 0, 0, 8]).reshape(1, 4, 1, 1, 1))
        network.bias.fill_(-8)
    parser.update({"dataset_dir": str(folder), "output_dir": str(out), "handlers": [], "network": network})
    parser.update({"patch_size": [32, 32, 32], "target_spacing": [SPACING] * 3, "amp": False, "min_component_mm3": 0})
    parser.update({"num_workers": 0, "device": torch.device("cpu")})
    with as_scripts("unetr3d"):
        parser.get_parsed_content("evaluator").run()


def agreement(mask: Path, scan: Path) -> float:
    """Dice of a mask with where the scan is more than one standard deviation above the mean of its head.

    Both lie on the same grid, or it is an AssertionError.
    """
    found, truth = nibabel.load(mask), nibabel.load(scan)
    assert found.shape == truth.shape and np.allclose(found.affine, truth.affine, atol=1e-3)
    values = np.asarray(truth.dataobj, float)
    inside = values[values != 0]
    wanted = values - inside.mean() > inside.std()
    marked = np.asarray(found.dataobj) > 0
    return float(2 * (wanted & marked).sum() / (wanted.sum() + marked.sum())) if (wanted | marked).any() else 1.0


def _learned_from(kind: Kind, data: Path, tmp: Path, promise: Promise) -> Outcome:
    """A mask as evaluation reads it, from a datalist that was made when it was sound."""
    found: list[int] = []
    with made(kind, data, "unetr3d_scripts.readers._read"):
        status, line, peak = bundle_says(lambda: found.append(int(true_mask(data, tmp).sum())), as_user=kind.as_user)
    if promise.end == "refused":
        assert_one_line(status, line, promise)
        return Outcome("refused", shortened(line, tmp, CASE), peak)
    assert status == 0, line
    assert promise.said in line, line
    assert found == [promise.expected.get("voxels", _sound_row()["tumour_voxels"])], found
    return Outcome("right", "right; says: " + shortened(line, tmp, CASE) if line else "right", peak)


def true_mask(data: Path, tmp: Path) -> torch.Tensor:
    """(1, H, W, D): the whole tumour of the case as evaluate.yaml reads it."""
    content = json.loads((sound() / "work" / "datalist.json").read_text())
    content["testing"] = [i for part in ("training", "testing") for i in content[part] if i["case"] == CASE]
    (tmp / "list.json").write_text(json.dumps(content))
    parser = config("evaluate.yaml")
    parser.update({"datalist": str(tmp / "list.json"), "dataset_dir": str(data), "target_spacing": [SPACING] * 3})
    with as_scripts("unetr3d"):
        return parser.get_parsed_content("dataset")[0]["label"]


def _seen(kind: Kind, data: Path, tmp: Path, promise: Promise) -> Outcome:
    """A picture as pseudo2d looks at it before it begins."""
    images = scripts("pseudo2d", "images")
    spoilt(kind, data)
    found: list[dict] = []
    status, line, peak = bundle_says(lambda: found.extend(images.inference_items("", str(data))), as_user=kind.as_user)
    if promise.end == "refused":
        assert_one_line(status, line, promise)
        return Outcome("refused", shortened(line, tmp, case_of(kind)), peak)
    assert status == 0, line
    assert len(found) == len(listed(sound(True) / "work"))
    return Outcome("right", "right", peak)


# --- autoconf score -----------------------------------------------------------------------------


def _score(kind: Kind, data: Path, tmp: Path, promise: Promise) -> Outcome:
    """The true mask as prediction. A bad scan or mask is the prediction; a bad case is so on both sides."""
    name = promise.expected.get("name", CASE)
    if kind.where not in ("scan", "mask"):
        spoilt(kind, data)
    (mask,) = data.glob(f"*/{glob.escape(name)}-seg.nii.gz")
    for side in ("truth", "pred"):
        (tmp / side).mkdir()
        shutil.copy(mask, tmp / side / f"{name}.nii.gz")
    if kind.where in ("scan", "mask"):
        kind.make(tmp / "pred" / f"{name}.nii.gz")
    words = ("score", str(tmp / "pred"), str(tmp / "truth"), "--out", str(tmp / "scores"), "--jobs", "1")
    status, line, peak, _ = command(*words, as_user=kind.as_user)
    if promise.end == "refused":
        assert_one_line(status, line, promise)
        assert not (tmp / "scores").exists()
        return Outcome("refused", shortened(line, tmp, CASE), peak)
    assert status == 0, line
    with open(tmp / "scores" / "scores.csv", newline="", encoding="utf-8") as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream) if row["region"] == "wt"}
    assert list(rows) == [name]
    dice = promise.expected.get("dice", 1.0)
    assert float(rows[name]["dice"]) == pytest.approx(dice, abs=1e-6)
    return Outcome("right", "right", peak)
