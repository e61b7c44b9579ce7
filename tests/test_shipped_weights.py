"""The shipped weights: what is in the files, and `run inferring` as the README has it, on one real scan."""

from __future__ import annotations

import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from helpers_bundles import BUNDLES, NAMES, UNETR3D, read_yaml, run_bundle
from helpers_volumes import real_data
from monai.bundle import ConfigParser

from autoconf.score.metrics import overlap

SECONDS = 60  # a scan, from the command to its mask
MEGABYTES = {"unetr3d": 40, "pseudo2d": 8}


@pytest.mark.parametrize("bundle", NAMES)
def test_the_shipped_file_holds_plain_tensors_that_the_network_takes(bundle):
    path = BUNDLES / bundle / "models" / "model.pt"
    assert path.stat().st_size <= MEGABYTES[bundle] * 1e6
    weights = torch.load(path, map_location="cpu", weights_only=True)
    assert all(type(weight) is torch.Tensor and weight.isfinite().all() for weight in weights.values())
    inference = ConfigParser(read_yaml(BUNDLES / bundle / "configs" / "inference.yaml"))
    inference.get_parsed_content("network_def").load_state_dict(weights)  # all of them, and no others


@pytest.mark.long
@pytest.mark.skipif(not real_data("brats"), reason="no real cases: set SEG_DATA")
def test_a_real_scan_takes_less_than_a_minute_and_gives_the_same_mask_twice(tmp_path):
    case = Path(real_data("brats")) / "brats21" / "BraTS2021_00006"
    files = []
    for name in ("first", "second"):
        began = time.monotonic()
        run_bundle(
            *(UNETR3D, "inferring", ["inference.yaml"], "--dataset_dir", case),
            *("--output_dir", tmp_path / name, "--device", "cpu"),
        )
        assert time.monotonic() - began < SECONDS
        files += (tmp_path / name).glob("*.nii.gz")
    first, second = (file.read_bytes() for file in files)
    assert first == second
    mask, truth = (nibabel.load(path) for path in (files[0], case / "BraTS2021_00006_seg.nii.gz"))
    assert mask.shape == truth.shape and np.array_equal(mask.affine, truth.affine)
    found = overlap(np.asarray(mask.dataobj) > 0, np.asarray(truth.dataobj) > 0)
    assert found.dice > 0.95  # of a scan that it was trained on: the right weights on the right grid, no more
