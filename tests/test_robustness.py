"""What is done to a scan to see whether the network bears it, and the page that says so."""

from __future__ import annotations

import json
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import torch
from helpers_bundles import REPO
from helpers_volumes import real_data

from benchmarks import changes, robustness
from benchmarks.changes import KINDS, MODALITIES, Scan

EVERY = [(kind, label) for kind in KINDS for label in KINDS[kind]]


def generator() -> np.random.Generator:
    return np.random.default_rng(7)


def scan() -> Scan:
    """24 x 30 x 20 voxels of 1 x 1.5 x 2 mm, stored as L, P, S; head and tumour are boxes out of the middle."""
    rng = np.random.default_rng(0)
    shape = (24, 30, 20)
    head, truth = np.zeros(shape, bool), np.zeros(shape, bool)
    head[3:21, 4:24, 3:17], truth[6:14, 8:16, 5:11] = True, True
    channels = tuple((rng.integers(100, 200, shape) * head).astype(np.int16) for _ in MODALITIES)
    affine = np.diag([-1.0, -1.5, 2.0, 1.0])
    affine[:3, 3] = (11, 21, -30)
    return Scan(channels, truth, affine)


def middle(of: Scan) -> np.ndarray:
    """Of the tumour, in mm of the world."""
    return nibabel.affines.apply_affine(of.affine, np.argwhere(of.truth).mean(axis=0))


def millilitres(of: Scan) -> float:
    return of.truth.sum() * abs(np.linalg.det(of.affine[:3, :3])) / 1000


def assert_same(first: Scan, second: Scan) -> None:
    for one, other in zip(
        (*first.channels, first.truth, first.affine), (*second.channels, second.truth, second.affine), strict=True
    ):
        np.testing.assert_array_equal(one, other)


# Each change


@pytest.mark.parametrize(("kind", "label"), EVERY)
def test_a_change_draws_the_same_each_time_and_leaves_its_scan_alone(kind, label):
    given, change = scan(), KINDS[kind][label]
    first, second = change(given, generator()), change(given, generator())
    if kind == "missing contrast":
        assert [n for n, c in zip(MODALITIES, first.channels, strict=True) if c is None] == [label]
        first, second = (
            changes.replace(one, channels=tuple(c for c in one.channels if c is not None)) for one in (first, second)
        )
    assert_same(first, second)
    assert_same(given, scan())
    assert all(channel.shape == first.truth.shape and np.isfinite(channel).all() for channel in first.channels)


@pytest.mark.parametrize("kind", ["bias field", "noise", "thick slices"])
def test_what_changes_voxels_alone_keeps_grid_truth_and_what_is_not_head(kind):
    given = scan()
    for change in KINDS[kind].values():
        found = change(given, generator())
        np.testing.assert_array_equal(found.truth, given.truth)
        np.testing.assert_array_equal(found.affine, given.affine)
        assert not any(channel[~given.head].any() for channel in found.channels)


def test_strength_none_changes_nothing():
    given = scan()
    for found in (
        changes.bias_field(given, generator(), 1),
        changes.noise(given, generator(), 0),
        changes.thick_slices(given, generator(), 1),  # its own slices are 2 mm thick
        changes.voxel_size(given, generator(), (1, 1.5, 2)),
        changes.turned_header(given, generator(), 0),
        changes.tilted_head(given, generator(), 0),
        changes.orientation(given, generator(), "LPS"),
    ):
        assert_same(found, given)


def test_a_bias_field_is_smooth_bounded_and_another_one_in_each_contrast():
    given = scan()
    ratios = [
        np.log2(after[given.head] / before[given.head])
        for after, before in zip(changes.bias_field(given, generator(), 2).channels, given.channels, strict=True)
    ]
    assert all(0.3 < np.abs(ratio).max() <= 1.001 for ratio in ratios)
    assert not np.allclose(ratios[0], ratios[1], atol=0.01)
    field = changes.smooth((40, 50, 60), generator())
    assert np.abs(field).max() == 1
    assert max(np.abs(np.diff(field, axis=axis)).max() for axis in range(3)) < 0.15


