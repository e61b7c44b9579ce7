"""The ways that a bad scan or picture is read: `autoconf inspect`, a bundle, `autoconf score`.

Each is gone as far as a user goes: the command line of autoconf, and unetr3d's inference.yaml from the folder to the
saved mask, with one convolution in the network's place. All in this process, because to start one takes longer than all
else; memory and time are bounded. A way runs a program on a row's input and returns how that ended and a check of the
answer, which gives what the page says of it.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import glob
import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel
import numpy as np
import pytest
import torch
from helpers_bundles import UNETR3D, as_scripts, scripts
from monai.bundle import ConfigParser

from autoconf.__main__ import main
from bad.ends import Ran, assert_one_line, of_bundle, ran
from bad.row import CASE, SPACING, End, Row
from bad.sound import facts, listed, measured, sound, sound_row

RESIDENT = 400 << 20  # bytes that one way may take in memory, beyond what was there before
GIVEN = {"data", "truth", "pred", "list.json", "plan.yaml", "tiny", "run", "file", "taken_files"}  # put there by ways
Way = Callable[[Row, Path, End], tuple[Ran, Callable[[], str]]]


def go(row: Row, way: Way, end: End) -> str:
    """Make a row's input in a folder of its own, read it, check the end; returns the page's text of it."""
    with tempfile.TemporaryDirectory(prefix="bad_") as home:
        tmp = Path(home)
        os.chmod(tmp, 0o777 if row.as_user else 0o700)
        said, answer = way(row, tmp, end)
        assert said.resident < RESIDENT, f"{said.resident >> 20} MB"
        if end.how == "refused":
            assert_one_line(said.status, said.line, end)
            assert set(os.listdir(tmp)) <= GIVEN, "something was written"
            return "exit 1: " + shortened(said.line, tmp, case_of(row))
        assert said.status == 0, said.line
        return shortened(answer(), tmp, end.expected.get("case", case_of(row)))


def shortened(line: str, tmp: Path, case: str) -> str:
    """The line without the program's name, and with paths as a reader knows them."""
    for name in ("autoconf: ", "unetr3d: ", "pseudo2d: "):
        line = line.removeprefix(name).replace(f"says: {name}", "says: ")
    line = line.replace(str(tmp / "data"), "DATA").replace(f"{tmp}/", "").replace(str(tmp), "WORK")
    return line.replace(case, "CASE")


def case_of(row: Row) -> str:
    """What the broken case is called by `inspect`."""
    return listed(sound(True) / "work")[0] if row.where == "picture" else CASE


def copied(row: Row, tmp: Path) -> Path:
    return Path(shutil.copytree(sound(row.where == "picture") / "data", tmp / "data"))


def broken(row: Row, data: Path) -> None:
    """Do to the data what the row does."""
    home = data / CASE
    target = {"scan": home / f"{CASE}-t2w.nii.gz", "mask": home / f"{CASE}-seg.nii.gz", "case": home, "data": data}
    row.make(target.get(row.where, data / case_of(row)))


@contextlib.contextmanager
def made(row: Row, data: Path, before: str) -> Iterator[None]:
    """Inside, the data are broken: now, or if the row is late before that function of the program is called."""
    if not row.late:
        broken(row, data)
        yield
        return
    module, _, name = before.rpartition(".")
    original = getattr(importlib.import_module(module), name)

    def late(*args: Any, **options: Any) -> Any:
        broken(row, data)
        return original(*args, **options)

    with mock.patch(before, late):
        yield


def refuses(said: Callable[[Row, Path], Ran]) -> Way:
    """A way that makes a row's input in a folder and reads it there; all that its rows give it is refused."""
    return lambda row, tmp, end: (said(row, tmp), lambda: "right")


# --- autoconf inspect ---------------------------------------------------------------------------


def inspect(row: Row, tmp: Path, end: End) -> tuple[Ran, Callable[[], str]]:
    data = copied(row, tmp)
    with made(row, data, "autoconf.data.measure.in_order"):
        said = ran(lambda: main(["inspect", str(data), "--out", str(tmp / "work")]), row.as_user)
    return said, lambda: _inspected(row, data, said.shown, end)


def _inspected(row: Row, data: Path, shown: str, end: End) -> str:
    work, expected = data.parent / "work", dict(end.expected)
    with open(work / "problems.csv", newline="", encoding="utf-8") as stream:
        found = [one for one in csv.DictReader(stream) if one["severity"] != "note" and one["problem"] != "alike"]
    everybody = expected.get("of", listed(sound(row.where == "picture") / "work"))
    if end.how == "left out":
        (one,) = found
        case = expected.get("case", case_of(row))
        assert (one["severity"], one["problem"], one["case"]) == ("left out", expected["kind"], case), one
        assert_one_line(1, "autoconf: " + one["finding"], end)
        assert row.where == "picture" or sorted(measured(work)) == listed(work)
        assert case in one["finding"] and listed(work) == [name for name in everybody if name != case]
        return "left out: " + one["finding"]
    assert end.said in shown, shown
    warned = expected.pop("warns", "")
    assert [one["problem"] for one in found] == ([warned] if warned else []), found
    assert len(listed(work)) == expected.pop("cases", len(everybody))
    if row.where != "picture":
        _check_measured(expected, data, work)
    return right(found[0]["finding"] if found else end.said)


