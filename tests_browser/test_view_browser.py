"""Pages of masks without a truth, in a real browser."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from test_report_browser import CONTRAST, DESK, PHONE, chrome, one, show

from autoconf.phantom import phantom
from autoconf.view import view

assert chrome  # a fixture


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """Two phantom heads with their true masks; the second one's holds the whole tumour alone."""
    home = tmp_path_factory.mktemp("view")
    phantom(str(home / "data"), cases=2, size=48)
    (home / "masks").mkdir()
    for number, path in enumerate(sorted((home / "data").rglob("*-seg.nii.gz"))):
        image = nibabel.load(path)
        mask = np.asarray(image.dataobj).astype(np.uint8)
        mask = (mask > 0).astype(np.uint8) if number else mask
        nibabel.save(nibabel.Nifti1Image(mask, image.affine), home / "masks" / f"{path.parent.name}.nii.gz")
    view(str(home / "masks"), str(home / "data"), str(home / "out"))
    return home / "out"


def test_the_list_leads_to_a_case_and_back_without_an_error_or_a_network(chrome: webdriver.Chrome, pages: Path) -> None:
    chrome.get_log("performance")
    chrome.get_log("browser")
    show(chrome, pages / "index.html")
    one(chrome, "tbody a").click()
    assert one(chrome, "h1").text.startswith("Case BraTS-GLI-0000")
    one(chrome, "a[href='index.html']").click()
    assert one(chrome, ".headline").text.startswith("2 masks")
    assert chrome.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert len(asked) >= 2 and all(url.startswith((pages.as_uri(), "data:")) for url in asked)


def test_slider_region_and_checkbox_change_what_is_drawn(chrome: webdriver.Chrome, pages: Path) -> None:
    show(chrome, sorted(pages.glob("Bra*.html"))[0])
    path, said = one(chrome, ".plane path.pred:not(.halo)"), one(chrome, ".plane output")
    before, words = path.get_attribute("d"), said.text
    assert before and "tumour" in words and "truth" not in words
    one(chrome, ".plane input").send_keys(Keys.ARROW_RIGHT)
    assert path.get_attribute("d") != before and said.text != words
    moved = path.get_attribute("d")
    one(chrome, "#regions input[value='et']").click()
    assert path.get_attribute("d") != moved
    one(chrome, "#show-pred").click()
    assert not path.is_displayed()


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everything_fits_and_can_be_read(
    chrome: webdriver.Chrome, pages: Path, size: tuple[int, int], theme: str
) -> None:
    for page in sorted(pages.glob("*.html")):
        show(chrome, page, theme, size)
        wide = f"""return Array.from(document.querySelectorAll('body *')).filter((e) => !e.closest('.box, .skip, pre')
          && e.getBoundingClientRect().right > {size[0] + 1}).map((e) => e.outerHTML.slice(0, 80))"""
        assert chrome.execute_script(wide) == []
        assert [text for ratio, text in chrome.execute_script(CONTRAST) if ratio < 4.5] == []
