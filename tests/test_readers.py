"""Reading scans: whatever MONAI reads, faster, and nothing that is damaged."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from helpers_bundles import cut_short, in_two_gzip_members, scripts
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.transforms import Compose, CropForegroundd, LoadImaged

readers = scripts("unetr3d", "readers")
nifti = scripts("unetr3d", "nifti")
SHAPE = (7, 5, 4)
KINDS = ["int16", "uint8", "uint16", "int32", "float32", "float64", "int64", ">i2", ">f4"]


def affine() -> np.ndarray:
    found = np.array([[0, -1.1, 0.1, 5], [0.9, 0, 0, -3], [0, 0.2, 3, 1], [0, 0, 0, 1.0]])
    return found


def values(seed: int, kind: str = "int16", channels: int = 0) -> np.ndarray:
    shape = (*SHAPE, channels) if channels else SHAPE
    return np.random.default_rng(seed).integers(0, 200, shape).astype(kind)


def save(path: Path, array: np.ndarray, kind=nibabel.Nifti1Image) -> Path:
    image = kind(array, affine(), dtype=array.dtype)
    if array.dtype.byteorder == ">":
        image = kind(array, affine(), image.header.as_byteswapped(">"))
    nibabel.save(image, path)
    return path


def load(paths) -> torch.Tensor:
    return readers.LoadNiftid("image")({"image": paths})["image"]


def monais(paths) -> torch.Tensor:
    return LoadImaged("image", ensure_channel_first=True)({"image": paths})["image"]


def assert_as_monai(paths) -> None:
    wanted, found = monais(paths), load(paths)
    assert found.shape == wanted.shape and torch.equal(found.float().as_tensor(), wanted.as_tensor())
    assert torch.equal(found.affine, wanted.affine)
    for key in ("original_affine", "spatial_shape", "filename_or_obj"):
        assert str(found.meta[key]) == str(wanted.meta[key]), key


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_type_is_read_as_monai_reads_it(kind, ending, tmp_path):
    assert_as_monai(save(tmp_path / f"a{ending}", values(0, kind)))


def test_four_files_become_four_channels(tmp_path):
    assert_as_monai([save(tmp_path / f"{i}.nii.gz", values(i, kind)) for i, kind in enumerate(KINDS[:4])])


def test_one_file_may_hold_all_modalities(tmp_path):
    assert_as_monai(save(tmp_path / "a.nii.gz", values(0, channels=4)))
    assert_as_monai([save(tmp_path / "a.nii.gz", values(0, channels=4))])


def test_nifti_2_and_scaled_integers(tmp_path):
    assert_as_monai(save(tmp_path / "two.nii.gz", values(0), nibabel.Nifti2Image))
    image = nibabel.Nifti1Image(values(0), affine())
    image.header.set_slope_inter(0.5, -3)
    nibabel.save(image, tmp_path / "scaled.nii.gz")
    assert load(tmp_path / "scaled.nii.gz").dtype == torch.float32
    assert_as_monai(tmp_path / "scaled.nii.gz")


def test_integers_stay_integers(tmp_path):
    for kind, kept in (("int16", torch.int16), ("uint8", torch.uint8), ("uint16", torch.int32)):
        assert load(save(tmp_path / f"{kind}.nii", values(0, kind))).dtype == kept


def test_several_gzips_in_one_file_and_without_isal(tmp_path, monkeypatch):
    in_two_gzip_members(save(tmp_path / "a.nii.gz", values(0)))
    assert_as_monai(tmp_path / "a.nii.gz")
    monkeypatch.setattr(nifti, "open_gzip", gzip.GzipFile)
    assert_as_monai(tmp_path / "a.nii.gz")


def test_what_is_damaged_is_named_in_one_line_without_isal_too(tmp_path, monkeypatch):
    monkeypatch.setattr(nifti, "open_gzip", gzip.GzipFile)
    short, plain = save(tmp_path / "short.nii.gz", values(0)), save(tmp_path / "plain.nii", values(0))
    cut_short(short, 0.7)
    cut_short(plain, 0.9)
    (tmp_path / "text.nii").write_text("no image" * 100)
    flipped = save(tmp_path / "flipped.nii.gz", values(0))
    content = bytearray(gzip.compress(gzip.decompress(flipped.read_bytes()), 0))  # stored: damage keeps its length
    content[len(content) // 2] ^= 255
    flipped.write_bytes(content)
    for path in (short, plain, tmp_path / "text.nii", flipped, tmp_path / "absent.nii"):
        with pytest.raises(readers.Unreadable, match=path.name):
            readers.read_nifti(path)
        with pytest.raises(SystemExit, match=path.name) as refused:
            load([path])
        assert "\n" not in str(refused.value)


def test_what_may_not_be_read_is_not_called_damaged(tmp_path):
    (tmp_path / "a.nii").mkdir()
    with pytest.raises(readers.Unreadable, match="a.nii cannot be read .Is a directory"):
        readers.read_nifti(tmp_path / "a.nii")


@pytest.mark.parametrize("other", [(7, 3, 4), (7, 1, 4), (5, 5, 4), (7, 5)])
def test_contrasts_of_two_sizes_are_refused(other, tmp_path):
    """Not filled up with whatever lay in memory, and not repeated."""
    paths = [save(tmp_path / "a.nii", values(0)), save(tmp_path / "b.nii", np.ones(other, np.int16))]
    with pytest.raises(SystemExit, match="b.nii has shape .*a.nii") as refused:
        load(paths)
    assert "\n" not in str(refused.value)


def test_threads_do_not_mix_up_their_files(tmp_path):
    scans = [[save(tmp_path / f"{n}_{i}.nii.gz", values(4 * n + i)) for i in range(4)] for n in range(6)]
    wanted = [monais(paths) for paths in scans]
    reader = readers.LoadNiftid("image")
    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            found = list(pool.map(lambda paths: reader({"image": paths})["image"], scans))
            assert all(torch.equal(a.float().as_tensor(), b.as_tensor()) for a, b in zip(found, wanted, strict=True))


def cropped_by_monai(item: dict, keys: list[str]) -> dict:
    """By the transforms that `LoadNiftid` replaces."""
    way = Compose(
        [
            LoadImaged(keys, ensure_channel_first=True),
            CropForegroundd(keys, source_key="image", select_fn=lambda x: x != 0, allow_smaller=True),
        ]
    )
    return way(item)


@pytest.mark.parametrize("kind", ["int16", "uint8", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_scan_is_cropped_to_its_head_and_comes_back(kind, channels, tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for i in range(channels):
        array = np.zeros((9, 8, 7), kind)
        array[2 + i, 1:6, 3] = rng.integers(1, 200, 5)
        paths.append(save(tmp_path / f"{i}.nii.gz", array))
    mask = save(tmp_path / "mask.nii.gz", rng.integers(0, 4, (9, 8, 7)).astype("uint8"))
    item = {"image": paths, "label": mask}
    crop = readers.LoadNiftid(["image", "label"], crop_to="image")
    found, wanted = crop(item), cropped_by_monai(item, ["image", "label"])
    before = readers.LoadNiftid(["image", "label"])(item)
    for key in item:
        assert torch.equal(found[key].float().as_tensor(), wanted[key].as_tensor())
        assert torch.allclose(found[key].affine, wanted[key].affine)
    back = crop.inverse(found)
    assert torch.equal(back["image"].as_tensor(), before["image"].as_tensor())
    assert back["label"].shape == before["label"].shape and torch.equal(back["label"].affine, before["label"].affine)
    inside = back["label"] != 0
    assert torch.equal(back["label"][inside].as_tensor(), before["label"][inside].as_tensor())


def test_an_empty_scan_is_kept_whole(tmp_path):
    paths = [save(tmp_path / f"{i}.nii.gz", np.zeros(SHAPE, kind)) for i, kind in enumerate(("int16", "float32"))]
    assert readers.LoadNiftid("image", crop_to="image")({"image": paths})["image"].shape == (2, *SHAPE)


@given(
    hnp.arrays(np.int16, (3, 3, 4, 2), elements=st.sampled_from([0, 0, 0, 0, 0, 1, -1, 256, -32768]))
    | hnp.arrays(np.float32, (3, 3, 4, 2), elements=st.sampled_from([0.0, 0.0, 0.0, -0.0, 0.5, -2.0, float("nan")]))
)
def test_the_head_is_where_any_contrast_is_not_0(values):
    places = np.nonzero((values != 0).any(axis=0))
    empty = len(places[0]) == 0
    edges = [(0, n) if empty else (min(p), max(p) + 1) for p, n in zip(places, (3, 4, 2), strict=True)]
    wanted = [slice(int(low), int(high)) for low, high in edges]
    assert list(readers.head([np.asfortranarray(channel) for channel in values])) == wanted


def test_a_mask_of_another_size_is_refused(tmp_path):
    item = {
        "image": save(tmp_path / "a.nii", values(0)),
        "label": save(tmp_path / "b.nii", np.ones((7, 5, 3), "uint8")),
    }
    with pytest.raises(SystemExit, match="b.nii has shape .7, 5, 3. but .*a.nii"):
        readers.LoadNiftid(["image", "label"], crop_to="image")(item)


def test_a_picture_is_no_scan(tmp_path):
    with pytest.raises(SystemExit, match="a.nii has 2 axes"):
        load(save(tmp_path / "a.nii", np.ones((7, 5), "int16")))