def test_noise_is_a_share_of_the_contrasts_own_deviation():
    given = scan()
    loud = changes.replace(given, channels=tuple(channel * 10 for channel in given.channels))
    for of in (given, loud):
        found = changes.noise(of, generator(), 0.5)
        for after, before in zip(found.channels, of.channels, strict=True):
            off = (after - before)[of.head]
            assert off.std() == pytest.approx(0.5 * before[of.head].std(), rel=0.05)


def test_thick_slices_are_means_along_feet_and_head():
    given = scan()
    ramp = changes.replace(given, channels=(np.arange(1, 21) * np.ones(given.truth.shape),) * 4)
    found = changes.thick_slices(ramp, generator(), 4).channels[0]  # two slices become one
    np.testing.assert_allclose(found[5, 5, 1:-1], np.arange(2, 20), atol=1e-4)  # a line stays a line
    spike = np.ones(given.truth.shape)
    spike[:, :, 10] = 9
    found = changes.thick_slices(changes.replace(given, channels=(spike,) * 4), generator(), 4).channels[0]
    np.testing.assert_allclose(found[5, 5, 8:14], [1, 2, 4, 4, 2, 1], atol=1e-4)
    found = changes.thick_slices(changes.replace(given, channels=(spike,) * 4), generator(), 6).channels[0]
    assert found[5, 5, 10] == pytest.approx((1 + 9 + 1) / 3)  # of its three slices, not of the middle one


@pytest.mark.parametrize("codes", ["RAS", "SRA", "ASL"])
@pytest.mark.parametrize(("kind", "label"), [("thick slices", "5"), ("voxel size", "1x1x3"), ("voxel size", "0.7")])
def test_mm_follow_the_patient_not_the_order_of_storage(kind, label, codes):
    change, given = KINDS[kind][label], scan()
    stored = changes.orientation(given, generator(), codes)
    found = changes.orientation(change(stored, generator()), generator(), "LPS")
    expected = change(given, generator())
    assert found.truth.shape == expected.truth.shape
    for one, other in zip(found.channels, expected.channels, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.95  # a grid may begin at the other edge


@pytest.mark.parametrize("kind", ["stored as", "voxel size", "tilted head"])
def test_the_truth_goes_with_the_grid(kind):
    given = scan()
    for label, change in KINDS[kind].items():
        found = change(given, generator())
        assert np.linalg.norm(middle(found) - middle(given)) < max(0.8, found.spacing.max() / 2), label
        assert millilitres(found) == pytest.approx(millilitres(given), rel=0.2), label
        assert found.head[found.truth].mean() > 0.95, label


def test_voxels_have_the_size_that_is_asked_for():
    found = changes.voxel_size(changes.orientation(scan(), generator(), "SRA"), generator(), (1, 2, 3))
    np.testing.assert_allclose(found.spacing, [3, 1, 2])


@pytest.mark.parametrize("codes", list(KINDS["stored as"]))
def test_another_order_of_storage_moves_no_voxel_in_the_world(codes):
    given = scan()
    found = changes.orientation(given, generator(), codes)
    assert "".join(nibabel.aff2axcodes(found.affine)) == codes
    marked = [nibabel.affines.apply_affine(of.affine, np.argwhere(of.truth)) for of in (given, found)]
    assert {tuple(p) for p in marked[0].round(3)} == {tuple(p) for p in marked[1].round(3)}


@pytest.mark.parametrize("degrees", [5, 30])
def test_a_turned_header_turns_about_the_middle_and_keeps_the_voxels(degrees):
    given = scan()
    found = changes.turned_header(given, generator(), degrees)
    assert_same(changes.replace(found, affine=given.affine), given)
    centre = (np.asarray(given.truth.shape) - 1) / 2
    np.testing.assert_allclose(*(nibabel.affines.apply_affine(of.affine, centre) for of in (found, given)), atol=1e-9)
    turn = found.affine[:3, :3] @ np.linalg.inv(given.affine[:3, :3])
    assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) == pytest.approx(degrees)


# What is written and said


def test_files_hold_the_changed_scan_and_none_of_what_is_missing(tmp_path):
    given = KINDS["missing contrast"]["t2"](scan(), generator())
    files = robustness.write(given, tmp_path, "one")
    assert files == ["one_t1.nii", "one_t1c.nii", None, "one_flair.nii"]
    image = nibabel.load(tmp_path / "one_flair.nii")
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), given.channels[3])
    np.testing.assert_allclose(image.affine, given.affine)


