"""The page of a search in a real browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers_tune import Home
from selenium import webdriver
from test_report_browser import CONTRAST, DESK, PHONE, chrome, one, show

from autoconf.inspect import inspect
from autoconf.phantom import phantom

assert chrome  # a fixture


@pytest.fixture(scope="module")
def search(tmp_path_factory) -> Path:
    """A search with trials that ended early and one that failed, confirmed with two seeds."""
    folder = tmp_path_factory.mktemp("search")
    phantom(str(folder / "data"), cases=8, size=32)
    inspect(str(folder / "data"), str(folder / "work"))
    home = Home(folder / "work", folder)
    home.space(
        {
            "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "dice_weight": {"low": 0.2, "high": 0.9},
            "dropout": {"values": [0.0, 0.1, 0.6]},
            "network_def::mlp_dim": {"values": [512, 1024]},
        }
    )
    # A plan that the stand-in's best rate, 1e-3, is better than: else there is nothing to confirm.
    home.run("--trials", 16, "--seeds", 2, "--set", "learning_rate=2.0e-4")
    states = {trial["state"] for trial in home.trials()}
    assert states == {"complete", "pruned", "failed"}
    return folder / "tune" / "report.html"


def test_it_opens_without_errors_and_asks_the_network_for_nothing(chrome: webdriver.Chrome, search: Path) -> None:
    chrome.get_log("performance")
    chrome.get_log("browser")
    show(chrome, search)
    assert one(chrome, ".headline").text.startswith("Tuned minus default: Dice ")
    assert chrome.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert all(url == search.as_uri() or url.startswith("data:") for url in asked)


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_nothing_is_wider_than_the_screen_and_no_label_leaves_its_picture(
    chrome: webdriver.Chrome, search: Path, size: tuple[int, int]
) -> None:
    show(chrome, search, "light", size)
    wide = f"""return Array.from(document.querySelectorAll('body *')).filter((e) => !e.closest('.box, .skip, pre')
      && e.getBoundingClientRect().right > {size[0] + 1}).map((e) => e.outerHTML.slice(0, 80))"""
    assert chrome.execute_script(wide) == []
    outside = """return Array.from(document.querySelectorAll('svg.chart text')).filter((e) => {
      const a = e.getBoundingClientRect(), b = e.closest('svg').getBoundingClientRect();
      return a.left < b.left - 1 || a.right > b.right + 1; }).map((e) => e.textContent)"""
    assert chrome.execute_script(outside) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read(chrome: webdriver.Chrome, search: Path, theme: str) -> None:
    show(chrome, search, theme)
    found = chrome.execute_script(CONTRAST)
    assert len(found) > 100
    assert [what for contrast, what in found if contrast < 4.5] == []


def test_each_picture_is_there_and_says_what_it_shows(chrome: webdriver.Chrome, search: Path) -> None:
    show(chrome, search)
    pictures = chrome.execute_script(
        "return Array.from(document.querySelectorAll('img.plot')).map((e) => [e.naturalWidth, e.alt])"
    )
    words = [alt for width, alt in pictures if width > 300]
    assert len(words) == len(pictures) >= 7 and all(len(alt) > 15 for alt in words)
    for key in ("learning_rate", "dropout", "network_def::mlp_dim"):
        assert f"{key} against Dice" in words
