"""The report in a real browser: headless Chromium opens a real report, as a file, without a network.

`make test-browser` installs what this needs and runs it; plain `pytest` does not collect it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from helpers_report import CHECKS, RECORD, write_run
from helpers_volumes import real_data
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from autoconf.inspect import inspect
from autoconf.phantom import phantom
from autoconf.report import report
from autoconf.score import score

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PHONE, DESK = (360, 740), (1280, 900)
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(20, 23, 26)"
LONG = "a_case_with_a_name_that_is_longer_than_any_phone_is_wide_0000000000000000000000000000000000000000"
BACKGROUND = "return getComputedStyle(document.documentElement).backgroundColor"
# For each element with a text of its own: contrast of its colour with the nearest background, by WCAG 2.
CONTRAST = """
const light = (rgb) => rgb.map((v) => v / 255).map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const found = parse(getComputedStyle(e).backgroundColor);
    if (found.length === 3 || found[3] > 0) return found.slice(0, 3);
  }
  return [255, 255, 255];
};
document.querySelectorAll("details").forEach((part) => { part.open = true; });
return Array.from(document.querySelectorAll("body *")).filter((e) =>
  e.getClientRects().length && !["SCRIPT", "title", "desc"].includes(e.tagName) &&
  Array.from(e.childNodes).some((n) => n.nodeType === 3 && n.textContent.trim())
).map((e) => {
  const style = getComputedStyle(e);
  const front = parse(e.namespaceURI.endsWith("svg") ? style.fill : style.color).slice(0, 3);
  const [a, b] = [light(front), light(behind(e))].sort((x, y) => y - x);
  return [(a + .05) / (b + .05), e.tagName + "." + e.getAttribute("class") + ": " + e.textContent.trim().slice(0, 40)];
});
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """The report of a run on three phantom heads, whose masks are the truth, shifted; one has a very long name.

    Shifted copies hold the labels of all three regions.
    """
    home = tmp_path_factory.mktemp("page")
    phantom(str(home / "data"), cases=3, size=48)
    inspect(str(home / "data"), str(home / "work"))
    (home / "masks").mkdir()
    (home / "truth").mkdir()
    for shift, path in enumerate(sorted((home / "data").rglob("*-seg.nii.gz"))):
        image = nibabel.load(path)
        truth = np.asarray(image.dataobj).astype(np.uint8)
        name = LONG if shift == 0 else path.parent.name
        for folder, mask in (("truth", truth), ("masks", np.roll(truth, shift, axis=0))):
            nibabel.save(nibabel.Nifti1Image(mask, image.affine), home / folder / f"{name}.nii.gz")
    run = write_run(home, RECORD | {"datalist": str(home / "work" / "datalist.json")})
    score(str(home / "masks"), str(home / "truth"), str(run / "scores"), jobs=1)
    (run / "doctor.json").write_text(json.dumps(CHECKS))
    report(str(run), str(home / "report.html"))
    return home / "report.html"


def start(folder: Path, *flags: str) -> webdriver.Chrome:
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.fail("chromium and chromedriver are not installed. Run: make test-browser")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, *flags, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


