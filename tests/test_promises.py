"""The table of promises is made of what tests said in their reports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers_bundles import REPO

from benchmarks import promises

TESTS = """
import pytest

@pytest.mark.promise("Disk", "full is one line")
@pytest.mark.parametrize("size", [1, 2])
def test_one(record_property, size):
    record_property("figure", f"{size} MB")

@pytest.mark.promise("Resume", "goes on")
def test_two():
    pass

def test_three():
    pass
"""


@pytest.fixture
def report(tmp_path: Path) -> Path:
    (tmp_path / "test_these.py").write_text(TESTS)
    (tmp_path / "conftest.py").write_text((REPO / "conftest.py").read_text())
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "junit_family=xunit1"]
    command += ["-o", "markers=promise(topic, text)", "--junitxml", "report.xml", "--rootdir", ".", "test_these.py"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    return tmp_path / "report.xml"


def test_a_promise_has_the_figures_of_all_its_tests(report):
    rows = promises.rows_of([report])
    assert [(row["topic"], row["promise"], row["figures"], row["tests"]) for row in rows] == [
        ("Resume", "goes on", [], ["test_these.py"]),
        ("Disk", "full is one line", ["1 MB", "2 MB"], ["test_these.py"]),
    ]
    machine = {"date": "today", "commit": "abc", "cores": 2, "processor": "P"}
    page = promises.filled(
        f"before\n{promises.BEGIN}\nold\n{promises.END}\nafter\n", {"machine": machine, "rows": rows}
    )
    assert page.startswith("before\n") and page.endswith("\nafter\n") and "old" not in page
    assert "| Resume | goes on | kept | `test_these.py` |" in page and "| 1 MB; 2 MB |" in page


def test_a_promise_that_was_not_kept_is_not_written(report, tmp_path, capsys):
    broken = report.read_text().replace("</testcase>", "<failure/></testcase>")
    (tmp_path / "broken.xml").write_text(broken)
    assert promises.main([str(tmp_path / "broken.xml")]) == 1
    assert "nothing written" in capsys.readouterr().err


def test_the_page_shows_what_was_measured():
    page = promises.PAGE.read_text(encoding="utf-8")
    assert page.count(promises.BEGIN) == page.count(promises.END) == 1
    if (promises.RAW / "promises.json").exists():
        assert promises.filled(page, promises.read()) == page
