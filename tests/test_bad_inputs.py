"""Whatever is wrong with an input: the right answer, or one line that says what is wrong and what to do.

The kinds of bad input are the table in bad/; tests/golden/bad_inputs.md shows them, and what happens.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from bad import headers
from bad.row import CASE, array, every
from bad.sound import sound
from bad.table import HEAD, PAGE, ROWS, SECTIONS, line, plain
from helpers_bundles import UNETR3D, assert_refused, run_bundle
from helpers_volumes import autoconf

PROMISE = pytest.mark.promise(
    "Data",
    "Each kind of bad input (bad_inputs.md) gets the right answer, or one line that names file and "
    "cure, within 400 MB and 30 s",
)


@pytest.fixture(scope="module")
def page() -> list[str]:
    return [plain(one) for one in PAGE.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("row", "ways"), ROWS, ids=[ascii(row.given) for row, _ in ROWS])
@PROMISE
def test_it_ends_as_is_promised_and_as_the_page_says(row, ways, page) -> None:
    assert plain(line(row, ways)) in page, "run: python -m bad, in tests/"


@PROMISE
def test_the_page_has_a_line_for_every_row_and_no_other(page, record_property) -> None:
    lines = [one for one in page if one.startswith("| ") and not one.startswith(("| given", "| ---"))]
    assert len(lines) == len(ROWS) == len({row.given for row, _ in ROWS}) >= 60
    record_property("figure", f"{len(ROWS)} kinds")
    assert page[: len(HEAD.splitlines())] == [plain(one) for one in HEAD.splitlines()]
    assert [one for one in page if one.startswith("## ")] == [f"## {title}" for title in SECTIONS]


def test_a_process_ends_with_that_line_and_no_library_adds_to_it(tmp_path) -> None:
    """Nor does nibabel, which repairs the one header, and the other is refused where a thread reads the scan."""
    shutil.copytree(sound() / "data", tmp_path / "data")
    path = tmp_path / "data" / CASE / f"{CASE}-t2w.nii.gz"
    every(headers.qform_alone(-5.625, -5.625, -5.625))(path.parent)
    array(lambda voxels: np.where(voxels > 700, np.nan, voxels))(path)
    done = autoconf("inspect", tmp_path / "data", "--out", tmp_path / "work", "--strict")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"autoconf: {path}: holds NaN") and done.stderr.count("\n") == 1
    assert "--strict" in done.stderr and not (tmp_path / "work").exists()
    words = ("--dataset_dir", path.parent, "--output_dir", tmp_path / "masks", "--device", "cpu")
    done = run_bundle(UNETR3D, "inferring", ["inference.yaml"], *words, expect=1)
    assert_refused(done, "unetr3d", str(path), "holds NaN", "export it again")
    assert "pixdim" not in done.stderr and "Warning" not in done.stderr and not (tmp_path / "masks").exists()
