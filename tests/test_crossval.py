"""Cross-validation: every case is scored by a network that never saw it, whatever dies, whoever helps.

But for the last part these tests run a stand-in for MONAI, which trains in no time and segments perfectly.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import yaml
from helpers_bundles import PSEUDO2D, REPO, STAND_IN, UNETR3D, read_yaml, run_bundle, write_yaml
from helpers_processes import hears_ctrl_c, run_module, wait_for

from autoconf.__main__ import main
from autoconf.workers.parts import only_one

GOES_ON = pytest.mark.promise("Resume", "A killed cross-validation goes on where it was")
ALL = [0, 1, 2, 3, 4]


class Work:
    """A cross-validation with the stand-in: its command line, and what was done."""

    def __init__(self, home: Path, work: Path, plan: Path) -> None:
        self.home, self.out, self.plan, self.work = home, home / "cv", plan, work
        self.started: list[subprocess.Popen] = []

    def words(self, *words: object, bundle: Path = UNETR3D) -> list[str]:
        """Of a cross-validation, after `autoconf`."""
        given = ["crossval", self.work, "--bundle", bundle, "--plan", self.plan, "--out", self.out, *words]
        return [str(word) for word in given]

    def env(self, **more: object) -> dict[str, str]:
        stand_in = {"PYTHONPATH": f"{STAND_IN}{os.pathsep}{REPO}", "STAND_IN_LOG": str(self.home / "log")}
        return os.environ | stand_in | {name: str(value) for name, value in more.items()}

    def start(self, *words: object, bundle: Path = UNETR3D, **env: object) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "autoconf", *self.words(*words, bundle=bundle)],
            preexec_fn=hears_ctrl_c,
            env=self.env(**env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *words: object, expect: int = 0, bundle: Path = UNETR3D, **env: object) -> tuple[str, str]:
        done = run_module("autoconf", self.words(*words, bundle=bundle), None, self.env(**env))
        assert done.returncode == expect, f"{done.stdout}\n{done.stderr}"
        return done.stdout, done.stderr

    def log(self) -> list[str]:
        path = self.home / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if not line.startswith("run ")]

    def runs(self) -> list[str]:
        """`run training FOLD PID FOLDER`, of each process of the bundle."""
        return [line for line in (self.home / "log").read_text().splitlines() if line.startswith("run ")]

    def counted(self, what: str) -> dict[int, int]:
        """fold -> how often that was done to it."""
        return dict(Counter(int(line.split()[1]) for line in self.log() if line.split()[0] == what))

    def once_each(self, folds: list[int]) -> bool:
        """Whether each of these folds, and no other, ran through every epoch once."""
        epochs = Counter(line for line in self.log() if line.startswith("epoch"))
        return epochs == Counter(f"epoch {fold} {epoch}" for fold in folds for epoch in (1, 2, 3))


def ended(process: subprocess.Popen, expect: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == expect, f"{out}\n{err}"
    return out, err


@pytest.fixture
def job(volumes, small, tmp_path) -> Iterator[Work]:
    plan = write_yaml(tmp_path / "plan.yaml", read_yaml(small) | {"max_epochs": 3})
    work = Work(tmp_path, volumes.work, plan)
    yield work
    for process in work.started:
        process.kill()
        process.communicate()


def csv_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def training_cases(volumes) -> dict[str, int]:
    return {item["case"]: item["fold"] for item in json.loads(volumes.datalist.read_text())["training"]}


# What comes out


def test_all_cases_are_scored_and_the_folds_are_ready_for_an_ensemble(job, volumes):
    out, _ = job.run()
    cases = training_cases(volumes)
    assert {row["case"] for row in csv_rows(job.out / "scores" / "scores.csv")} == set(cases)
    rows = csv_rows(job.out / "crossval.csv")
    assert [int(row["fold"]) for row in rows] == ALL and {float(row["dice_wt"]) for row in rows} == {1.0}
    assert [int(row["cases"]) for row in rows] == [list(cases.values()).count(fold) for fold in ALL]
    assert [(row["epochs"], float(row["seconds"]) >= 30) for row in rows] == [("3", True)] * 5
    overlay = yaml.safe_load((job.out / "folds.yaml").read_text())
    assert overlay == {"checkpoints": [str(job.out / f"fold-{k}" / "run" / "model_final.pt") for k in ALL]}
    assert "wt Dice 1.000 [1.000, 1.000]" in out and "each by a network that never saw it" in out
    assert "'inferring'" not in out and "configs/ensemble.yaml" in out.splitlines()[-1]
    assert job.once_each(ALL)


def test_a_fold_that_was_not_asked_for_is_left_out(job, volumes):
    job.run("--folds", "0,3")
    assert job.once_each([0, 3])
    asked = {case for case, fold in training_cases(volumes).items() if fold in (0, 3)}
    assert {row["case"] for row in csv_rows(job.out / "scores" / "scores.csv")} == asked
    job.run("--folds", "4,3")
    asked = {case for case, fold in training_cases(volumes).items() if fold in (3, 4)}
    assert {row["case"] for row in csv_rows(job.out / "scores" / "scores.csv")} == asked
    assert {path.name.partition(".")[0] for path in (job.out / "predictions").iterdir()} == asked
    assert job.once_each([0, 3, 4])


def test_what_is_done_is_neither_trained_nor_scored_again(job):
    first, _ = job.run()
    before = (job.out / "scores" / "scores.csv").stat().st_mtime_ns
    second, _ = job.run()
    assert job.once_each(ALL) and (job.out / "scores" / "scores.csv").stat().st_mtime_ns == before
    assert second.splitlines()[-1] == first.splitlines()[-1]
    shutil.rmtree(job.out / "fold-2")
    job.run()
    assert job.counted("begin")[2] == 2 and (job.out / "scores" / "scores.csv").stat().st_mtime_ns > before


def test_probabilities_are_scored_if_asked_for_also_of_folds_that_were_done_without(job):
    job.run("--folds", "0")
    assert not list(job.out.rglob("*_probability.nii.gz"))
    job.run("--folds", "0,1", "--probabilities")
    assert job.counted("begin") == {0: 1, 1: 1} and job.counted("masks") == {0: 2, 1: 1}
    calibration = json.loads((job.out / "scores" / "calibration.json").read_text())
    assert calibration["cases"] == len({row["case"] for row in csv_rows(job.out / "scores" / "scores.csv")})
    job.run("--folds", "0,1", "--probabilities")
    job.run("--folds", "0,1")
    assert job.counted("masks") == {0: 2, 1: 1} and (job.out / "scores" / "calibration.json").exists()
    job.run("--folds", "0,1,2")
    assert not (job.out / "scores" / "calibration.json").exists()  # it would be of other cases


def test_trainings_get_a_datalist_without_the_testing_list(job, volumes):
    """The stand-in ends at once if it is shown one."""
    assert json.loads(volumes.datalist.read_text())["testing"]
    job.run("--folds", "0,1")
    given, truth = (json.loads((job.out / name).read_text()) for name in ("datalist.json", "truth.json"))
    assert given["testing"] == truth["testing"] == [] and given["dataset_dir"] == str(volumes.folder)


# What dies


@GOES_ON
def test_after_kill_9_of_the_verb_it_goes_on_where_it_was(job):
    process = job.start(STAND_IN_SECONDS=0.5)
    wait_for(lambda: "epoch 0 1" in job.log())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    job.run()
    assert job.once_each(ALL) and job.counted("begin") == {0: 2, 1: 1, 2: 1, 3: 1, 4: 1}
    assert job.counted("TWO") == {}


@GOES_ON
def test_after_kill_9_of_a_training_it_goes_on_from_its_last_epoch(job):
    process = job.start("--folds", "0,1", STAND_IN_SECONDS=0.5)
    wait_for(lambda: "epoch 0 1" in job.log())
    training = next(int(line.split()[3]) for line in job.runs() if line.startswith("run training 0"))
    os.kill(training, signal.SIGKILL)
    out, _ = ended(process)
    assert "fold 0: killed by SIGKILL: perhaps out of main memory; going on from its last epoch" in out
    assert job.once_each([0, 1]) and job.counted("begin") == {0: 2, 1: 1}


def test_a_fold_that_is_killed_each_time_fails_and_the_others_are_done(job):
    _, err = job.run("--folds", "0,1", "--set", "dropout=0.7", expect=1)
    assert "2 of 2 folds failed. fold 0: killed by SIGKILL" in err and len(err.splitlines()) == 1
    assert job.counted("begin") == {0: 3, 1: 3} and not (job.out / "scores").exists()


def test_ctrl_c_leaves_what_the_next_start_takes_at_once(job):
    process = job.start("--folds", "0,1", STAND_IN_SECONDS=0.5)
    wait_for(lambda: "epoch 0 1" in job.log())
    process.send_signal(signal.SIGINT)
    assert ended(process, 130)[1] == "autoconf: stopped by the keyboard\n"
    assert not (job.out / "fold-0" / "lease").exists()  # other machines need not wait until it ends
    assert not list(job.out.glob("stop-*"))
    job.run("--folds", "0,1")
    assert job.once_each([0, 1])


def test_a_fold_that_fails_does_not_end_the_others(job):
    _, err = job.run(expect=1, STAND_IN_FAIL="/fold-2/ unetr3d: this fold cannot be trained.")
    assert "1 of 5 folds failed. fold 2: unetr3d: this fold cannot be trained" in err and len(err.splitlines()) == 1
    assert sorted(job.counted("end")) == [0, 1, 3, 4] and not (job.out / "scores").exists()
    job.run()
    assert job.once_each(ALL) and len(csv_rows(job.out / "crossval.csv")) == 5


@pytest.mark.promise("Disk", "A full disk is no failure of a fold")
def test_a_full_disk_is_one_line_and_no_failure_of_the_fold(job):
    full = {"STAND_IN_FAIL": "/fold-0/ OSError: [Errno 28] No space left on device"}
    _, err = job.run("--folds", "0,1", expect=1, **full)
    where = f"autoconf: {job.out / 'fold-0'}: "
    assert err == where + "No space left on device. Free some space; the same command goes on.\n"
    assert job.counted("begin") == {}
    job.run("--folds", "0,1")
    assert job.once_each([0, 1])


def test_a_mask_that_was_not_written_is_a_failure_not_an_empty_prediction(job):
    _, err = job.run("--folds", "0,1", expect=1, STAND_IN_LOSE=1)
    assert "fold 1: the evaluation wrote no mask of" in err and not (job.out / "scores").exists()
    job.run("--folds", "0,1")
    assert job.counted("begin") == {0: 1, 1: 1}  # only segmented again


# Several at once


def test_two_jobs_do_two_folds_at_once_and_all_are_scored_once(job):
    out, _ = job.run("--jobs", "2", STAND_IN_SECONDS=0.3)
    log = job.log()
    assert job.once_each(ALL) and job.counted("TWO") == {}
    assert log.index("begin 1") < log.index("end 0")
    assert "each by a network that never saw it" in out and len(csv_rows(job.out / "crossval.csv")) == 5


def test_a_second_command_in_the_same_folder_is_refused(job, monkeypatch, capsys):
    monkeypatch.setattr("autoconf.workers.parts.LEASE_SECONDS", 1.0)
    with only_one(job.out):
        refused(capsys, f"another command is at work in {job.out}", *job.words()[1:])
    assert job.log() == [] and not (job.out / "settings.json").exists()


# What is refused


def refused(capsys, said: str, *words: object) -> None:
    assert main(["crossval", *map(str, words)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("autoconf: ") and said in err and len(err.splitlines()) == 1, err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--folds", "0,7"], "no fold '7'. There are: 0, 1, 2, 3, 4."),
        (["--folds", "all"], "no fold 'all'"),
        (["--set", "learning_rat=1e-3"], "Did you mean 'learning_rate'?"),
        (["--set", "fold=1"], "'fold' is set by this command. Leave it out."),
        (["--device", "gpu"], "--device is 'gpu'. It must be cpu, cuda or cuda:NUMBER"),
        (["--network", "segresnt"], "Did you mean 'segresnet'?"),
    ],
)
def test_bad_words_are_one_line_before_anything_is_written(volumes, small, tmp_path, capsys, words, said):
    common = (volumes.work, "--bundle", UNETR3D, "--plan", small, "--out", tmp_path / "cv")
    refused(capsys, said, *common, *words)
    assert not (tmp_path / "cv").exists()


def test_bad_folders_and_files_are_one_line(volumes, slices, small, tmp_path, capsys):
    to = ("--bundle", UNETR3D, "--plan", small, "--out", tmp_path / "cv")
    refused(capsys, "datalist.json is not there. Make it with: python -m autoconf inspect", tmp_path, *to)
    refused(capsys, "holds 2D images; bundle 'unetr3d' needs volumes", slices.work, *to)
    work = (volumes.work, "--bundle", UNETR3D)
    refused(capsys, "is not there. Make it with: autoconf plan", *work, "--plan", "x.yaml", "--out", tmp_path / "cv")
    inside = volumes.folder / "cv"
    refused(capsys, f"lies inside the data folder {volumes.folder}", *work, "--plan", small, "--out", inside)
    refused(capsys, "is " + str(volumes.work) + " itself", *work, "--plan", small, "--out", volumes.work)
    other = write_yaml(tmp_path / "other.yaml", {"network_name": "segresnet"})
    refused(capsys, "Choose it with --network segresnet", *work, "--plan", other, "--out", tmp_path / "cv")
    assert not (tmp_path / "cv").exists() and not inside.exists()


def test_slices_without_masks_are_refused(slices, tmp_path, capsys):
    plan = write_yaml(tmp_path / "plan.yaml", {"image_size": 64})
    said = "has no label. Give the masks with --set mask_dir=MASKS."
    words = (slices.work, "--bundle", PSEUDO2D, "--plan", plan, "--out", tmp_path / "cv")
    refused(capsys, said, *words)
    refused(capsys, "bundle 'pseudo2d' writes no probabilities. Leave --probabilities out.", *words, "--probabilities")


def test_a_datalist_with_one_fold_only_is_refused(volumes, small, tmp_path, capsys):
    content = json.loads(volumes.datalist.read_text())
    content["training"] = [item for item in content["training"] if item["fold"] == 0]
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    refused(
        capsys, "too few folds", tmp_path, "--bundle", UNETR3D, "--plan", small, "--out", tmp_path.parent / "no_such_cv"
    )


def test_started_again_with_other_settings_it_refuses_and_says_which(job, tmp_path, capsys):
    job.run("--folds", "0,1")
    work = (job.work, "--bundle", UNETR3D, "--out", job.out)
    refused(capsys, "begun with learning_rate the bundle's own, not 0.001", *work, "--plan", job.plan, "--set",
            "learning_rate=1e-3")  # fmt: skip
    other = write_yaml(tmp_path / "other.yaml", read_yaml(job.plan) | {"max_epochs": 9})
    refused(capsys, "begun with max_epochs 3, not 9", *work, "--plan", other)
    refused(capsys, "begun with --network '', not 'segresnet'", *work, "--plan", job.plan, "--network", "segresnet")
    content = json.loads((job.work / "datalist.json").read_text())
    content["training"][0]["fold"] = (content["training"][0]["fold"] + 1) % 5
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    refused(capsys, "begun with another datalist", tmp_path, *work[1:], "--plan", job.plan)


# Images


def test_slices_are_scored_against_their_pseudo_masks(job, slices, pseudo_labelled, tmp_path):
    job.work, job.plan = slices.work, write_yaml(tmp_path / "plan.yaml", {"image_size": 64, "max_epochs": 3})
    masks = pseudo_labelled / "masks"
    job.run("--folds", "0,1", "--set", f"mask_dir={masks}", bundle=PSEUDO2D)
    rows = csv_rows(job.out / "crossval.csv")
    assert [float(row["dice_wt"]) for row in rows] == [1.0, 1.0]
    asked = [fold for fold in training_cases(slices).values() if fold in (0, 1)]
    assert sum(int(row["cases"]) for row in rows) == len(asked)


# The real bundle


@pytest.fixture(scope="module")
def real(volumes, small, tmp_path_factory) -> Path:
    """Two folds of one epoch each. The files of the test cases are gone meanwhile: nobody may ask for them."""
    home = tmp_path_factory.mktemp("real")
    shutil.copytree(volumes.folder, home / "data")
    content = json.loads(volumes.datalist.read_text()) | {"dataset_dir": str(home / "data")}
    (home / "work").mkdir()
    (home / "work" / "datalist.json").write_text(json.dumps(content))
    for item in content["testing"]:
        for name in [*item["image"], item["label"]]:
            (home / "data" / name).unlink()
    words = [home / "work", "--bundle", UNETR3D, "--plan", small, "--out", home / "cv", "--folds", "0,1"]
    words += ["--probabilities"]
    command = [sys.executable, "-m", "autoconf", "crossval", *map(str, words)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)}
    subprocess.run(command, env=env, check=True, timeout=300, stdout=subprocess.DEVNULL)
    return home


def probabilities(volumes, small, real, out: Path, *words: object, more: tuple = ()) -> dict[str, np.ndarray]:
    """Probability maps of two test cases, as one inference writes them."""
    items = json.loads(volumes.datalist.read_text())["testing"][:2]
    (out / "list").mkdir(parents=True)
    content = json.loads(volumes.datalist.read_text()) | {"testing": items}
    (out / "list" / "datalist.json").write_text(json.dumps(content))
    run_bundle(
        *(UNETR3D, "inferring", ["inference.yaml", *more[:1], real / "cv" / "plan.yaml", *more[1:]]),
        *("--datalist", out / "list" / "datalist.json", "--output_dir", out, "--save_probability", True, *words),
    )
    return {item["case"]: volume(out / f"{item['case']}_probability.nii.gz") for item in items}


def volume(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


@pytest.mark.long
def test_the_real_bundle_trains_two_folds_and_every_case_in_them_is_scored(real, volumes):
    cases = training_cases(volumes)
    scored = {row["case"] for row in csv_rows(real / "cv" / "scores" / "scores.csv")}
    assert scored == {case for case, fold in cases.items() if fold in (0, 1)}
    assert json.loads((real / "cv" / "scores" / "calibration.json").read_text())["cases"] == len(scored)
    for fold in (0, 1):
        weights = torch.load(real / "cv" / f"fold-{fold}" / "run" / "model_final.pt", weights_only=True)
        assert all(tensor.isfinite().all() for tensor in weights.values())
    rows = csv_rows(real / "cv" / "crossval.csv")
    assert [row["epochs"] for row in rows] == ["1", "1"] and all(0 <= float(row["dice_wt"]) <= 1 for row in rows)
    assert any((real / "work" / "preprocessed").iterdir())  # beside the datalist, for other trainings too


@pytest.mark.long
def test_the_ensemble_is_the_mean_of_its_folds_and_one_network_alone_is_itself(real, volumes, small, tmp_path):
    checkpoints = yaml.safe_load((real / "cv" / "folds.yaml").read_text())["checkpoints"]
    alone = [
        probabilities(volumes, small, real, tmp_path / str(fold), "--checkpoint", path)
        for fold, path in enumerate(checkpoints)
    ]
    both = probabilities(volumes, small, real, tmp_path / "both", more=("ensemble.yaml", real / "cv" / "folds.yaml"))
    one = probabilities(
        volumes, small, real, tmp_path / "one", "--checkpoints", str(checkpoints[:1]), more=("ensemble.yaml",)
    )
    for case, found in both.items():
        assert np.abs(alone[0][case] - alone[1][case]).max() > 1e-3  # or this would say nothing
        assert np.abs(found - (alone[0][case] + alone[1][case]) / 2).max() < 1e-5
        assert np.abs(one[case] - alone[0][case]).max() < 1e-5
        masks = [volume(tmp_path / name / f"{case}.nii.gz") for name in ("one", "0")]
        assert (masks[0] == masks[1])[np.abs(alone[0][case] - 0.5) > 1e-5].all()
