"""The shipped weights give the recorded answer on a phantom, on any processor: tests/golden, benchmarks/golden.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers_bundles import BUNDLES, NAMES, REPO, run_bundle
from helpers_processes import run_module
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from benchmarks import golden


@pytest.fixture(scope="module", params=NAMES)
def asked(request, tmp_path_factory) -> tuple[str, Path]:
    """A bundle and its phantom."""
    return request.param, golden.make_phantom(request.param, tmp_path_factory.mktemp("golden"))


def test_run_inferring_writes_the_recorded_masks(asked, tmp_path):
    """The command of the README with its default settings, bfloat16 where the processor has it."""
    bundle, scans = asked
    where = ("--dataset_dir", scans, "--output_dir", tmp_path / "masks", "--device", "cpu")
    run_bundle(BUNDLES / bundle, "inferring", ["inference.yaml"], *where)
    found = {**golden.told(bundle, scans), "masks": golden.read_masks(tmp_path / "masks")}
    assert golden.differences(bundle, found) == []


def test_the_network_gives_the_recorded_logits(asked, tmp_path):
    """In float32 to its rounding, in default precision to that of bfloat16."""
    bundle, scans = asked
    done = run_module("benchmarks.golden", ["--logits", bundle, str(scans), str(tmp_path / "out.npz")], REPO, {})
    assert done.returncode == 0, done.stderr
    outputs = golden.read_logits(tmp_path / "out.npz")
    assert outputs.keys() == golden.LOGITS.keys()
    assert golden.differences(bundle, {**golden.told(bundle, scans), "logits": outputs}) == []


@pytest.mark.parametrize("bundle", NAMES)
def test_the_recorded_mask_is_far_from_empty_and_far_from_full(bundle):
    """Or a network that marks nothing, or everything, would agree with it."""
    for name, found in json.loads(golden.path_of(bundle).read_text())["masks"].items():
        mask = golden.unpacked(found)
        assert mask.sum() == found["voxels"] > 2000, name
        assert mask.mean() < 0.5, name


# What the comparison notices, on an answer small enough to read


OUTPUT = np.linspace(-6, 6, 64, dtype=np.float32).reshape(1, 4, 4, 4)


@pytest.fixture
def recorded(tmp_path, monkeypatch) -> dict:
    """An answer that is recorded, and the same answer as found."""
    monkeypatch.setattr(golden, "RECORDED", tmp_path)
    monkeypatch.setattr(golden, "ROOT", tmp_path)
    told = {"phantom": {"sha256": "a", "means": {"t1": [100.0, 50.0]}}, "weights": "b" * 64}
    figures = golden.figures(OUTPUT, golden.positions(OUTPUT))
    kept = {**told, "masks": {"x.nii.gz": golden.packed(OUTPUT[0] > 0)}, "logits": figures}
    golden.path_of("unetr3d").write_text(json.dumps(kept))
    return {**told, "masks": {"x.nii.gz": OUTPUT[0] > 0}, "logits": {"float32": OUTPUT, "default": OUTPUT}}


def only_line(found: dict) -> str:
    (line,) = golden.differences("unetr3d", found)
    assert line.startswith("unetr3d.json: ") and line.endswith("If that is intended: python -m benchmarks.golden")
    return line


def test_the_same_answer_has_no_line(recorded):
    assert golden.differences("unetr3d", recorded) == []


def test_rounding_has_no_line(recorded):
    std = OUTPUT.std()
    recorded["phantom"] = {"sha256": "other sines", "means": {"t1": [100.001, 50.0]}}
    recorded["logits"] = {"float32": OUTPUT + 5e-5 * std, "default": OUTPUT * (1 + 2**-8)}
    assert golden.differences("unetr3d", recorded) == []


def test_another_phantom_is_named_and_nothing_else(recorded):
    recorded["phantom"] = {"sha256": "c", "means": {"t1": [100.0, 50.1]}}
    recorded["weights"] = "d" * 64
    recorded["masks"] = {"x.nii.gz": OUTPUT[0] > 9}
    line = only_line(recorded)
    assert "the phantom: t1 has mean and std [100.0, 50.1], recorded [100.0, 50.0]" in line


def test_other_weights_are_named_and_nothing_else(recorded):
    recorded["weights"] = "d" * 64
    recorded["logits"] = {"float32": OUTPUT + 1}
    assert "the weights: models/model.pt has SHA-256 dddddddddddd, recorded bbbbbbbbbbbb" in only_line(recorded)


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ({"x.nii.gz": OUTPUT[0] > 0.5}, "x.nii.gz has Dice 0.9"),
        ({"x.nii.gz": OUTPUT[0] > 9}, "(0 voxels of 4x4x4, recorded 32 of 4x4x4)"),
        ({"x.nii.gz": OUTPUT[0, 1:] > 0}, "Dice 0.0000"),
        ({"y.nii.gz": OUTPUT[0] > 0}, "masks y.nii.gz, recorded x.nii.gz"),
        ({}, "masks none, recorded x.nii.gz"),
    ],
)
def test_another_mask_is_named(recorded, masks, said):
    recorded["masks"] = masks
    line = only_line(recorded)
    assert "the answer: " in line and said in line


def one_voxel(offset: float) -> np.ndarray:
    changed = OUTPUT.copy()
    changed[tuple(golden.positions(OUTPUT)[3])] += offset
    return changed


@pytest.mark.parametrize(
    ("precision", "output", "said"),
    [
        ("float32", OUTPUT * 1.001, "logits in float32"),
        ("float32", one_voxel(0.01), "logits in float32, voxel"),
        ("float32", OUTPUT[:, ::-1], "logits in float32, voxel"),  # the same figures but for their places
        ("float32", OUTPUT * np.nan, "is nan"),
        ("float32", OUTPUT[:, 1:], "shape [1, 3, 4, 4], recorded [1, 4, 4, 4]"),
        ("default", OUTPUT + 0.1, "logits in default, "),
        ("default", one_voxel(0.4), "logits in default, voxel"),
    ],
)
def test_other_logits_are_named(recorded, precision, output, said):
    recorded["logits"] = {precision: output}
    assert said in only_line(recorded)


@given(arrays(bool, array_shapes(min_dims=1, max_dims=3, max_side=9), elements=st.booleans()))
def test_a_packed_mask_comes_back_exactly(mask):
    assert np.array_equal(golden.unpacked(json.loads(json.dumps(golden.packed(mask)))), mask)


def test_places_lie_inside_the_mask_and_outside_it():
    places = golden.positions(OUTPUT)
    assert [OUTPUT[tuple(place)] > 0 for place in places] == [True] * 10 + [False] * 10
    assert len(set(map(tuple, places))) == 20
