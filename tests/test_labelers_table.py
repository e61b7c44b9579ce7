"""The table of label functions: what it counts, on made-up scores, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers_bundles import REPO
from helpers_volumes import real_data

from benchmarks import labelers as table
from benchmarks.table import marks


def one(case: str, **dice: float) -> dict:
    rows = {n: {"dice": d, "sensitivity": d, "precision": d, "found": float(d > 0)} for n, d in dice.items()}
    speaks = {"coverage": 0.5, "share": 0.1, "agreement": 0.8, "kappa": 0.7, "touches_skull": False, "bilateral": True}
    facts = {"known_dice": 0.9, "ignored": 0.01, "seconds": 3.0}
    return {"case": case, "patient": case, "rows": rows, "audit": [{"who": "fused", **speaks}]} | facts


def test_a_mean_has_its_interval_and_a_miss_counts_as_zero():
    found = [one("a", study_otsu=0.1, otsu=0.8), one("b", study_otsu=0.3, otsu=0.0)]
    part = table.summarise(found)
    row = part["rows"]["otsu"]["dice"]
    assert (row["mean"], row["low"], row["high"], row["min"]) == (0.4, 0.0, 0.8, 0.0)
    text = table.page({"volumes": part})
    assert "| **Otsu alone**, as in the study | 0.200 | [0.100, 0.300] |" in text
    assert "| otsu | 0.400 | [0.000, 0.800] | 0.400 | 0.000 | 0.40 | 0.40 | 50% | 0.800 |" in text
    assert "| fused | 50% | 10.0% | 0.80 | 0.70 | 0% | 100% |" in text


def test_a_false_positive_is_any_mark_on_a_picture_without_a_tumour():
    found = [one(name, otsu=0.0) for name in "abcd"]
    for place, row in enumerate(found):
        row["rows"]["otsu"]["marked"] = 0.2 if place == 0 else 0.0
    assert table.false_positives(found)["rows"]["otsu"] == {"rate": 0.25, "marked": 0.05}


def test_masks_are_scored_with_the_referee_of_autoconf():
    mask, truth = np.zeros((2, 9, 9), bool)
    truth[:4], mask[2:4] = True, True
    assert table.scored(mask, truth) == {"dice": 2 / 3, "sensitivity": 0.5, "precision": 1.0, "found": 1.0}


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.labelers", *map(str, words)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("page", ["no marks in here", None])
def test_bad_input_gets_one_line(page, tmp_path):
    words = ["--data", tmp_path, "--out", tmp_path / "out.json"]
    if page:
        (tmp_path / "page.md").write_text(page)
        words += ["--page", tmp_path / "page.md"]
    done = run(*words)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("labelers: ")
    assert not (tmp_path / "out.json").exists()


@pytest.mark.skipif(not real_data("figshare_masked"), reason="no real pictures: set SEG_DATA")
@pytest.mark.long
def test_the_table_of_two_real_pictures_goes_into_its_page(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "figshare_masked").symlink_to(real_data("figshare_masked"))
    (tmp_path / "page.md").write_text("before {} old {} after".format(*marks("labelers")))
    done = run("--data", tmp_path / "data", "--out", tmp_path / "o.json", "--page", tmp_path / "page.md", "--most", 2)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "o.json").read_text())
    assert report["pictures"]["n"] == 2 and "volumes" not in report
    text = (tmp_path / "page.md").read_text()
    assert text.startswith("before ") and text.endswith(" after") and "old" not in text and "| study" not in text


def test_the_page_shows_the_committed_results():
    report = json.loads((REPO / "docs" / "evidence" / "results" / "labelers.json").read_text())
    assert table.page(report) in (REPO / "docs" / "how-to" / "labelers.md").read_text()
