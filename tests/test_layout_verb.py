"""`autoconf layout`: types, grids and label values that differ from one kind of file to the next."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers_volumes import plain_affine, store, tumour
from test_layouts import decathlon, four

from autoconf.errors import AutoconfError
from autoconf.layout import layout


def data_of_four_channels(root: Path) -> Path:
    root.mkdir()
    decathlon(root)
    return root


def test_channels_of_long_integers_are_written_as_floats(tmp_path: Path) -> None:
    data = data_of_four_channels(tmp_path / "data")
    long = nibabel.Nifti1Image(four().astype(np.int64), plain_affine(), dtype=np.int64)
    nibabel.save(long, data / "imagesTr" / "BRATS_001.nii.gz")
    layout(str(data), str(tmp_path / "store"))
    found = nibabel.load(tmp_path / "store" / "BRATS_001_flair.nii.gz")
    assert found.get_data_dtype() == np.float32
    assert np.array_equal(np.asanyarray(found.dataobj), four()[..., 0])  # the list calls the first channel FLAIR


def test_a_mask_on_another_grid_than_its_channels_is_refused(tmp_path: Path) -> None:
    data = data_of_four_channels(tmp_path / "data")
    moved = plain_affine()
    moved[2, 3] = 9
    store(tumour((1, 2, 3)), data / "labelsTr" / "BRATS_002.nii.gz", moved)
    with pytest.raises(AutoconfError, match="labelsTr/BRATS_002.nii.gz: has another affine"):
        layout(str(data), str(tmp_path / "store"), labels=True)
    assert not (tmp_path / "store").exists()


def arrays(root: Path, values: tuple[int, ...]) -> Path:
    root.mkdir()
    for number in (0, 1):
        np.save(root / f"image_{number}.npy", four().astype(np.float32))
        np.save(root / f"mask_{number}.npy", tumour(values))
    return root


def test_masks_that_must_be_converted_say_too_what_their_values_mean(tmp_path: Path) -> None:
    layout(str(arrays(tmp_path / "data", (1, 2, 3))), str(tmp_path / "store"), labels=True)
    labels = sorted((tmp_path / "store" / "labels" / "final").iterdir())
    assert len(labels) == 2
    for path in labels:
        assert np.array_equal(np.asanyarray(nibabel.load(path).dataobj), tumour() > 0)
    assert sorted(path.name for path in (tmp_path / "store").iterdir() if path.is_dir()) == ["labels", "modalities"]


def test_values_of_no_scheme_are_refused_with_the_flag_of_this_verb(tmp_path: Path) -> None:
    data = str(arrays(tmp_path / "data", (7, 8)))
    with pytest.raises(AutoconfError, match=r"Say what they mean: --scheme brats"):
        layout(data, str(tmp_path / "store"), labels=True)
    with pytest.raises(AutoconfError, match="--scheme mine: no such scheme"):
        layout(data, str(tmp_path / "store"), labels=True, scheme="mine")