def test_cases_are_taken_evenly():
    assert robustness.chosen(list(range(22)), 4) == [0, 7, 14, 21]
    assert robustness.chosen([1, 2], 0) == robustness.chosen([1, 2], 5) == [1, 2]


def made_up() -> dict:
    """Two cases of Dice 0.9 and 0.8: without FLAIR both lose, at 6 mm one does, the rest changes nothing."""
    found = {}
    for case, dice, thick in (("a", 0.9, 0.5), ("b", 0.8, 0.8)):
        rows = {kind: dict.fromkeys(KINDS[kind], dice) for kind in KINDS}
        rows["missing contrast"]["flair"] = dice - 0.3
        rows["thick slices"]["6"] = thick
        found[case] = {"unchanged": {"": dice}} | rows
    return {"cases": ["a", "b"], "rows": robustness.summarise(found, {"a": "p", "b": "q"}), "dice_by_case": found}


def test_the_page_says_the_change_against_the_same_scan():
    text = robustness.page(made_up())
    assert "2 scans, unchanged: Dice 0.850 [0.800, 0.900]" in text
    assert "| flair | 0.550 | -0.300 [-0.300, -0.300] | -0.300 |" in text
    assert "| 6 | 0.650 | -0.200 [-0.400, 0.000] | -0.400 |" in text
    assert "| t1 | 0.850 | 0.000 [0.000, 0.000] | 0.000 |" in text


def test_weak_spots_are_losses_beyond_doubt():
    weak, single, same = robustness.verdicts(made_up()["rows"])
    assert weak.endswith("below 0**: missing contrast flair (-0.300).")
    assert single.endswith("mean**: thick slices 6 (worst -0.400).")
    assert "stored as RAS" in same and "flair" not in same and "thick slices 6" not in same


def test_the_picture_is_drawn(tmp_path):
    robustness.draw(made_up(), str(tmp_path / "p.png"))
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.robustness", *map(str, words)]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("wrong", ["no marks", "no page", "no cases"])
def test_bad_input_gets_one_line(wrong, tmp_path):
    words = ["--data", tmp_path, "--out", tmp_path / "out.json"]
    if wrong == "no marks":
        (tmp_path / "page.md").write_text("no marks in here")
    if wrong != "no cases":
        words += ["--page", tmp_path / "page.md"]
    done = run(*words)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("robustness: ")
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(("words", "device"), [((), "cuda"), (("--device", "cpu"), "cpu")])
def test_the_device_that_measured_is_the_one_written_down(monkeypatch, volumes, tmp_path, words, device):
    asked, report = [], made_up()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(robustness, "measure", lambda cases, device: asked.append(device) or report["dice_by_case"])
    monkeypatch.setattr(robustness, "summarise", lambda *_: report["rows"])
    monkeypatch.setattr(robustness, "machine", lambda device: {"gpu": device})
    given = ["--data", str(volumes.folder), "--out", str(tmp_path / "out.json"), *words]
    assert robustness.main(given) == 0
    assert asked == [device]
    assert json.loads((tmp_path / "out.json").read_text())["machine"] == {"gpu": device}


@pytest.mark.skipif(not real_data("brats"), reason="no real cases: set SEG_DATA")
@pytest.mark.long
def test_the_pipeline_gives_a_slice_first_scan_the_same_dice():
    program = f"""
from benchmarks import changes, robustness
case = next(one for one in robustness.find_cases({real_data("brats")!r}) if one.case == "BraTS2021_00006")
some = {{"": changes.unchanged, "SRA": changes.KINDS["stored as"]["SRA"]}}
print(robustness.json.dumps(robustness.dice_after(robustness.read(case), some, "seed", "cpu")))
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["SRA"] == pytest.approx(found[""], abs=1e-4)  # bfloat16 sums come in another order
    assert found[""] > 0.95


def test_the_page_shows_the_committed_results():
    report = json.loads((REPO / "docs" / "evidence" / "results" / "robustness.json").read_text())
    assert robustness.page(report) in (REPO / "docs" / "evidence" / "robustness.md").read_text()
