"""Whatever is wrong with data: the right answer, or one line that names the file and the cure.

The kinds of bad input are tables in bad_*.py; tests/golden/bad_inputs.md shows them, and what happens.
"""

from __future__ import annotations

import shutil

import bad_headers
import numpy as np
import pytest
from bad_inputs import HEAD, KINDS, PAGE, SECTIONS, plain, row
from helpers_bad_inputs import CASE
from helpers_bad_ways import sound
from helpers_bundles import UNETR3D, assert_refused, run_bundle
from helpers_volumes import autoconf

PROMISE = pytest.mark.promise(
    "Data",
    "Each kind of bad input (bad_inputs.md) gets the right answer, or one line that names file and "
    "cure, within 400 MB and 30 s",
)


@pytest.fixture(scope="module")
def page() -> list[str]:
    return [plain(line) for line in PAGE.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: ascii(kind.what))
@PROMISE
def test_it_ends_as_is_promised_and_as_the_page_says(kind, page) -> None:
    assert plain(row(kind)) in page, "run: python tests/bad_inputs.py"


@PROMISE
def test_the_page_has_a_row_for_every_kind_and_no_other(page, record_property) -> None:
    rows = [line for line in page if line.startswith("| ") and not line.startswith(("| given", "| ---"))]
    assert len(rows) == len(KINDS) == len({kind.what for kind in KINDS}) >= 60
    record_property("figure", f"{len(KINDS)} kinds")
    assert page[: len(HEAD.splitlines())] == [plain(line) for line in HEAD.splitlines()]
    assert [line for line in page if line.startswith("## ")] == [f"## {title}" for title in SECTIONS]


def test_a_process_ends_with_that_line_and_no_library_adds_to_it(tmp_path) -> None:
    """Nor does nibabel, which repairs the one header, and the other is refused where a thread reads the scan."""
    shutil.copytree(sound() / "data", tmp_path / "data")
    path = tmp_path / "data" / CASE / f"{CASE}-t2w.nii.gz"
    bad_headers.every(bad_headers.qform_alone(-5.625, -5.625, -5.625))(path.parent)
    bad_headers.array(lambda voxels: np.where(voxels > 700, np.nan, voxels))(path)
    done = autoconf("inspect", tmp_path / "data", "--out", tmp_path / "work", "--strict")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"autoconf: {path}: holds NaN") and done.stderr.count("\n") == 1
    words = ("--dataset_dir", path.parent, "--output_dir", tmp_path / "masks", "--device", "cpu")
    done = run_bundle(UNETR3D, "inferring", ["inference.yaml"], *words, expect=1)
    assert_refused(done, "unetr3d", str(path), "holds NaN", "export it again")
    assert "pixdim" not in done.stderr and "Warning" not in done.stderr and not (tmp_path / "masks").exists()
