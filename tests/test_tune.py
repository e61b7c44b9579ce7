"""A search from its command line. With tests/stand_in in MONAI's place a trial takes a moment; two tests train."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from helpers_bundles import PSEUDO2D, REPO, TINY_2D, UNETR3D, write_yaml
from helpers_processes import wait_for
from helpers_tune import KEYS, Home

GOES_ON = pytest.mark.promise(
    "Resume", "A killed trial, search or worker goes on from its last epoch; nothing is done twice"
)


@pytest.fixture
def home(volumes, tmp_path) -> Home:
    return Home(volumes.work, tmp_path)


# What comes out


def test_a_search_finds_better_settings_and_writes_them_in_the_plans_place(home):
    plan = home.folder / "plan.yaml"
    plan.write_text("# autoconf plan\nbatch_size: 1  # a CPU computes one by one\nlearning_rate: 2.0e-4\n")
    done = home.run("--plan", plan, "--trials", 12, "--out", "tuned.yaml")
    text = (home.folder / "tuned.yaml").read_text()
    tuned, best = yaml.safe_load(text), home.result()["trials"][home.result()["best"]]
    assert tuned == {"batch_size": 1} | best["settings"]
    assert (
        "# a CPU computes one by one" in text and f"trial {best['number']}: Dice" in text and "planned 0.0002" in text
    )
    default = home.result()["trials"][0]
    assert default["settings"]["learning_rate"] == 2e-4 and best["dice"] > default["dice"]
    states = Counter(trial["state"] for trial in home.trials())
    assert sum(states.values()) == 12 and states["pruned"] >= 3 and states["failed"] == 0
    assert "<img" in (home.folder / "tune" / "report.html").read_text() and "tuned.yaml" in done.stdout


def test_the_same_seed_draws_the_same_trials(home):
    settings = []
    for name in ("one", "two"):
        home.run("--trials", 8, "--seeds", 0, "--seed", 5, "--folder", home.folder / name)
        found = json.loads((home.folder / name / "result.json").read_text())
        settings.append([trial["settings"] for trial in found["trials"]])
    assert settings[0] == settings[1] and len({str(values) for values in settings[0]}) == 8


BEATEN = ("--set", "learning_rate=2.0e-4")  # a plan that the stand-in's best rate, 1e-3, is better than


def test_the_best_is_confirmed_on_the_folds_that_did_not_choose_it(home):
    home.run("--trials", 8, "--seeds", 3, *BEATEN)
    confirmed = home.result()["confirmed"]
    assert [run["fold"] for run in confirmed["runs"]] == [1, 2, 3] and confirmed["cases"] == confirmed["wins"] > 0
    gains = [run["tuned"] - run["default"] for run in confirmed["runs"]]
    assert confirmed["difference"] == pytest.approx(sum(gains) / 3, abs=0.02) and min(gains) > 0
    assert confirmed["low"] <= confirmed["difference"] <= confirmed["high"]
    assert not confirmed["is_better"] and "too few to tell. The default is good enough." in confirmed["verdict"]
    assert {fold for _, fold, _, out in home.starts() if "/trials/" in out} == {"0"}


def test_the_studys_preset_takes_the_rate_first_then_the_weight_at_the_best_rate_all_in_full(home):
    home.run("--preset", "study", "--seeds", 0)
    own = yaml.safe_load((UNETR3D / "configs" / "tuning_study.yaml").read_text())["keys"]
    trials = home.result()["trials"]
    assert {trial["state"] for trial in trials} == {"complete"}
    first = [trial["settings"] for trial in trials if trial["stage"] == 0]
    second = [trial["settings"] for trial in trials if trial["stage"] == 1]
    assert [values["learning_rate"] for values in first] == own["learning_rate"]["values"]
    assert [values["dice_weight"] for values in second] == own["dice_weight"]["values"]
    assert {values["learning_rate"] for values in second} == {0.001}  # the stand-in's best
    assert home.result()["trials"][home.result()["best"]]["settings"] == {"learning_rate": 0.001, "dice_weight": 0.7}


def test_a_plan_that_is_the_best_of_a_stage_is_not_confirmed_against_itself(home):
    """A trial of the first stage has some of the keys only."""
    home.space({"learning_rate": {"values": [1e-3, 1e-5]}, "dice_weight": {"values": [0.3]}})
    words = ("--stages", "--sampler", "grid", "--seeds", 1, "--set", "learning_rate=1.0e-3", "--set", "dice_weight=0.7")
    done = home.run(*words)
    best = home.result()["trials"][home.result()["best"]]
    assert best["settings"] == {"learning_rate": 1e-3}
    assert not (home.folder / "tune" / "confirm").exists() and home.result()["confirmed"] is None
    assert "The plan as it is was the best trial: nothing to confirm." in done.stdout


def test_stages_of_a_space_are_searched_one_after_the_other(home):
    home.run("--stages", "--trials", 4, "--seeds", 0)
    trials = home.result()["trials"]
    assert Counter(trial["stage"] for trial in trials) == {0: 4, 1: 4, 2: 4}
    best_of_first = max((t for t in trials if t["stage"] == 0 and t["state"] == "complete"), key=lambda t: t["dice"])
    rates = {trial["settings"]["learning_rate"] for trial in trials if trial["stage"] == 1}
    assert rates == {best_of_first["settings"]["learning_rate"]}


def test_no_trial_sees_the_test_list(home, volumes):
    """The stand-in ends at once if it is shown one; and no file of the search names a test case."""
    home.run("--trials", 4, "--seeds", 1)
    tested = [item["case"] for item in json.loads(volumes.datalist.read_text())["testing"]]
    assert tested
    for path in (home.folder / "tune").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(case.encode() in content for case in tested), path


def test_a_grid_tries_each_combination_in_full(home):
    home.space({"learning_rate": {"values": [1e-4, 1e-3]}, "dice_weight": {"values": [0.3, 0.5, 0.7]}})
    home.run("--sampler", "grid", "--seeds", 0)
    points = [(float(t["learning_rate"]), float(t["dice_weight"])) for t in home.trials()]
    assert sorted(points) == [(rate, weight) for rate in (1e-4, 1e-3) for weight in (0.3, 0.5, 0.7)]
    assert {trial["state"] for trial in home.trials()} == {"complete"}


# Trials that fail


def test_a_trial_that_fails_is_one_with_its_reason_and_not_the_end(home):
    home.space({"learning_rate": {"values": [1e-4, 1e-3]}, "dropout": {"values": [0.1, 0.5, 0.6, 0.7]}}, epochs=2)
    home.run("--sampler", "grid", "--seeds", 0)
    reasons = {trial["dropout"]: trial["reason"] for trial in home.trials()}
    states = {trial["dropout"]: trial["state"] for trial in home.trials()}
    assert states == {"0.1": "complete", "0.5": "failed", "0.6": "failed", "0.7": "failed"}
    assert reasons["0.5"] == "out of memory" and "the loss is nan in epoch 1" in reasons["0.6"]
    assert "killed by SIGKILL" in reasons["0.7"]
    killed = next(trial["trial"] for trial in home.trials() if trial["dropout"] == "0.7")
    assert Counter(int(name) for name, _ in home.runs())[int(killed)] == 3  # a kill is tried again, twice


def test_if_nothing_works_the_search_stops_early_and_says_why(home):
    done = home.run("--trials", 20, "--set", "dropout=0.6", expect=1)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("autoconf: all of the first 3 trials failed; the last: unetr3d: the loss is nan")
    assert len(home.runs()) == 3


# Stopped, and started again


def test_a_second_start_goes_on_and_does_nothing_twice(home):
    home.run("--trials", 5, "--seeds", 1)
    before = len(home.runs())
    home.run("--trials", 5, "--seeds", 1)
    assert len(home.runs()) == before
    home.run("--trials", 7, "--seeds", 0)
    assert [name for name, _ in home.runs()[before:]] == ["005", "006"]


def test_another_search_is_not_mixed_into_a_folder(home):
    home.run("--trials", 3, "--seeds", 0)
    done = home.run("--trials", 3, "--set", "batch_size=1", expect=1)
    assert "was begun with batch_size the bundle's own, not 1. Go on with that" in done.stderr
    done = home.run("--trials", 3, "--seed", 1, expect=1)
    assert "was begun with search seed 0, not 1" in done.stderr


def test_ctrl_c_leaves_a_study_that_can_be_read_and_goes_on(home):
    with home.started("--trials", 6, "--seeds", 0, seconds=0.5) as process:
        wait_for(lambda: len(home.runs()) >= 3)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=200)
    assert process.returncode == 130 and said.strip().endswith("autoconf: stopped by the keyboard")
    assert 2 <= len(home.trials()) < 6 and (home.folder / "tuned.yaml").exists()
    home.run("--trials", 6, "--seeds", 0)
    assert len(home.trials()) == 6
    assert max(Counter(name for name, _ in home.runs()).values()) == 2  # the one that was stopped


def test_when_the_time_is_up_what_was_found_is_written(home):
    done = home.run("--trials", 40, "--seeds", 2, "--timeout", "3s", env=home.env(0.1))
    assert "the time is up" in done.stderr and 1 <= len(home.trials()) < 40
    assert not home.result()["finished"] and home.result()["confirmed"] is None


def epochs_done(home: Home, trial: str) -> int:
    path = home.folder / "tune" / "trials" / trial / "run" / "resume.pt"
    return len(json.loads(path.read_text())) if path.exists() else 0


@GOES_ON
def test_a_trial_whose_process_is_killed_goes_on_from_its_last_epoch(home):
    home.space(KEYS, epochs=10)
    with home.started("--trials", 2, "--seeds", 0) as process:
        wait_for(lambda: epochs_done(home, "000") >= 4)
        os.kill(home.runs()[0][1], signal.SIGKILL)
        process.communicate(timeout=200)
    assert process.returncode == 0
    assert home.trials()[0]["state"] == "complete" and home.trials()[0]["epochs"] == "10"
    assert [name for name, _ in home.runs()].count("000") == 2


@GOES_ON
def test_a_killed_search_goes_on_with_the_trial_that_it_was_at_from_its_last_epoch(home):
    home.space(KEYS, epochs=10)
    with home.started("--trials", 3, "--seeds", 0) as process:
        wait_for(lambda: epochs_done(home, "000") >= 5)
        process.kill()
        process.wait()
    orphan = home.runs()[0][1]
    wait_for(lambda: not Path(f"/proc/{orphan}").exists() or "Z" in Path(f"/proc/{orphan}/stat").read_text())
    before = epochs_done(home, "000")
    assert 5 <= before < 10
    with home.started("--trials", 3, "--seeds", 0) as process:
        wait_for(lambda: len(home.runs()) == 2)
        assert home.runs()[1][0] == "000" and epochs_done(home, "000") >= before
        process.communicate(timeout=200)
    assert [trial["epochs"] for trial in home.trials()][0] == "10" and len(home.trials()) == 3


# Several at once


def test_two_jobs_on_one_journal_never_run_the_same_trial(home):
    home.run("--trials", 12, "--seeds", 0, "--jobs", 2, env=home.env(0.05))
    assert sorted(name for name, _ in home.runs()) == [f"{number:03d}" for number in range(12)]
    assert len({tuple(t.values())[7:10] for t in home.trials()}) == 12


def test_jobs_share_the_runs_that_confirm(home):
    home.run("--trials", 5, "--seeds", 3, "--jobs", 2, *BEATEN, env=home.env(0.1))
    runs = [name for name, _, _, out in home.starts() if "/confirm/" in out]
    assert Counter(runs) == {"training": 6, "evaluating": 6} and home.result()["confirmed"]["runs"][2]["seed"] == 3


@GOES_ON
def test_a_confirming_run_that_is_killed_goes_on_from_its_last_epoch(home):
    home.space(KEYS, epochs=8)
    home.run("--trials", 5, "--seeds", 0, *BEATEN)
    with home.started("--trials", 5, "--seeds", 1, *BEATEN) as process:
        wait_for(lambda: [pid for _, _, pid, out in home.starts() if "/confirm/" in out])
        (pid,) = [pid for _, _, pid, out in home.starts() if "/confirm/" in out]
        os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=200)
    assert process.returncode == 0 and home.result()["confirmed"]
    times = Counter(out for name, _, _, out in home.starts() if name == "training" and "/confirm/" in out)
    assert sorted(times.values()) == [1, 2]


def test_another_storage_than_the_journal_can_be_used(home):
    home.run("--trials", 3, "--seeds", 0, "--storage", f"sqlite:///{home.folder}/study.db")
    assert len(home.trials()) == 3 and not (home.folder / "tune" / "journal.log").exists()
    done = home.run("--trials", 3, "--storage", "nodatabase://x", "--folder", home.folder / "other", expect=1)
    assert "--storage nodatabase://x" in done.stderr.strip().splitlines()[-1]


# Disks


def test_a_journal_whose_last_line_is_cut_short_is_repaired(home):
    home.run("--trials", 3, "--seeds", 0)
    journal = home.folder / "tune" / "journal.log"
    with open(journal, "ab") as file:
        file.write(b'{"op_code":4,"worker_id":"x"')
    done = home.run("--trials", 4, "--seeds", 0)
    assert "cut short" in done.stderr and len(home.trials()) == 4


@pytest.mark.promise("Disk", "A search goes on when there is room again")
def test_a_full_disk_is_one_line_and_the_study_goes_on_when_there_is_room(home, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        words = ("--trials", 6, "--seeds", 0, "--folder", disk / "tune")
        with home.started(*words) as process:
            wait_for(lambda: (disk / "tune" / "trials" / "002").exists())
            with contextlib.suppress(OSError), open(disk / "ballast", "wb") as file:
                while True:
                    file.write(b"0" * 4096)
                    file.flush()
            _, said = process.communicate(timeout=200)
        assert process.returncode == 1 and "No space left on device" in said.strip().splitlines()[-1], said
        assert said.strip().splitlines()[-1].startswith("autoconf: ") and "Traceback" not in said
        (disk / "ballast").unlink()
        home.run(*words)
        found = json.loads((disk / "tune" / "result.json").read_text())
        assert [trial["number"] for trial in found["trials"]] == list(range(6))
        assert {trial["state"] for trial in found["trials"]} <= {"complete", "pruned"}
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def test_a_full_disk_while_confirming_is_one_line_and_the_same_command_goes_on(home):
    full = home.env() | {"STAND_IN_FAIL": "/confirm/trial- OSError: [Errno 28] No space left on device"}
    said = home.run("--trials", 5, "--seeds", 1, *BEATEN, expect=1, env=full).stderr.strip().splitlines()
    (folder,) = (home.folder / "tune" / "confirm").glob("trial-*-1")
    assert said[-1] == f"autoconf: {folder}: No space left on device. Free some space; the same command goes on."
    before = len(home.runs())
    home.run("--trials", 5, "--seeds", 1, *BEATEN)
    assert [name for name, _ in home.runs()[before:]] == [folder.name] and home.result()["confirmed"]


def test_the_first_line_of_the_result_is_a_command_that_finds_the_same(home):
    home.space({"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "dice_weight": {"values": [0.3, 0.7]}})
    plan = home.folder / "my plan.yaml"
    plan.write_text("batch_size: 1\n")
    home.run("--plan", plan, "--trials", 3, "--seeds", 0, "--seed", 5, "--sampler", "random", *BEATEN)
    text, found = (home.folder / "tuned.yaml").read_text(), home.result()["trials"]
    shutil.rmtree(home.folder / "tune")
    program, *words = shlex.split(text.splitlines()[0].removeprefix("# "))
    assert program == "autoconf"
    again = [sys.executable, "-m", "autoconf", *words, "--folder", home.folder / "tune"]
    subprocess.run(list(map(str, again)), cwd=home.folder, env=home.env(), check=True, capture_output=True, timeout=200)
    assert (home.folder / "tuned.yaml").read_text() == text
    assert [trial["settings"] for trial in home.result()["trials"]] == [trial["settings"] for trial in found]


def test_a_flag_is_named_as_this_verb_has_it(home):
    assert "autoconf: --timeout is 'abc'." in home.run("--timeout", "abc", expect=1).stderr
    (home.folder / "afile").write_text("")
    said = home.run("--folder", home.folder / "afile" / "x", expect=1).stderr
    assert "is a file, not a folder. Give --folder another folder." in said


# The real bundles


@pytest.fixture
def real(tmp_path) -> Callable[..., str]:
    """Search two learning rates with a real bundle, one epoch each; returns what was printed."""

    def search(work: Path, bundle: Path, *words: object) -> str:
        keys = {"learning_rate": {"values": [1e-4, 1e-3]}}
        space = write_yaml(tmp_path / "space.yaml", {"max_epochs": 1, "keys": keys})
        given = ["tune", work, "--bundle", bundle, "--space", space, "--sampler", "grid", "--device", "cpu", *words]
        given += ["--folder", tmp_path / "tune", "--out", tmp_path / "tuned.yaml"]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "autoconf", *map(str, given)],
            cwd=REPO,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return search


@pytest.mark.long
def test_a_search_with_the_real_bundle(real, volumes, small, tmp_path):
    said = real(volumes.work, UNETR3D, "--plan", small, "--seeds", 1, *BEATEN)
    found = json.loads((tmp_path / "tune" / "result.json").read_text())
    assert [trial["state"] for trial in found["trials"]] == ["complete", "complete"]
    assert found["confirmed"] and found["confirmed"]["runs"][0]["fold"] == 1
    assert "Tuned minus default" in said
    assert not list((tmp_path / "tune").rglob("*.pt")), "weights of trials that are over take room"


@pytest.mark.long
def test_the_2d_bundle_can_be_searched_too(real, slices, pseudo_labelled, tmp_path):
    small = {"mask_dir": str(pseudo_labelled / "masks"), **TINY_2D}
    plan = write_yaml(tmp_path / "plan.yaml", small)
    real(slices.work, PSEUDO2D, "--seeds", 0, "--plan", plan, "--set", "image_size=64")
    assert yaml.safe_load((tmp_path / "tuned.yaml").read_text())["image_size"] == 64
