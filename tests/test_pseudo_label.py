"""Pseudo-masks: what counts as the object, and what `run pseudo_labelling` leaves on disk."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from helpers_bundles import PSEUDO2D, assert_refused, cut_short, run_bundle, scripts
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.measure import label

pseudo = scripts("pseudo2d", "pseudo_label")
images = scripts("pseudo2d", "images")


def picture(*discs: tuple[int, int, int], side: int = 96) -> np.ndarray:
    """Noisy dark background with bright discs (row, column, radius)."""
    values = np.random.default_rng(0).uniform(0, 20, (side, side))
    for disc in discs:
        values[inside(disc, side)] += 100
    return values


def inside(disc: tuple[int, int, int], side: int = 96) -> np.ndarray:
    row, column, radius = disc
    y, x = np.mgrid[:side, :side]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


# The mask


@pytest.mark.parametrize("value", [0, 7.5, 255])
def test_a_constant_image_has_an_empty_mask_and_a_warning(value):
    found = pseudo.pseudo_mask(np.full((32, 32), value))
    assert not found.mask.any() and found.objects == 0
    assert found.warnings == ("constant image",)


def test_a_bright_disc_is_found_and_specks_are_removed():
    disc = (40, 60, 20)
    image = picture(disc)
    image[5:8, 5:8] = image[80:82, 10:12] = 255
    found = pseudo.pseudo_mask(image)
    assert dice(found.mask, inside(disc)) > 0.97
    assert not found.mask[:10, :10].any() and not found.mask[78:84, 8:14].any()
    assert found.objects == 1 and found.warnings == ()


def test_nothing_but_specks_is_an_empty_mask_and_a_warning():
    image = picture()
    image[5:8, 5:8] = 255
    found = pseudo.pseudo_mask(image)
    assert not found.mask.any() and len(found.warnings) == 1


def test_holes_smaller_than_the_square_are_closed():
    image = picture((48, 48, 25))
    image[48:51, 48:51] = 0
    assert pseudo.pseudo_mask(image).mask[48:51, 48:51].all()


def test_of_two_far_objects_the_larger_is_kept_and_both_are_counted():
    large, small = (25, 25, 18), (70, 70, 12)
    found = pseudo.pseudo_mask(picture(small, large), join_gap=15)
    assert dice(found.mask, inside(large)) > 0.95
    assert found.objects == 2 and found.warnings == ("2 large objects",)


def test_pieces_nearer_than_the_gap_are_one_object():
    near = [(48, 22, 14), (48, 60, 14)]  # 10 pixels of dark between them
    both = inside(near[0]) | inside(near[1])
    assert dice(pseudo.pseudo_mask(picture(*near), join_gap=15).mask, both) > 0.95
    assert dice(pseudo.pseudo_mask(picture(*near), join_gap=6).mask, both) < 0.75


discs = st.lists(st.tuples(st.integers(0, 95), st.integers(0, 95), st.integers(3, 25)), min_size=1, max_size=5)


@given(discs)
@settings(max_examples=30)
def test_without_a_gap_the_mask_is_one_connected_piece(discs):
    found = pseudo.pseudo_mask(picture(*discs), join_gap=0)
    assert label(found.mask, connectivity=1).max() == min(1, found.objects)


@given(discs, st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
@settings(max_examples=30)
def test_units_do_not_matter(discs, scale, shift):
    image = picture(*discs)
    same, other = pseudo.pseudo_mask(image), pseudo.pseudo_mask(scale * image + shift)
    assert (same.mask ^ other.mask).mean() < 0.002  # a value on a threshold may be rounded to its other side
    assert same.objects == other.objects


def test_a_mask_of_nearly_everything_is_warned_of():
    image = np.full((64, 64), 100.0)
    image[:3] = 0
    assert pseudo.pseudo_mask(image).warnings == ("covers over 90 % of the image",)


# The files


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32, np.int64])
def test_a_mask_is_written_as_exactly_0_and_255(dtype, tmp_path):
    mask = np.eye(9, dtype=dtype)
    images.write_mask(mask, str(tmp_path / "class" / "a.jpg.png"))
    with Image.open(tmp_path / "class" / "a.jpg.png") as written:
        assert written.format == "PNG" and written.mode == "L"
        assert np.array_equal(written, np.eye(9) * 255)
    assert [path.name for path in (tmp_path / "class").iterdir()] == ["a.jpg.png"]


def table(out) -> list[dict[str, str]]:
    with open(out / "pseudo_labels.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_every_image_has_a_mask_at_the_mirrored_path(slices, pseudo_labelled):
    found = {str(path.relative_to(slices.folder)) for path in slices.folder.rglob("*.jp*g")}
    masks = {str(path.relative_to(pseudo_labelled / "masks")) for path in (pseudo_labelled / "masks").rglob("*.*")}
    assert masks == {f"{name}.png" for name in found}
    assert any(name.endswith(".jpeg") for name in found)
    for name in masks:
        with Image.open(pseudo_labelled / "masks" / name) as mask:
            assert mask.size == (64, 64) and set(np.unique(mask)) <= {0, 255}


def test_the_table_has_a_row_for_each_image_and_tells_the_truth(slices, pseudo_labelled):
    rows = table(pseudo_labelled)
    assert [row["image"] for row in rows] == sorted(
        str(path.relative_to(slices.folder)) for path in slices.folder.rglob("*.jp*g")
    )
    for row in rows:
        mask = np.asarray(Image.open(pseudo_labelled / "masks" / row["mask"])) > 0
        picture = Image.open(slices.folder / row["image"])
        area = min(picture.size) / max(picture.size)  # the share of the padded square that is picture
        assert mask.mean() == pytest.approx(float(row["foreground_fraction"]) * area, abs=0.02)


def test_the_montage_shows_the_images(pseudo_labelled):
    with Image.open(pseudo_labelled / "montage.png") as sheet:
        assert sheet.size == (8 * 64, 6 * 64)  # 48 images at most
        assert (np.asarray(sheet) == (230, 159, 0)).all(-1).any()  # outlines


def test_a_second_run_does_not_overwrite_the_first(pseudo_labelled):
    before = (pseudo_labelled / "pseudo_labels.csv").stat().st_mtime_ns
    with pytest.raises(SystemExit, match="masks is there already. Remove it or choose another --output_dir"):
        pseudo.PseudoLabeller([], None, None, str(pseudo_labelled)).run()
    assert (pseudo_labelled / "pseudo_labels.csv").stat().st_mtime_ns == before
    assert (pseudo_labelled / "masks").is_dir()


def test_a_truncated_image_stops_the_run_and_leaves_nothing(slices, tmp_path):
    shutil.copytree(slices.folder / "_NORMAL T2", tmp_path / "data" / "_NORMAL T2")
    broken = sorted((tmp_path / "data").rglob("*.jpg"))[-1]
    cut_short(broken, 0.6)
    done = run_bundle(
        *(PSEUDO2D, "pseudo_labelling", ["pseudo_label.yaml"], "--dataset_dir", tmp_path / "data"),
        *("--output_dir", tmp_path / "out"),
        expect=1,
    )
    assert_refused(done, "pseudo2d", str(broken), "Copy it again or remove it")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


# Label functions in place of Otsu


@pytest.fixture(scope="module")
def by_functions(slices, tmp_path_factory):
    """What label functions say of some of the images, with a datalist that has unlabelled ones."""
    home = tmp_path_factory.mktemp("by_functions")
    paths = sorted(str(path.relative_to(slices.folder)) for path in slices.folder.rglob("*.jp*g"))[::6]
    items = [{"case": path, "patient": path, "image": path} for path in paths]
    content = {"kind": "images", "dataset_dir": str(slices.folder), "training": [items[0] | {"fold": 1}]}
    content |= {"testing": [items[1]], "unlabelled": [items[2] | {"side": "testing"}, *items[3:]]}
    (home / "datalist.json").write_text(json.dumps(content))
    run_bundle(
        *(PSEUDO2D, "pseudo_labelling", ["pseudo_label.yaml", "labelers.yaml"], "--datalist", home / "datalist.json"),
        *("--output_dir", home / "out", "--image_size", 64, "--fusion::_target_", "scripts.fusion.staple"),
    )
    return home, paths


def test_label_functions_write_soft_and_ignore_masks_beside_the_hard_one(by_functions):
    home, paths = by_functions
    for kind in ("masks", "soft", "ignore"):
        found = {str(path.relative_to(home / "out" / kind)) for path in (home / "out" / kind).rglob("*.png")}
        assert found == {f"{path}.png" for path in paths}
        for name in found:
            with Image.open(home / "out" / kind / name) as mask:
                assert mask.size == (64, 64) and mask.mode == "L"
    assert not (home / "out" / "masks.partial").exists()
    with open(home / "out" / "audit.csv", newline="", encoding="utf-8") as stream:
        who = [row["who"] for row in csv.DictReader(stream)]
    assert who == ["multi_otsu", "sauvola", "asymmetry", "blob", "walker", "fused"] * len(paths)
    assert [row["image"] for row in table(home / "out")] == paths


def test_of_a_datalist_only_unlabelled_images_get_masks_and_none_of_a_test_patient(by_functions):
    home, paths = by_functions
    before, after = (json.loads((home / name).read_text()) for name in ("datalist.json", "out/datalist.json"))
    assert [after[part] for part in ("training", "testing")] == [before[part] for part in ("training", "testing")]
    assert after["unlabelled"][0] == before["unlabelled"][0]
    empty = {row["image"] for row in table(home / "out") if float(row["foreground_fraction"]) == 0}
    for item in after["unlabelled"][1:]:
        assert ("pseudo_label" in item) == (item["image"] not in empty)
        if "pseudo_label" in item:
            assert item["pseudo_label"] == str(home / "out" / "masks" / f"{item['image']}.png")
            assert {"soft", "ignore"} <= set(item)


def test_the_study_stays_the_default(pseudo_labelled):
    assert sorted(path.name for path in pseudo_labelled.iterdir()) == ["masks", "montage.png", "pseudo_labels.csv"]


def test_a_head_is_found_without_its_skull():
    scan_of = scripts("pseudo2d", "pictures").scan_of
    head, brain = inside((60, 60, 50), 120), inside((60, 60, 41), 120)
    image = np.where(brain, 100.0, np.where(head, 160.0, 0)) + np.random.default_rng(0).uniform(0, 9, (120, 120))
    found = scan_of(image).brain
    assert dice(found, brain) > 0.9 and not (found & ~head).any()
    assert not scan_of(np.full((40, 40), 3.0)).brain.any()