def right(says: str = "") -> str:
    return f"right; says: {says}" if says else "right"


def _check_measured(expected: dict[str, Any], data: Path, work: Path) -> None:
    """The case's row of fingerprint.json is that of the sound case but for what is expected."""
    name = expected.pop("name", CASE)
    found = measured(work)
    assert sorted(found) == listed(work)
    anew = facts(data / CASE) if expected.pop("anew", False) else {}
    if name in found:
        wanted = sound_row() | {"case": name} | anew | expected
        assert {key: found[name].get(key) for key in wanted} == wanted


# --- a bundle -----------------------------------------------------------------------------------


def bundle(row: Row, tmp: Path, end: End) -> tuple[Ran, Callable[[], str]]:
    """A scan from its folder to the saved mask, a mask as evaluation reads it, a picture as pseudo2d looks at it."""
    data, masks, found = copied(row, tmp), tmp / "masks", []
    folder = data
    with made(row, data, "unetr3d_scripts.readers._read"):
        if row.where == "picture":
            items = scripts("pseudo2d", "images").inference_items
            said = ran(lambda: found.extend(items("", str(data))), row.as_user)
        elif row.where == "mask":
            said = ran(lambda: found.append(int(true_mask(data, tmp).sum())), row.as_user)
        else:
            known = {path.name for path in (sound() / "data").iterdir()}
            new = [path for path in data.iterdir() if path.name not in known] if data.is_dir() else []
            folder = data if row.where == "data" else next(iter(new), data / CASE)
            said = ran(lambda: segment(folder, masks), row.as_user)
    said = of_bundle(said)

    def answer() -> str:
        assert end.said in said.line, said.line
        if row.where == "picture":
            assert len(found) == len(listed(sound(True) / "work"))
        elif row.where == "mask":
            assert found == [end.expected.get("voxels", sound_row()["tumour_voxels"])]
        else:
            _check_masks(folder, masks, end)
        return right(said.line.split("\n")[0])

    return said, answer


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


def _check_masks(folder: Path, out: Path, end: End) -> None:
    """The masks have their names, and that of the case lies on its grid where its FLAIR is bright."""
    name = end.expected.get("name", CASE)
    assert sorted(path.name for path in out.iterdir()) == end.expected.get("masks", [f"{name}.nii.gz"])
    scan = next(path for path in sorted(folder.rglob("*-t2f.*")) if path.name.startswith(f"{name}-t2f"))
    found, truth = nibabel.load(out / f"{name}.nii.gz"), nibabel.load(scan)
    assert found.shape == truth.shape and np.allclose(found.affine, truth.affine, atol=1e-3)
    values = np.asarray(truth.dataobj, float)
    inside = values[values != 0]
    wanted = values - inside.mean() > inside.std()
    marked = np.asarray(found.dataobj) > 0
    dice = float(2 * (wanted & marked).sum() / (wanted.sum() + marked.sum())) if (wanted | marked).any() else 1.0
    assert dice >= end.expected.get("dice", 0.99), dice


def true_mask(data: Path, tmp: Path) -> torch.Tensor:
    """(1, H, W, D): the whole tumour of the case as evaluate.yaml reads it, by a datalist made when it was sound."""
    content = json.loads((sound() / "work" / "datalist.json").read_text())
    content["testing"] = [i for part in ("training", "testing") for i in content[part] if i["case"] == CASE]
    (tmp / "list.json").write_text(json.dumps(content))
    parser = config("evaluate.yaml")
    parser.update({"datalist": str(tmp / "list.json"), "dataset_dir": str(data), "target_spacing": [SPACING] * 3})
    with as_scripts("unetr3d"):
        return parser.get_parsed_content("dataset")[0]["label"]


# --- autoconf score -----------------------------------------------------------------------------


def score(row: Row, tmp: Path, end: End) -> tuple[Ran, Callable[[], str]]:
    """The true mask as prediction. A bad scan or mask is the prediction; a bad case is so on both sides."""
    data, name = copied(row, tmp), end.expected.get("name", CASE)
    if row.where not in ("scan", "mask"):
        broken(row, data)
    (mask,) = data.glob(f"*/{glob.escape(name)}-seg.nii.gz")
    for side in ("truth", "pred"):
        (tmp / side).mkdir()
        shutil.copy(mask, tmp / side / f"{name}.nii.gz")
    if row.where in ("scan", "mask"):
        row.make(tmp / "pred" / f"{name}.nii.gz")
    words = ("score", str(tmp / "pred"), str(tmp / "truth"), "--out", str(tmp / "scores"), "--jobs", "1")
    said = ran(lambda: main(list(words)), row.as_user)

    def answer() -> str:
        with open(tmp / "scores" / "scores.csv", newline="", encoding="utf-8") as stream:
            rows = {one["case"]: one for one in csv.DictReader(stream) if one["region"] == "wt"}
        assert list(rows) == [name]
        assert float(rows[name]["dice"]) == pytest.approx(end.expected.get("dice", 1.0), abs=1e-6)
        return right()

    return said, answer


SCANS: dict[str, Way] = {"inspect": inspect, "bundle": bundle, "score": score}
