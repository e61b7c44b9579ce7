"""Bytes changed at random: whoever reads them gives numbers, or its own error in one line; nothing else, and no memory.

The kinds of bad input that are known have tests of their own (test_bad_inputs.py). These look for further ones.
"""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel
import numpy as np
import pytest
from bad.ends import bounded
from helpers_bundles import UNETR3D, scripts
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser

from autoconf.data.volumes import read_grid, read_volume
from autoconf.errors import AutoconfError
from autoconf.score.pairs import find_pairs

nifti = scripts("unetr3d", "nifti")
volume_items, grids = scripts("unetr3d", "datalist"), scripts("unetr3d", "grids")
image_items = scripts("pseudo2d", "images")
checks = scripts("unetr3d", "checks")
PROMISE = pytest.mark.promise(
    "Data",
    "Headers, gzip bytes, datalists and override files changed at random: an answer, or one line",
)
MOST = 200 << 20  # bytes in memory, of files of a few hundred bytes
SHAPE = (5, 4, 3)
VOXELS = np.arange(1, 61, dtype=np.int16).reshape(SHAPE)
SOUND = nibabel.Nifti1Image(VOXELS, np.diag([1.0, 2, 3, 1])).to_bytes()
SOUND_2 = nibabel.Nifti2Image(VOXELS, np.diag([1.0, 2, 3, 1])).to_bytes()

# Fields of a NIfTI-1 header, by place: dim, datatype, bitpix, pixdim, vox_offset, scl_slope and scl_inter, the two
# codes, the quaternion and its offset, the sform. What is worst for a number of each kind.
SHORTS = [0, *range(40, 56, 2), 70, 72, 252, 254]
FLOATS = [*range(76, 120, 4), *range(256, 328, 4)]
worst_short = st.sampled_from([0, 1, -1, 2, 4, 8, 16, 64, 128, 512, 768, 1024, 1536, 2304, 32767, -32768])
worst_float = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, -1e30, 3e38, np.inf, -np.inf, np.nan, 352.5, 2.0**31])
fields = st.one_of(
    st.tuples(st.sampled_from(SHORTS), worst_short.map(lambda n: np.int16(n).tobytes())),
    st.tuples(st.sampled_from(FLOATS), worst_float.map(lambda x: np.float32(x).tobytes())),
    st.tuples(st.integers(0, 360), st.binary(min_size=1, max_size=8)),
)
fields_2 = st.one_of(
    st.tuples(st.sampled_from(range(16, 80, 8)), st.integers(-(2**63), 2**63 - 1).map(lambda n: np.int64(n).tobytes())),
    st.tuples(st.sampled_from([4, 12, 14, 168]), st.binary(min_size=1, max_size=8)),
)


def changed(content: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    """The content with some of its bytes overwritten."""
    made = bytearray(content)
    for place, new in changes:
        made[place : place + len(new)] = new
    return bytes(made)


def assert_read_or_refused(path: Path) -> None:
    """By every reader of both programs; where two read it, they read the same."""
    found: list[np.ndarray] = []
    with bounded() as memory:
        for read in (lambda: read_volume(str(path)).data, lambda: nifti.voxels(path, nifti.read_nifti(path))):
            try:
                found.append(read())
            except (AutoconfError, nifti.Unreadable) as error:
                assert path.name in str(error) and "\n" not in str(error) and str(error)[-1] in ".?"
        for look in (read_grid, grids._grid):
            try:
                look(str(path))
            except (AutoconfError, SystemExit) as error:
                assert path.name in str(error) and "\n" not in str(error) and str(error)[-1] in ".?"
    assert memory() < MOST
    for values in found:
        assert values.size and np.isfinite(values.astype(np.float64)).all()
    if len(found) == 2 and found[0].ndim == found[1].ndim:
        assert found[0].shape == found[1].shape and np.allclose(found[0].astype("f4"), found[1].astype("f4"))


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bytes") / "a.nii.gz"


@settings(max_examples=250)
@given(st.lists(fields, min_size=1, max_size=4), st.booleans())
@PROMISE
def test_headers_of_nifti_1(file, changes, zipped) -> None:
    content = changed(SOUND, changes)
    path = file if zipped else file.with_suffix("")
    path.write_bytes(gzip.compress(content, 1) if zipped else content)
    assert_read_or_refused(path)


@settings(max_examples=100)
@given(st.lists(fields_2, min_size=1, max_size=3))
@PROMISE
def test_headers_of_nifti_2(file, changes) -> None:
    file.write_bytes(gzip.compress(changed(SOUND_2, changes), 1))
    assert_read_or_refused(file)


PACKED = gzip.compress(SOUND, 6, mtime=0)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, len(PACKED) - 1), st.binary(min_size=1, max_size=3)), max_size=3),
    st.integers(0, len(PACKED)),
    st.binary(max_size=20),
)
@PROMISE
def test_bytes_of_gzip(file, changes, kept, more) -> None:
    file.write_bytes(changed(PACKED, changes)[:kept] + more)
    assert_read_or_refused(file)


