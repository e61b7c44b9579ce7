"""The phantom is deterministic, BraTS-shaped, and shows what a real tumour scan shows."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import autoconf.phantom as package
from autoconf.errors import AutoconfError
from autoconf.phantom import phantom
from autoconf.phantom.cases import (
    FIELD_MM,
    centred_points,
    lps_affine,
    make_case,
    make_volume,
    takes_up_contrast,
)
from autoconf.phantom.head import HEALTHY, inside_brain, tissues, to_template
from autoconf.phantom.mri import MODALITIES
from autoconf.phantom.tumour import (
    HEALTHY_STATE,
    TISSUES,
    arrival_at,
    core_depth,
    paint,
    push_back,
)

SIZE = 48
VOXEL = FIELD_MM / SIZE
T1, T1C, T2, FLAIR = range(4)


@pytest.fixture(scope="module")
def set_of_12(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "set"
    phantom(str(out), cases=12, size=SIZE, seed=3)
    return out


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "pictures"
    phantom(str(out), cases=4, size=SIZE, seed=3, slices=True)
    return out


@pytest.fixture(scope="module")
def scans():
    """Four cases with their images, labels and tissue shares on the same grid."""
    return [_scan(make_case(0, index)) for index in range(4)]


def _scan(case):
    volume = make_volume(case, SIZE)
    template = to_template(case.head, centred_points(volume.affine, (SIZE,) * 3))
    shares, _ = paint(case.head, case.tumour, template, VOXEL)
    images = volume.images.reshape(4, -1).astype(float)
    return case, images, volume.labels.ravel(), shares


def files(folder: Path) -> dict[str, bytes]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


def load(folder: Path, case: str, suffix: str) -> nib.Nifti1Image:
    return nib.load(folder / case / f"{case}-{suffix}.nii.gz")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir())


# Files


def test_a_case_is_the_same_bytes_whatever_the_number_of_cases(set_of_12, tmp_path):
    phantom(str(tmp_path / "few"), cases=2, size=SIZE, seed=3)
    few, many = files(tmp_path / "few"), files(set_of_12)
    assert len(few) == 2 * 5 + 1
    assert all(many[name] == data for name, data in few.items() if name != "README.txt")


def test_another_seed_is_another_head(set_of_12, tmp_path):
    phantom(str(tmp_path / "other"), cases=1, size=SIZE, seed=4)
    same = [n for n, data in files(tmp_path / "other").items() if files(set_of_12)[n] == data]
    assert same == []
    case = "BraTS-GLI-00000-000"
    brains = [np.asarray(load(f, case, "t1n").dataobj) > 0 for f in (set_of_12, tmp_path / "other")]
    assert not np.array_equal(*brains)


def test_the_five_files_of_a_case_share_one_lps_geometry(set_of_12):
    for case in names(set_of_12):
        images = [load(set_of_12, case, suffix) for suffix in (*MODALITIES, "seg")]
        for image in images:
            assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
            assert image.shape == (SIZE,) * 3
            assert np.array_equal(image.affine, lps_affine(SIZE))
            assert np.allclose(image.header.get_zooms(), VOXEL)
            assert np.allclose(image.get_qform(), image.get_sform())
            assert image.header["qform_code"] == image.header["sform_code"] == 1
        assert images[-1].get_data_dtype() == np.uint8
        assert {i.get_data_dtype() for i in images[:-1]} == {np.dtype(np.int16)}


def test_labels_are_those_of_brats_2023_and_lie_in_the_brain(set_of_12):
    for case in names(set_of_12):
        labels = np.asarray(load(set_of_12, case, "seg").dataobj)
        brains = [np.asarray(load(set_of_12, case, s).dataobj) > 0 for s in MODALITIES]
        assert 2 in labels and set(np.unique(labels)) <= {0, 1, 2, 3}
        assert all(np.array_equal(brains[0], other) for other in brains)
        assert not np.any(labels[~brains[0]])
        edge = brains[0].copy()
        edge[1:-1, 1:-1, 1:-1] = False
        assert not edge.any(), f"{case}: the brain is cut off by the grid"
        assert 0.9e6 < brains[0].sum() * VOXEL**3 < 1.9e6  # mm3; a brain with fluid is 1.1 to 1.6 l


def test_a_quarter_of_the_cases_does_not_enhance(set_of_12):
    with_rim = [3 in np.asarray(load(set_of_12, case, "seg").dataobj) for case in names(set_of_12)]
    assert 2 <= with_rim.count(False) <= 4


@given(st.integers(0, 2**40), st.integers(0, 500))
@settings(max_examples=30, deadline=None)
def test_one_patient_in_each_four_does_not_enhance(seed, block):
    assert [takes_up_contrast(seed, 4 * block + i) for i in range(4)].count(False) == 1


def test_second_scans_show_the_same_head_with_more_tumour(set_of_12):
    again = [name for name in names(set_of_12) if name.endswith("-001")]
    assert len(again) == 2
    for name in again:
        first = name[:-3] + "000"
        before, after = (np.asarray(load(set_of_12, n, "seg").dataobj) > 0 for n in (first, name))
        assert after.sum() > 1.1 * before.sum()
        brains = [np.asarray(load(set_of_12, n, "t1n").dataobj) > 0 for n in (first, name)]
        assert np.array_equal(*brains)


def test_the_readme_says_how_to_make_it_again(set_of_12):
    text = (set_of_12 / "README.txt").read_text()
    assert "Synthetic" in text and f"phantom OUT --cases 12 --size {SIZE} --seed 3\n" in text


# What the pictures show


def mean(scan, contrast: int, *tissue: str) -> float:
    """Mean signal where a tissue fills the voxel."""
    _, images, _, shares = scan
    pure = (sum(shares[TISSUES.index(name)] for name in tissue) > 0.9) & (images[T1] > 0)
    assert pure.sum() > 5, f"no pure {tissue}"
    return images[contrast][pure].mean()


def test_tissues_are_ordered_as_in_real_scans(scans):
    fluid = "csf", "ventricle"
    for scan in scans:
        for contrast in (T1, T1C):
            white, grey = (mean(scan, contrast, name) for name in ("wm", "gm"))
            assert white > grey > mean(scan, contrast, *fluid)
        assert mean(scan, T2, *fluid) > mean(scan, T2, "gm") > mean(scan, T2, "wm")
        assert mean(scan, FLAIR, "gm") > mean(scan, FLAIR, "wm") > 2 * mean(scan, FLAIR, *fluid)
        assert mean(scan, FLAIR, "oedema") > 1.2 * mean(scan, FLAIR, "gm")
        assert mean(scan, T2, "oedema") > mean(scan, T2, "gm")
        assert mean(scan, T1, "oedema") < mean(scan, T1, "wm")


def test_the_rim_is_bright_on_t1c_only(scans):
    for scan in (s for s in scans if s[0].enhancing):
        _, images, labels, _ = scan
        rim = [np.median(row[labels == 3]) for row in images]
        white = [mean(scan, contrast, "wm") for contrast in range(4)]
        assert rim[T1C] > white[T1C]
        assert rim[T1] < 0.9 * white[T1]
        assert rim[T2] < mean(scan, T2, "ventricle")
        assert rim[FLAIR] < 1.15 * mean(scan, FLAIR, "oedema")


def test_necrosis_is_dark_on_t1_and_bright_on_t2_inside_the_rim(scans):
    seen = 0
    for scan in (s for s in scans if s[0].enhancing):
        _, images, labels, _ = scan
        if np.sum(labels == 1) > 10:
            seen += 1
            assert np.median(images[T1][labels == 1]) < 0.7 * mean(scan, T1, "wm")
            assert np.median(images[T2][labels == 1]) > 1.3 * mean(scan, T2, "wm")
            cube = labels.reshape((SIZE,) * 3)
            beside = np.zeros_like(cube, bool)
            for axis in range(3):
                for step in (-1, 1):
                    beside |= np.roll(cube == 1, step, axis)
            shell = cube[beside & (cube != 1)]
            assert np.mean(shell == 3) > 0.6
    assert seen


def test_oedema_runs_along_white_matter(scans):
    """Within reach of a core, the front arrives in more of the white than of the grey matter."""
    for case, _, _, _shares in scans:
        points = to_template(case.head, centred_points(lps_affine(SIZE), (SIZE,) * 3))
        healthy = tissues(case.head, push_back(case.tumour.lesions, points), VOXEL)
        depths = [core_depth(lesion, points) for lesion in case.tumour.lesions]
        zones = [(d < 0) & (d > -lesion.reach) for d, lesion in zip(depths, case.tumour.lesions, strict=True)]
        near = np.any(zones, axis=0)
        arrived = arrival_at(case.tumour, points) > 0
        white, grey = (near & (healthy[HEALTHY.index(name)] > 0.8) for name in ("wm", "gm"))
        assert arrived[grey].mean() < 0.8 * arrived[white].mean()


def test_a_threshold_on_flair_finds_much_of_the_tumour_but_not_all(set_of_12):
    dice = []
    for case in names(set_of_12):
        flair = np.asarray(load(set_of_12, case, "t2f").dataobj).astype(float)
        truth = np.asarray(load(set_of_12, case, "seg").dataobj) > 0
        brain = flair > 0
        bright = brain & (flair > flair[brain].mean() + 1.5 * flair[brain].std())
        dice.append(2 * np.sum(bright & truth) / (np.sum(bright) + np.sum(truth)))
    assert 0.5 < np.mean(dice) < 0.9


# Anatomy


def test_tissue_shares_sum_to_one_in_the_brain(scans):
    for _case, images, _, shares in scans:
        assert shares.min() > -1e-5
        assert np.allclose(shares.sum(0)[images[T1] > 0], 1, atol=1e-4)


def test_mass_effect_moves_the_ventricles_and_leaves_the_skull(scans):
    moved = 0
    for case, *_ in scans:
        points = to_template(case.head, centred_points(lps_affine(SIZE), (SIZE,) * 3))
        pushed = push_back(case.tumour.lesions, points)
        before, after = (tissues(case.head, p, VOXEL) for p in (points, pushed))
        row = HEALTHY.index("ventricle")
        moved += np.abs(after[row] - before[row]).sum() > 0.03 * before[row].sum()
        outside = inside_brain(points) <= 0
        assert np.array_equal(points[:, outside], pushed[:, outside])
    assert moved >= 2


@given(st.integers(0, 40), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_tissue_is_squeezed_but_never_folded(index, where):
    """Along any ray from a lesion, what was nearer stays nearer."""
    lesion = make_case(1, index % 3).tumour.lesions[0]
    direction = np.random.default_rng(where).normal(size=3)
    direction = (direction / np.linalg.norm(direction)).astype(np.float32)
    steps = np.arange(0.5, 3 * lesion.radius, 0.5, dtype=np.float32)
    ray = lesion.centre[:, None] + direction[:, None] * steps
    ray = ray[:, inside_brain(ray) > 14]  # where the skull does not damp the movement
    if ray.shape[1] > 1:
        came_from = direction @ (push_back((lesion,), ray) - lesion.centre[:, None])
        assert np.all(np.diff(came_from) > 0)


def test_a_finer_grid_shows_the_same_lesion():
    case = make_case(5, 1)
    volumes = [(make_volume(case, n).labels > 0).sum() * (FIELD_MM / n) ** 3 for n in (40, 64)]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.15)


def test_without_lesions_there_are_no_labels():
    case = make_case(0, 0)
    points = to_template(case.head, centred_points(lps_affine(32), (32,) * 3))
    shares, labels = paint(case.head, HEALTHY_STATE, points, FIELD_MM / 32)
    assert not labels.any() and not shares[len(HEALTHY) :].any()


# Slices


def test_class_folders_hold_grey_pictures_only(pictures):
    classes = {f"{d} {c}" for d in ("Glioblastoma", "Astrocitoma") for c in ("T1", "T1C+", "T2")}
    assert set(names(pictures)) == classes | {"_NORMAL T1", "_NORMAL T2"}
    for name in names(pictures):
        found = sorted((pictures / name).iterdir())
        assert found
        for path in found:
            with Image.open(path) as picture:
                assert (picture.format, picture.mode) == ("JPEG", "L")
                assert min(picture.size) == 2 * SIZE
    assert [p.name for p in pictures.iterdir() if p.is_file()] == ["README.txt"]


def test_slices_show_skull_and_air(pictures):
    """Air, then a bright scalp, then a dark skull: what skull-stripped volumes do not have."""
    for path in (pictures / "_NORMAL T1").iterdir():
        row = np.asarray(Image.open(path)).astype(float)
        row = row[row.shape[0] // 2]
        scalp = int(np.argmax(row[: len(row) // 3]))
        assert row[:3].mean() < 40 < 120 < row[scalp]
        assert row[scalp : scalp + 10].min() < 0.4 * row[scalp]


def test_normal_pictures_are_not_given_away_by_their_height(pictures):
    def heights(group: str) -> list[int]:
        return [int(p.stem.split("_")[1]) for p in pictures.glob(f"{group} T1/*.jpg")]

    ill, normal = heights("Glioblastoma") + heights("Astrocitoma"), heights("_NORMAL")
    assert min(ill) <= min(normal) and max(normal) <= max(ill)
    assert abs(np.mean(ill) - np.mean(normal)) < 1  # planes, 4 mm apart


def test_normal_pictures_show_the_head_without_its_tumour(pictures):
    def blocks(path: Path) -> np.ndarray:
        """Means over 8 x 8 pixels, in which noise all but vanishes."""
        pixels = np.asarray(Image.open(path)).astype(float)
        rows, columns = (n // 8 * 8 for n in pixels.shape)
        return pixels[:rows, :columns].reshape(rows // 8, 8, columns // 8, 8).mean((1, 3))

    compared = 0
    for normal in (pictures / "_NORMAL T2").iterdir():
        for ill in pictures.glob(f"[GA]* T2/{normal.name}"):
            compared += 1
            assert np.abs(blocks(normal) - blocks(ill)).max() > 25
    assert compared


def test_slices_are_the_same_bytes_again(pictures, tmp_path):
    phantom(str(tmp_path / "again"), cases=1, size=SIZE, seed=3, slices=True)
    first = files(pictures)
    again = {n: data for n, data in files(tmp_path / "again").items() if n != "README.txt"}
    assert again and all(first[name] == data for name, data in again.items())


# Refusals


BAD = {"cases": 0}, {"cases": "many"}, {"size": 8}, {"size": 1000}, {"seed": -1}, {"slices": "T1"}


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_bad_numbers_are_one_line_and_leave_nothing(bad, tmp_path):
    with pytest.raises(AutoconfError, match=next(iter(bad))) as caught:
        phantom(str(tmp_path / "out"), **bad)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("mine", "is not empty"),
        ("mine/thesis.txt", "is a file"),
        ("mine/thesis.txt/x", "cannot write"),
    ],
)
def test_a_full_folder_or_a_file_is_left_alone(out, why, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(AutoconfError, match=out) as caught:
        phantom(str(tmp_path / out), cases=1, size=32)
    assert why in str(caught.value) and "\n" not in str(caught.value)
    assert files(tmp_path) == {"mine/thesis.txt": b"years of work"}


def test_an_empty_folder_is_used(tmp_path):
    phantom(str(tmp_path), cases=1, size=32)
    assert names(tmp_path) == ["BraTS-GLI-00000-000"]


def test_a_leftover_partial_folder_is_named_not_removed(tmp_path):
    (tmp_path / "out.partial").mkdir()
    with pytest.raises(AutoconfError, match="out.partial"):
        phantom(str(tmp_path / "out"), cases=1, size=32)
    assert names(tmp_path) == ["out.partial"]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(package, "nifti_bytes", full)
    with pytest.raises(AutoconfError, match="No space left"):
        phantom(str(tmp_path / "out"), cases=1, size=32)
    assert list(tmp_path.iterdir()) == []
