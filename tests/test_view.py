"""Pages of masks without a truth: the right mask over the right scan, its numbers, and what cannot be drawn."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers_volumes import (
    SHAPE,
    TUMOUR,
    assert_refused,
    autoconf,
    plain_affine,
    scan,
    store,
    tilted_affine,
    write_case,
)

from autoconf.errors import AutoconfError
from autoconf.pages.planes import outline, stacks
from autoconf.view import view
from autoconf.view.cases import find, read


def mask(*, labels: tuple[int, ...] = (1,), island: bool = False) -> np.ndarray:
    """12 voxels of 3 mm3, and if asked one more elsewhere."""
    values = np.zeros(SHAPE, np.uint8)
    values[TUMOUR] = np.resize(labels, values[TUMOUR].shape)
    values[3, 4, 1] = island
    return values


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Scans a and b, b stored slice-first and tilted; a mask of each."""
    (tmp_path / "masks").mkdir()
    for case, affine in (("a", plain_affine()), ("b", tilted_affine())):
        write_case(tmp_path / "scans", case, affine=affine, with_mask=False)
        store(mask(), tmp_path / "masks" / f"{case}.nii.gz", affine)
    return tmp_path


def draw(home: Path, **more: str) -> None:
    view(str(home / "masks"), str(home / "scans"), str(home / "out"), **more)


def text_of(path: Path) -> str:
    """What a person reads."""
    body = re.sub(r"<(script|style).*?</\1>", "", path.read_text(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def test_each_mask_lies_over_its_scan_however_it_is_stored(home: Path) -> None:
    found, left = find(str(home / "masks"), str(home / "scans"))
    assert [one.case for one in found] == ["a", "b"] and left == []
    for one in found:
        drawn = read(one, "flair").case.scan
        assert np.array_equal(drawn.image, scan(3))
        assert np.array_equal(drawn.masks["wt"][1], mask() > 0)
        assert drawn.spacing == pytest.approx((1, 1, 3))


def test_the_pages_say_what_the_masks_hold(home: Path) -> None:
    store(mask(labels=(1, 2, 3), island=True), home / "masks" / "a.nii.gz")
    draw(home)
    page, index = text_of(home / "out" / "a.html"), text_of(home / "out" / "index.html")
    assert "Whole tumour 0.0 mL" in page and "Objects 2" in page and "Look twice: under 1 mL." in page
    assert "not a medical device" in page.lower() and "not a medical device" in index.lower()
    assert "truth" not in page and "Dice" not in page
    assert "2 masks, 2 of which look odd." in index
    facts = read(find(str(home / "masks"), str(home / "scans"))[0][0], "flair").facts
    assert facts.volumes == pytest.approx({"wt": 13 * 3e-3, "tc": 9 * 3e-3, "et": 4 * 3e-3})
    assert facts.largest == pytest.approx(12 / 13)


def test_a_page_holds_the_outline_of_every_slice(home: Path) -> None:
    draw(home)
    data = re.search(r'id="stacks">(.*?)</script>', (home / "out" / "b.html").read_text(), re.DOTALL)
    planes = json.loads(data[1])
    expected = stacks(read(find(str(home / "masks"), str(home / "scans"))[0][1], "flair").case.scan)
    for plane, stack in zip(planes, expected, strict=True):
        assert plane["lines"]["wt"]["pred"] == [outline(one) for one in stack.masks["wt"][1]]
        assert not any(plane["lines"]["wt"]["truth"]) and plane["judged"] is False
    assert sum(map(bool, planes[0]["lines"]["wt"]["pred"])) == 2  # axial slices of the tumour


@pytest.mark.parametrize("contrast", [0, 1, 2])
def test_another_contrast_is_shown_if_asked_for(home: Path, contrast: int) -> None:
    name = ("t1", "t1c", "t2")[contrast]
    found, _ = find(str(home / "masks"), str(home / "scans"))
    assert np.array_equal(read(found[0], name).case.scan.image, scan(contrast))
    (home / "scans" / "a" / f"a{('_t1', '_t1ce', '_t2')[contrast]}.nii.gz").unlink()
    found, _ = find(str(home / "masks"), str(home / "scans"))
    assert read(found[0], name).case.contrast == "FLAIR"


def test_a_datalist_says_where_the_scans_are_also_in_one_file(home: Path) -> None:
    volume = np.stack([scan(contrast) for contrast in (3, 0, 1, 2)], axis=-1)
    nibabel.save(nibabel.Nifti1Image(volume, plain_affine()), home / "four.nii.gz")
    listed = {
        "kind": "volumes",
        "modalities": ["flair", "t1", "t1c", "t2"],
        "training": [],
        "testing": [{"case": "a", "image": "four.nii.gz"}],
    }
    (home / "datalist.json").write_text(json.dumps(listed))
    found, left = find(str(home / "masks"), str(home / "datalist.json"))
    assert [one.case for one in found] == ["a"] and "b.nii.gz: no scan of that name" in left[0]
    for contrast, name in ((3, "flair"), (1, "t1c")):
        assert np.array_equal(read(found[0], name).case.scan.image, scan(contrast))


def test_what_cannot_be_drawn_is_named_and_the_others_are_drawn(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(mask()[:-1], home / "masks" / "a.nii.gz")
    store(mask(), home / "masks" / "stranger.nii.gz")
    store(mask(), home / "masks" / "b_probability.nii.gz")  # lies beside the mask of b and is none
    draw(home)
    said = capsys.readouterr().out
    assert "stranger.nii.gz: no scan of that name" in said and "left out: a: " in said and "10x12x8" in said
    assert "the pages of 1 mask\n" in said and "probability" not in said
    index = text_of(home / "out" / "index.html")
    assert "Left out: a: " in index and "stranger" in index
    assert not (home / "out" / "a.html").exists() and (home / "out" / "b.html").exists()


def test_names_are_text_and_never_markup(home: Path) -> None:
    name = "a'&<b> #1+"
    write_case(home / "scans", name, with_mask=False)
    store(mask(), home / "masks" / f"{name}.nii.gz")
    draw(home)
    assert "<b>" not in (home / "out" / f"{name}.html").read_text()
    link = re.search(r'href="(a%27[^"]*)"', (home / "out" / "index.html").read_text())[1]
    assert link == "a%27%26%3Cb%3E%20%231%2B.html"


def test_bad_input_is_one_line(home: Path) -> None:
    words, empty = [str(home / "masks"), str(home / "scans")], home / "empty"
    empty.mkdir()
    assert_refused(autoconf("view", *words, "--out", home / "out", "--modality", "pd"), "no such modality", "t1c")
    assert not (home / "out").exists()
    with pytest.raises(AutoconfError, match="no such folder"):
        find(str(home / "nowhere"), words[1])
    with pytest.raises(AutoconfError, match="masks such as a.nii.gz.*no scans"):
        find(words[0], str(empty))
    store(mask(labels=(7,)), home / "masks" / "a.nii.gz")
    with pytest.raises(AutoconfError, match="a.nii.gz: holds the value 7"):
        read(find(*words)[0][0], "flair")