@settings(max_examples=50)
@given(st.binary(max_size=700))
@PROMISE
def test_any_bytes(file, content) -> None:
    for path in (file, file.with_suffix("")):
        path.write_bytes(content)
        assert_read_or_refused(path)


# --- lists and override files -------------------------------------------------------------------

VOLUMES = {
    "kind": "volumes",
    "dataset_dir": ".",
    "modalities": ["t1", "t1c", "t2", "flair"],
    "regions": {"wt": [1, 2], "tc": [1]},
    "training": [{"case": "a", "image": ["a1", "a2", None, "a4"], "label": "a5", "fold": 0}],
    "testing": [{"case": "b", "image": "b1", "label": "b5", "regions": {"wt": [1]}}],
}
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud800")
anything = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))


def replaced(content: Any, path: list[int], value: Any) -> Any:
    """The content with something else at one place: each number chooses a way down."""
    if not path or not isinstance(content, (list, dict)) or not content:
        return value
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    key = keys[path[0] % len(keys)]
    made = content.copy()
    made[key] = replaced(content[key], path[1:], value)
    return made


def assert_one_line(error: BaseException) -> None:
    """A sentence, or a command at its end."""
    assert "\n" not in str(error) and (str(error)[-1] in ".?" or "Make it with: " in str(error))


@settings(max_examples=100)
@given(st.lists(st.integers(0, 9), max_size=4), anything)
@PROMISE
def test_a_datalist(file, path, value) -> None:
    """None of its files is there, so that a list that is understood is refused too."""
    listed = file.with_name("list.json")
    listed.write_text(json.dumps(replaced(VOLUMES, path, value)))
    (file.parent / "pred").mkdir(exist_ok=True)
    for read in (volume_items.training_items, volume_items.inference_items, image_items.inference_items):
        with pytest.raises(SystemExit) as refused:
            read(str(listed))
        assert_one_line(refused.value)
    with pytest.raises(AutoconfError) as error:
        find_pairs(str(file.parent / "pred"), str(listed), "testing")
    assert_one_line(error.value)


PLAN = (
    "patch_size: [64, 80, 64]\nlearning_rate: 3.0e-4\nnetwork_def::dropout_rate: 0.1\ntarget_spacing: [2.0, 2.0, 2.0]\n"
)
pieces = st.sampled_from(
    [*"[]{}|%@$#'\"\n\t\x00\x85", ": ", "- ", "? ", "<<: ", "::", "&a ", "*a", "!!python/name:os.system "]
    + ["1: 2\n", "null: 1\n", "2020-99-99", "0x", "1_0", "[[[[" * 500, "9" * 5000]
)


class Remembering(ConfigParser):
    """The bundle's own configs do not change meanwhile, and take a tenth of a second to read."""

    load_config_file = staticmethod(functools.cache(ConfigParser.load_config_file))
    load_config_files = staticmethod(lambda files: Remembering.load_config_file(files[0]))


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, len(PLAN)), pieces | st.text(max_size=3)), max_size=4), st.booleans())
@PROMISE
def test_an_override_file(file, insertions, latin) -> None:
    text = PLAN
    for place, piece in insertions:
        text = text[:place] + piece + text[place:]
    plan = file.with_name("plan.yaml")
    plan.write_bytes(text.encode("latin-1" if latin else "utf-8", "replace"))
    config = f"['{UNETR3D / 'configs' / 'train.yaml'}','{plan}']"
    try:
        with mock.patch.object(checks, "ConfigParser", Remembering):
            checks.check_keys(["monai.bundle", "run", "training", "--config_file", config])
    except SystemExit as refused:
        assert "\n" not in str(refused.code) and str(refused.code)[-1] in ".?"