@pytest.fixture(scope="module")
def chrome(tmp_path_factory) -> Iterator[webdriver.Chrome]:
    driver = start(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


def show(driver: webdriver.Chrome, page: Path, theme: str = "light", size: tuple[int, int] = DESK) -> None:
    """Open the page as it is for a newcomer, whose system asks for that theme."""
    wishes = {
        "prefers-color-scheme": theme,
        "prefers-reduced-motion": "reduce",
    }  # clicks miss while it scrolls smoothly
    features = [{"name": name, "value": value} for name, value in wishes.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.get(page.as_uri())
    driver.execute_script("localStorage.clear(); delete document.documentElement.dataset.theme")


def one(driver: webdriver.Chrome, selector: str) -> Any:
    return driver.find_element(By.CSS_SELECTOR, selector)


def open_quietly(driver: webdriver.Chrome, page: Path) -> None:
    """Show the page; nothing must be complained of in the console, and nothing asked of the network."""
    driver.get_log("performance")
    driver.get_log("browser")
    show(driver, page)
    assert one(driver, ".headline").text.startswith("Whole tumour Dice 0.")
    assert driver.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert page.as_uri() in asked
    assert all(url == page.as_uri() or url.startswith("data:") for url in asked)


def test_it_opens_without_errors_and_asks_the_network_for_nothing(chrome: webdriver.Chrome, page: Path) -> None:
    open_quietly(chrome, page)


def test_a_report_of_real_cases_opens_and_is_moved_by_the_keyboard(chrome: webdriver.Chrome, tmp_path: Path) -> None:
    data = real_data("brats")
    if data is None:
        pytest.skip("no real BraTS cases: put them below $SEG_DATA/brats")
    inspect(data, str(tmp_path / "work"), jobs=2)
    datalist = json.loads((tmp_path / "work" / "datalist.json").read_text())
    (tmp_path / "masks").mkdir()
    for item in datalist["testing"]:  # the truth, moved by 3 mm
        image = nibabel.load(Path(data) / item["label"])
        mask = np.roll(np.asarray(image.dataobj) > 0, 3, axis=0).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(mask, image.affine), tmp_path / "masks" / f"{item['case']}.nii.gz")
    run = write_run(tmp_path, RECORD | {"datalist": str(tmp_path / "work" / "datalist.json")})
    score(str(tmp_path / "masks"), str(tmp_path / "work" / "datalist.json"), str(run / "scores"))
    report(str(run), str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").stat().st_size < 10e6
    open_quietly(chrome, tmp_path / "report.html")
    figure = one(chrome, ".plane")
    slider, said = (figure.find_element(By.CSS_SELECTOR, name) for name in ("input", "output"))
    before = said.text
    slider.send_keys(Keys.ARROW_RIGHT)
    assert re.match(r"slice \d+ of 155, truth", before) and said.text != before
    assert chrome.get_log("browser") == []


@pytest.mark.parametrize("plane", [0, 1, 2])
def test_a_slider_is_moved_by_the_keyboard(chrome: webdriver.Chrome, page: Path, plane: int) -> None:
    show(chrome, page)
    figure = chrome.find_elements(By.CSS_SELECTOR, ".plane")[plane]
    slider, image = (figure.find_element(By.CSS_SELECTOR, name) for name in ("input", "image"))
    said, outline = (figure.find_element(By.CSS_SELECTOR, name) for name in ("output", "path.truth:not(.halo)"))
    before = (said.text, image.get_attribute("href"), outline.get_attribute("d"))
    number = int(re.match(r"slice (\d+) of 48, truth [\d.]+ cm\u00b2, prediction [\d.]+ cm\u00b2", said.text)[1])
    slider.send_keys(Keys.ARROW_RIGHT)
    after = (said.text, image.get_attribute("href"), outline.get_attribute("d"))
    assert said.text.startswith(f"slice {number + 1} of 48, ")
    assert all(old != new for old, new in zip(before, after, strict=True))
    slider.send_keys(Keys.ARROW_LEFT)
    assert (said.text, image.get_attribute("href"), outline.get_attribute("d")) == before
    slider.send_keys(Keys.HOME)
    assert outline.get_attribute("d") == "" and "truth 0.0" in said.text
    assert chrome.get_log("browser") == []


def test_another_region_changes_outlines_and_sizes_but_not_the_picture(chrome: webdriver.Chrome, page: Path) -> None:
    show(chrome, page)
    figure = one(chrome, ".plane")
    image, said = (figure.find_element(By.CSS_SELECTOR, name) for name in ("image", "output"))
    outline = figure.find_element(By.CSS_SELECTOR, "path.pred:not(.halo)")
    before = (said.text, outline.get_attribute("d"), image.get_attribute("href"))
    one(chrome, "#regions input").send_keys(Keys.ARROW_RIGHT)
    after = (said.text, outline.get_attribute("d"), image.get_attribute("href"))
    assert before[0] != after[0] and before[1] != after[1] and before[2] == after[2]
    assert chrome.get_log("browser") == []


@pytest.mark.parametrize(("kind", "other"), [("truth", "pred"), ("pred", "truth")])
def test_outlines_can_be_hidden_one_by_one(chrome: webdriver.Chrome, page: Path, kind: str, other: str) -> None:
    show(chrome, page)
    shown = "return Array.from(document.querySelectorAll(arguments[0])).filter((p) => p.getClientRects().length).length"
    assert chrome.execute_script(shown, f".view .{kind}") == chrome.execute_script(shown, f".view .{other}") > 0
    one(chrome, f"#show-{kind}").send_keys(Keys.SPACE)
    assert chrome.execute_script(shown, f".view .{kind}") == 0 < chrome.execute_script(shown, f".view .{other}")
    one(chrome, f"label:has(#show-{kind})").click()
    assert chrome.execute_script(shown, f".view .{kind}") > 0


def test_the_two_outlines_differ_in_colour_and_in_style(chrome: webdriver.Chrome, page: Path) -> None:
    show(chrome, page)
    style = "const s = getComputedStyle(document.querySelector(arguments[0])); return [s.stroke, s.strokeDasharray]"
    assert chrome.execute_script(style, ".view path.truth:not(.halo)") == ["rgb(230, 159, 0)", "none"]
    assert chrome.execute_script(style, ".view path.pred:not(.halo)") == ["rgb(86, 180, 233)", "6px, 4px"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(chrome: webdriver.Chrome, page: Path, theme: str) -> None:
    show(chrome, page, theme, PHONE)
    chrome.execute_script("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    wide = """return Array.from(document.querySelectorAll('body *')).filter((e) => !e.closest('.box, .skip, pre')
      && e.getBoundingClientRect().right > 361).map((e) => e.outerHTML.slice(0, 80))"""
    assert chrome.execute_script(wide) == []
    assert chrome.execute_script("const e = document.documentElement; return e.scrollWidth <= e.clientWidth")


@pytest.mark.parametrize(("theme", "background"), [("light", LIGHT), ("dark", DARK)])
def test_the_page_has_the_systems_theme_until_the_button_says_otherwise(
    chrome: webdriver.Chrome, page: Path, theme: str, background: str
) -> None:
    show(chrome, page, theme)
    assert chrome.execute_script(BACKGROUND) == background
    chrome.refresh()
    one(chrome, "#theme").click()
    other = ({LIGHT, DARK} - {background}).pop()
    assert chrome.execute_script(BACKGROUND) == other
    chrome.refresh()
    assert chrome.execute_script(BACKGROUND) == other


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_paper_is_white_and_shows_no_buttons(chrome: webdriver.Chrome, page: Path, theme: str) -> None:
    show(chrome, page, theme)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    try:
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
        assert chrome.execute_script(BACKGROUND) == LIGHT
        assert one(chrome, ".headline").value_of_css_property("color") == "rgba(0, 0, 0, 1)"
        assert not [a for a in chrome.find_elements(By.CSS_SELECTOR, "button, input, nav") if a.is_displayed()]
    finally:
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read(chrome: webdriver.Chrome, page: Path, theme: str) -> None:
    show(chrome, page, theme)
    found = chrome.execute_script(CONTRAST)
    assert len(found) > 200
    assert [what for contrast, what in found if contrast < 4.5] == []


def test_a_case_is_named_when_its_dot_is_reached(chrome: webdriver.Chrome, page: Path) -> None:
    show(chrome, page)
    row = one(chrome, "#strip-wt .dots")
    said = one(chrome, "#case-said")
    chrome.execute_script("arguments[0].focus()", row)
    first = said.text
    row.send_keys(Keys.ARROW_RIGHT)
    assert first != said.text and re.fullmatch(r"\S+: Dice [01]\.\d{3}", said.text)
    assert len(chrome.find_elements(By.CSS_SELECTOR, ".dots circle.on")) == 1
    assert len(chrome.find_elements(By.CSS_SELECTOR, ".dots circle.same")) == 3 * 10  # nine metrics and the sizes
    row.send_keys(Keys.HOME)
    assert said.text == first


def test_the_keyboard_reaches_the_report_first(chrome: webdriver.Chrome, page: Path) -> None:
    show(chrome, page)
    one(chrome, "body").send_keys(Keys.TAB)
    active = chrome.switch_to.active_element
    assert active.get_attribute("class") == "skip" and active.rect["x"] >= 0
    assert chrome.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_it_can_be_read_without_javascript(page: Path, tmp_path: Path) -> None:
    driver = start(tmp_path, "--blink-settings=scriptEnabled=false")
    try:
        driver.get(page.as_uri())
        assert one(driver, ".headline").text.startswith("Whole tumour Dice 0.")
        assert one(driver, ".plane image").is_displayed() and one(driver, ".plane output").text.startswith("slice ")
        assert not one(driver, ".plane input").is_displayed() and not one(driver, "#theme").is_displayed()
    finally:
        driver.quit()
