"""Masks of many scans in parts: each scan once, wherever it was stopped, and all in one folder with one provenance."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from helpers_bundles import PSEUDO2D, REPO, STAND_IN, UNETR3D
from helpers_processes import run_module

from autoconf.__main__ import main


class Segmenting:
    """The command with the stand-in for MONAI, whose masks are the true ones."""

    def __init__(self, home: Path, scans: Path) -> None:
        self.home, self.out, self.scans = home, home / "masks", scans

    def run(self, *words: object, expect: int = 0, **env: object) -> tuple[str, str]:
        given = ["segment", self.scans, "--bundle", UNETR3D, "--out", self.out, *words]
        known = {"PYTHONPATH": f"{STAND_IN}{os.pathsep}{REPO}", "STAND_IN_LOG": str(self.home / "log")}
        done = run_module("autoconf", [str(word) for word in given], None, os.environ | known | env)
        assert done.returncode == expect, f"{done.stdout}\n{done.stderr}"
        return done.stdout, done.stderr

    def segmented(self) -> list[str]:
        """The cases in the order in which they were segmented."""
        lines = (self.home / "log").read_text().splitlines()
        return [line.removeprefix("mask ") for line in lines if line.startswith("mask ")]

    def masks(self) -> list[str]:
        return sorted(path.name.removesuffix(".nii.gz") for path in self.out.glob("*.nii.gz"))


def cases_of(datalist: Path, section: str) -> list[str]:
    return sorted(item["case"] for item in json.loads(datalist.read_text())[section])


@pytest.fixture
def job(volumes, tmp_path) -> Segmenting:
    return Segmenting(tmp_path, volumes.datalist)


def test_every_scan_gets_one_mask_and_one_line_of_provenance(job, volumes):
    out, _ = job.run("--section", "training", "--jobs", "2")
    cases = cases_of(volumes.datalist, "training")
    assert job.masks() == sorted(job.segmented()) == cases and out.splitlines()[-1].startswith(f"wrote  {len(cases)} ")
    told = json.loads((job.out / "provenance.json").read_text())
    assert sorted(told["masks"]) == cases and len(told["runs"]) == len(list((job.out / "parts").glob("0*"))) == 4
    for case, entry in told["masks"].items():
        assert case in told["runs"][entry["run"]]["cases"]
    job.run("--section", "training", "--jobs", "2")
    assert sorted(job.segmented()) == cases


def test_the_testing_list_is_the_default_and_a_folder_of_scans_may_stand_in_its_place(job, volumes):
    job.run()
    assert job.masks() == cases_of(volumes.datalist, "testing")
    shutil.rmtree(job.out)
    job.scans = volumes.folder
    job.run()
    content = json.loads(volumes.datalist.read_text())
    assert job.masks() == sorted(
        item["case"] for part in ("training", "testing", "unlabelled") for item in content[part]
    )


def test_a_part_that_was_stopped_goes_on_with_the_scans_that_have_no_mask(job, volumes):
    _, err = job.run("--section", "training", expect=1, STAND_IN_MASKS="2")
    assert err.startswith("autoconf: part 0 failed: stand-in: stopped") and len(err.splitlines()) == 1
    assert len(job.segmented()) == 2 and job.masks() == []
    job.run("--section", "training")
    assert sorted(job.segmented()) == job.masks() == cases_of(volumes.datalist, "training")
    assert set(json.loads((job.out / "provenance.json").read_text())["masks"]) == set(job.masks())


def test_other_settings_in_the_same_folder_are_refused(job):
    job.run()
    assert "holds masks of other values" in job.run("--set", "tta=True", expect=1)[1]
    assert "holds masks of other cases" in job.run("--section", "training", expect=1)[1]
    assert "holds masks of other configs" in job.run("--config", "ensemble", expect=1)[1]


def test_config_files_and_values_reach_every_run(job, tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text("overlap: 0.25\n")
    job.run("--config", plan, "--config", "ensemble", "--set", "tta=True", "--device", "cpu")
    (run,) = json.loads((job.out / "provenance.json").read_text())["runs"]
    assert run["values"] == {"overlap": 0.25, "tta": "True", "device": "cpu"}
    assert [Path(path).name for path in run["configs"]] == ["inference.yaml", "plan.yaml", "ensemble.yaml"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--section", "tests"], "--section is 'tests'. It must be one of training, testing, unlabelled."),
        (["--config", "ensembel"], "no such file, and the bundle has no configs/ensembel.yaml."),
        (["--set", "output_dir=x"], "datalist, dataset_dir, output_dir, device are set by this command"),
        (["--set", "tta"], "write it as KEY=VALUE"),
        (["--set", "tta=2"], "'tta' is 2. It must be True or False"),
        (["--jobs", "0"], "--jobs is 0"),
        (["--bundle", str(PSEUDO2D)], "holds volumes; bundle 'pseudo2d' needs 2D images"),
    ],
)
def test_bad_words_are_one_line_and_nothing_is_written(volumes, tmp_path, capsys, words, said):
    given = [] if "--bundle" in words else ["--bundle", str(UNETR3D)]
    assert main(["segment", str(volumes.datalist), "--out", str(tmp_path / "masks"), *given, *words]) == 1
    err = capsys.readouterr().err
    assert err.startswith("autoconf: ") and said in err and len(err.splitlines()) == 1, err
    assert not (tmp_path / "masks").exists()


def test_an_empty_list_and_a_folder_without_scans_are_one_line(volumes, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for scans, said in (
        (volumes.datalist, "its 'unlabelled' list is empty"),
        (tmp_path / "empty", "no cases found in"),
    ):
        words = ["segment", str(scans), "--bundle", str(UNETR3D), "--out", str(tmp_path / "masks")]
        assert main([*words, "--section", "unlabelled"]) == 1
        assert said in capsys.readouterr().err
