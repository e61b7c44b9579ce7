"""What a training run left, as `autoconf report` reads it."""

from __future__ import annotations

import shutil
from pathlib import Path

from helpers_report import write_run

from autoconf.__main__ import main
from bad.ends import Ran, ran
from bad.row import Change, Row, row
from bad.ways import refuses


def report(one: Row, tmp: Path) -> Ran:
    """where: words of the command line; TMP is the folder of the run, where `file` and `taken_files` are files."""
    run = write_run(tmp)
    one.make(run)
    for name in ("file", "taken_files"):
        (tmp / name).touch()
    before = sorted(tmp.rglob("*"))
    words = (one.where or "--out TMP/out/report.html").replace("TMP", str(tmp)).split()
    said = ran(lambda: main(["report", str(run), *words]))
    assert sorted(tmp.rglob("*")) == before
    return said


def in_run(name: str, text: str) -> Change:
    def make(run: Path) -> None:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text(text)

    return make


def emptied(run: Path) -> None:
    shutil.rmtree(run)
    run.mkdir()


RUNS = {"report": refuses(report)}
LEFT = [
    row("a run that is not there", "", shutil.rmtree, "no such folder. Give the --output_dir of a training"),
    row("a run of nothing", "", emptied, "holds no run.json, no progress.csv and no scores"),
    row("a run.json that ends early", "", in_run("run.json", '{"seed": 1'), "run.json: is damaged"),
    row("a run.json that holds a list", "", in_run("run.json", "[]"), "run.json: holds no {...} but something else"),
    row("a progress.csv of other columns", "", in_run("progress.csv", "a,b\n1,2\n"), "has no columns epoch, seconds"),
    row("scores that end early", "", in_run("scores/scores.csv", "case,dice\na\n"), "line 2 has 1 values, not 2"),
    row("scores of an old form", "", in_run("scores/summary.json", "{}"), "holds no scores.csv and summary.json"),
    row("a doctor.json that holds no list", "", in_run("doctor.json", "{}"), "holds no list of checks"),
    row("--scores of no folder", "--out TMP/a.html --scores TMP/no", Path.exists, "holds no scores.csv"),
    row("--doctor of no file", "--out TMP/a.html --doctor TMP/no.json", Path.exists, "no such file"),
    row("a report that is no HTML file", "--out TMP/report.pdf", Path.exists, "Give it a name that ends in .html"),
    row("a report below a file", "--out TMP/file/x.html", Path.exists, "file is a file, not a folder"),
    row("pictures in a file's place", "--out TMP/taken.html", Path.exists, "taken_files is a file, not a folder"),
]
