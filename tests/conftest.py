"""Data that several test files share: made once, never changed (copy it first)."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers_bundles import PSEUDO2D, TINY, run_bundle, write_yaml
from hypothesis import HealthCheck, settings

from autoconf.inspect import inspect
from autoconf.phantom import phantom

# A property is no less true on a busy machine; and a test that passed yesterday draws the same examples today.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("unhurried")

if "PYTEST_XDIST_WORKER" in os.environ:  # a process for each core: more threads would wait for each other
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the programs that tests start

# What tests find out about this machine's bfloat16 is shared by them, and is nothing that a user's runs should rely on.
if "GLIOBUNDLE_CACHE" not in os.environ:
    os.environ["GLIOBUNDLE_CACHE"] = tempfile.mkdtemp(prefix="verdicts-")
    atexit.register(shutil.rmtree, os.environ["GLIOBUNDLE_CACHE"], ignore_errors=True)


@dataclass(frozen=True)
class Data:
    """A data set and what `inspect` wrote about it."""

    folder: Path
    work: Path

    @property
    def datalist(self) -> Path:
        return self.work / "datalist.json"


@pytest.fixture(scope="session")
def volumes(tmp_path_factory) -> Data:
    """Eight BraTS-like cases of 32 x 32 x 32 voxels."""
    home = tmp_path_factory.mktemp("volumes")
    phantom(str(home / "data"), cases=8, size=32)
    inspect(str(home / "data"), str(home / "work"))
    return Data(home / "data", home / "work")


@pytest.fixture(scope="session")
def slices(tmp_path_factory) -> Data:
    """About fifty 2D images in five class folders, 77 x 64 pixels; one name is there twice, as .jpg and as .jpeg."""
    home = tmp_path_factory.mktemp("slices")
    phantom(str(home / "data"), cases=3, size=32, slices=True)
    first, second, *_ = sorted((home / "data" / "_NORMAL T1").glob("*.jpg"))
    second.rename(first.with_suffix(".jpeg"))
    inspect(str(home / "data"), str(home / "work"))
    return Data(home / "data", home / "work")


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """An override file, as a plan is, for those volumes: a tiny UNETR, one 32-voxel patch and one short epoch."""
    return write_yaml(
        tmp_path_factory.mktemp("small") / "small.yaml",
        {
            "target_spacing": [5.0, 5.0, 5.0],
            "patch_size": [32, 32, 32],
            "batch_size": 2,
            "crops_per_case": 1,
            "max_epochs": 1,
            "num_workers": 0,
            "device": "cpu",
            **TINY,
        },
    )


@pytest.fixture(scope="session")
def pseudo_labelled(slices, tmp_path_factory) -> Path:
    """What `pseudo_labelling` wrote about the images."""
    out = tmp_path_factory.mktemp("pseudo_labelled")
    run_bundle(
        *(PSEUDO2D, "pseudo_labelling", ["pseudo_label.yaml"], "--dataset_dir", slices.folder),
        *("--output_dir", out, "--image_size", 64),
    )
    return out
