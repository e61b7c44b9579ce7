"""The label-efficiency curve: few labels and nothing else are what differs, whatever dies, whoever helps.

But for the last test these run a stand-in for MONAI, which trains in no time.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers_bundles import PSEUDO2D, REPO, STAND_IN, UNETR3D, read_yaml, without, write_yaml
from helpers_processes import run_module
from helpers_volumes import store, tumour
from hypothesis import given
from hypothesis import strategies as st

from autoconf.__main__ import main
from autoconf.data.datalist import Case, Datalist, read_datalist
from autoconf.experiments.efficiency import draw
from autoconf.experiments.efficiency.masks import dice_of_masks
from autoconf.experiments.efficiency.result import paired, words

STARTS = ("scratch", "pseudo", "mae")


class Work:
    """A curve with the stand-in: its command line, and what was done."""

    def __init__(self, home: Path, work: Path, plan: Path) -> None:
        self.home, self.out, self.plan, self.work = home, home / "curve", plan, work
        self.started: list[subprocess.Popen] = []

    def words(self, *given: object) -> list[str]:
        """Of a curve, after `autoconf`."""
        command = ["efficiency", self.work, "--bundle", UNETR3D, "--plan", self.plan, "--out", self.out, *given]
        return [str(word) for word in command]

    def env(self, seconds: float = 0.0, fail: str = "") -> dict[str, str]:
        env = {"PYTHONPATH": f"{STAND_IN}{os.pathsep}{REPO}", "STAND_IN_LOG": str(self.home / "log")}
        return os.environ | env | {"STAND_IN_SECONDS": str(seconds), "STAND_IN_FAIL": fail}

    def start(self, *given: object, seconds: float = 0.0, fail: str = "") -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "autoconf", *self.words(*given)],
            env=self.env(seconds, fail),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *given: object, expect: int = 0, fail: str = "") -> tuple[str, str]:
        done = run_module("autoconf", self.words(*given), None, self.env(fail=fail))
        assert done.returncode == expect, f"{done.stdout}\n{done.stderr}"
        return done.stdout, done.stderr

    def log(self) -> list[str]:
        path = self.home / "log"
        return path.read_text().splitlines() if path.exists() else []

    def trained(self) -> dict[str, int]:
        """Part -> how often a training of it was started."""
        runs = [line.split(" ", 4) for line in self.log() if line.startswith("run training")]
        return dict(Counter(str(Path(out).parent.relative_to(self.out)) for *_, out in runs))

    def rows(self) -> list[dict[str, str]]:
        with open(self.out / "curve.csv", newline="") as file:
            return list(csv.DictReader(file))

    def points(self) -> set[tuple[int, str, int]]:
        return {(int(row["size"]), row["start"], int(row["seed"])) for row in self.rows() if row["size"] != "0"}

    def read(self, *path: str) -> dict:
        return json.loads(self.out.joinpath(*path).read_text())


def ended(process: subprocess.Popen, expect: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == expect, f"{out}\n{err}"
    return out, err


def new_work(volumes, small, home: Path) -> Work:
    return Work(home, volumes.work, write_yaml(home / "plan.yaml", read_yaml(small) | {"max_epochs": 2}))


@pytest.fixture
def job(volumes, small, tmp_path) -> Iterator[Work]:
    work = new_work(volumes, small, tmp_path)
    yield work
    for process in work.started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def done(volumes, small, tmp_path_factory) -> tuple[Work, str]:
    """Two seeds, two sizes, all starts; and what was said."""
    work = new_work(volumes, small, tmp_path_factory.mktemp("efficiency"))
    return work, work.run("--sizes", "4,2", "--seeds", 2, "--set", "freeze_epochs=1", "--mae-epochs", 3)[0]


@pytest.fixture(scope="module")
def data(volumes) -> Datalist:
    return read_datalist(str(volumes.datalist))


def test_the_mask_of_a_converted_case_is_found_by_its_absolute_path(tmp_path):
    for name in ("marked", "elsewhere"):
        (tmp_path / name).mkdir()
    store(tumour(), tmp_path / "elsewhere" / "a-seg.nii.gz")
    store((tumour() > 0).astype(np.uint8), tmp_path / "marked" / "a.nii.gz")
    case = Case("a", "a", (), fold=0, label=str(tmp_path / "elsewhere" / "a-seg.nii.gz"))
    data = Datalist("d", "volumes", str(tmp_path / "data"), (case,))
    assert dice_of_masks(data, tmp_path / "marked") == {"a": 1.0}


# Who keeps his labels


def listed(scans: list[int], folds: list[int]) -> Datalist:
    """Patient number k has scans[k] scans, all in folds[k]."""
    pairs = enumerate(zip(scans, folds, strict=True))
    cases = [Case(f"p{k}-{n}", f"p{k}", ("x",), fold=fold) for k, (count, fold) in pairs for n in range(count)]
    return Datalist("d", "volumes", "/", tuple(cases))


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2)), min_size=2, max_size=12), st.integers(0, 99))
def test_draws_are_nested_whole_patients_outside_the_fold(patients, seed):
    some = listed(*map(list, zip(*patients, strict=True)))
    there = draw.order(some, 0, seed)
    before: set[str] = set()
    for size in range(1, len(there) + 1):
        cases = draw.drawn(some, 0, seed, size)
        names = {case.patient for case in cases}
        assert before < names and len(names) == size and all(case.fold != 0 for case in cases)
        assert len(cases) == sum(case.patient in names for case in some.training)
        before = names
    shuffled = some.with_cases(random.Random(seed).sample(some.training, len(some.training)))
    assert draw.order(shuffled, 0, seed) == there


def test_another_seed_draws_others():
    some = listed([1] * 20, [1] * 20)
    assert len({tuple(draw.order(some, 0, seed)[:4]) for seed in range(1, 6)}) == 5


def test_no_run_is_shown_a_label_that_it_may_not_have(done, data):
    work, _ = done
    folds = {case.name: case.fold for case in data.training}
    tested = {case.name for case in data.testing}
    lists = [path for path in work.out.rglob("datalist.json") if path.parent != work.out]
    assert len(lists) == 2 + 2 * (2 + 6)  # pseudo-masks before and after; of each seed, pre-trainings and points
    for path in lists:
        given = json.loads(path.read_text())
        assert not given["testing"] and not tested & {i["case"] for i in given["training"] + given["unlabelled"]}
    assert all("label" not in item for item in work.read("pseudo-masks", "datalist.json")["unlabelled"])
    for seed, fold in ((1, 0), (2, 1)):
        held = {case for case in folds if folds[case] == fold}
        mae = work.read(f"seed-{seed}", "pretrain-mae", "datalist.json")
        assert {item["case"]: item["fold"] for item in mae["training"]} == folds
        assert not any("label" in item for item in mae["training"] + mae["unlabelled"])
        pseudo = work.read(f"seed-{seed}", "pretrain-pseudo", "datalist.json")
        assert {item["case"] for item in pseudo["training"]} == held  # to validate on
        assert {item["case"]: item["side"] for item in pseudo["unlabelled"]} == {
            case: of for case, of in folds.items() if case not in held
        }
        root = Path(pseudo["dataset_dir"])
        assert all(str(work.out / "pseudo-masks") in str(root / item["label"]) for item in pseudo["unlabelled"])
        for size in (2, 4):
            for start in STARTS:
                shown = work.read(f"seed-{seed}", f"{size}-{start}", "datalist.json")
                cases = {item["case"] for item in shown["training"]}
                expected = {case.name for case in draw.drawn(data, fold, seed, size)}
                assert cases == expected | held and not expected & held and shown["unlabelled"] == []


def test_points_of_a_seed_differ_in_labels_and_start_alone(done):
    work, _ = done
    for seed in (1, 2):
        overrides = {
            path.parent.name: read_yaml(path) for path in (work.out / f"seed-{seed}").glob("[0-9]*/override.yaml")
        }
        assert len(overrides) == 6
        plain = {json.dumps(one | {"freeze_epochs": None}, sort_keys=True) for one in overrides.values()}
        assert len(plain) == 1  # the same epochs, crops, fold and seed, whatever the size
        frozen = {name for name, one in overrides.items() if one.get("freeze_epochs") == 1}
        assert frozen == {"2-pseudo", "2-mae", "4-pseudo", "4-mae"}
        assert len({row["steps"] for row in work.rows() if row["seed"] == str(seed) and row["size"] != "0"}) == 1
        mae = read_yaml(work.out / f"seed-{seed}" / "pretrain-mae" / "override.yaml")
        assert mae["max_epochs"] == mae["val_interval"] == 3 and "train::sampler::num_samples" not in mae


# What comes out


def test_the_curve_has_every_point_and_what_a_start_gains(done):
    work, said = done
    assert work.points() == {(size, start, seed) for size in (2, 4) for start in STARTS for seed in (1, 2)}
    dice = {(int(r["size"]), r["start"], int(r["seed"])): float(r["dice"]) for r in work.rows()}
    cases = {(int(r["size"]), r["start"], int(r["seed"])): int(r["cases"]) for r in work.rows()}
    scored = {int(r["seed"]): int(r["scored"]) for r in work.rows()}
    for size, start, seed in work.points():
        gain = 0 if start == "scratch" else 0.2 / cases[size, start, seed]
        assert dice[size, start, seed] - dice[size, "scratch", seed] == pytest.approx(gain, abs=1e-5)
    result = work.read("result.json")
    of_size = {(d["patients"], d["start"]): d for d in result["differences"]}
    assert set(of_size) == {(size, start) for size in (2, 4) for start in ("pseudo", "mae")}
    mean = sum(0.2 / cases[2, "mae", seed] * scored[seed] for seed in (1, 2)) / (scored[1] + scored[2])
    assert of_size[2, "mae"]["difference"] == pytest.approx(mean, abs=1e-5) and mean > 0.05
    assert 0 < result["reference"]["dice"] <= 1 and (0, "pseudo-masks", 2) in dice
    assert (work.out / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert sum("minus scratch" in line for line in said.splitlines()) == 4
    assert "Too few patients to tell." in said
    assert not list(work.out.rglob("model.pt")) and not list(work.out.rglob("resume.pt"))
    assert {path.parts[-3] for path in work.out.rglob("model_final.pt")} == {"pretrain-mae", "pretrain-pseudo"}


def test_what_is_done_is_not_done_again_and_more_sizes_seeds_and_starts_may_follow(job):
    job.run("--sizes", 2, "--seeds", 1, "--starts", "scratch")
    job.run("--sizes", "2,4", "--seeds", 2, "--starts", "mae,scratch")
    assert len(job.points()) == 8 and len(job.trained()) == 10 and set(job.trained().values()) == {1}
    assert "marked" not in " ".join(job.log())  # nobody asked for pseudo-masks
    assert job.read("result.json")["reference"] == {}


def dice_of(values: np.ndarray) -> dict[str, float]:
    return {f"c{number}": float(value) for number, value in enumerate(values)}


def judged(differences: np.ndarray, **more: object) -> str:
    base = np.linspace(0.5, 0.6, len(differences))
    patients = {f"c{number}": f"p{number}" for number in range(len(differences))}
    found = paired({1: dice_of(base + differences)}, {1: dice_of(base)}, patients)
    return words({"patients": 4, "start": "mae", "p_holm": found["p"], "too_few": False} | found | more)


def test_a_line_says_what_the_data_show_and_no_more():
    gain = np.linspace(0.01, 0.1, 12)
    assert judged(gain).endswith("seed 1, p 0.00049. Better.")
    assert judged(-gain).endswith("Worse.")
    assert judged(gain, p_holm=0.06).endswith("Wilcoxon's test does not agree: no difference shown.")
    assert judged(gain, too_few=True).endswith("Too few patients to tell.")
    mixed = np.linspace(-0.1, 0.11, 12)
    assert judged(mixed).endswith("The interval spans 0: no difference shown.")
    assert "Dice +0.005 [-0.0" in judged(mixed)
    assert judged(mixed, too_few=True).endswith(
        "spans 0: no difference shown, and these are too few patients to show one."
    )


def test_only_seeds_that_both_have_are_compared_and_a_case_counts_once():
    patients = {"a": "A", "b": "B"}
    own = {1: {"a": 0.9, "b": 0.7}, 2: {"a": 0.7, "b": 0.5}, 3: {"a": 0.0, "b": 0.0}}
    theirs = {1: {"a": 0.6, "b": 0.6}, 2: {"a": 0.6, "b": 0.6}, 4: {"a": 0.0, "b": 0.0}}
    found = paired(own, theirs, patients)
    assert found["seeds"] == [1, 2] and found["scored_cases"] == found["scored_patients"] == 2
    assert found["difference"] == pytest.approx(0.1) and (found["low"], found["high"]) == pytest.approx((0, 0.2))


# What dies, who helps


def test_after_kill_9_it_goes_on_where_it_was(job):
    given = ("--sizes", 2, "--seeds", 1, "--starts", "scratch,mae")
    process = job.start(*given, seconds=0.5)
    ends = time.monotonic() + 60
    while "epoch 0 1" not in job.log():  # of the first part, the pre-training
        assert time.monotonic() < ends
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    job.run(*given)
    assert job.trained() == {"seed-1/pretrain-mae": 2, "seed-1/2-scratch": 1, "seed-1/2-mae": 1}
    epochs = Counter(line for line in job.log() if line.startswith(("epoch", "TWO")))
    assert epochs == {"epoch 0 1": 3, "epoch 0 2": 3}  # no epoch of the three trainings twice


def test_a_part_that_fails_is_named_and_ends_only_what_needs_it(job):
    given = ("--sizes", "2,4", "--seeds", 1)
    out, err = job.run(*given, expect=1, fail="/pretrain-mae/ unetr3d: this cannot be trained.")
    assert err.startswith("autoconf: 1 parts failed. seed 1, pre-training mae: unetr3d: this cannot be trained (log: ")
    assert "Not begun for want of them: seed 1, 2 patients, mae, seed 1, 4 patients, mae." in err
    assert len(err.splitlines()) == 1 and "2 of 6 points are missing." in out
    assert job.points() == {(size, start, 1) for size in (2, 4) for start in STARTS[:2]}
    job.run(*given)
    assert len(job.points()) == 6 and job.trained()["seed-1/2-scratch"] == 1


def test_two_jobs_share_the_parts(job):
    out, _ = job.run("--sizes", 2, "--seeds", 2, "--starts", "scratch,mae", "--jobs", "2")
    assert len(job.trained()) == 6 and set(job.trained().values()) == {1} and len(job.points()) == 4
    assert "wrote" in out and not [line for line in job.log() if line.startswith("TWO")]


# What is refused


@pytest.fixture
def idle(monkeypatch) -> None:
    """Whoever gets as far as a run has not refused."""

    def began(*_: object) -> None:
        raise AssertionError("it began")

    monkeypatch.setattr("autoconf.workers.work.do_parts", began)


def refused(capsys, said: str, *given: object) -> None:
    assert main(["efficiency", *map(str, given)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("autoconf: ") and said in err and len(err.splitlines()) == 1, err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--sizes", "2,99"], "--sizes 99: without fold "),
        (["--sizes", "2,x"], "'x' is no number of patients. Write them as 4,8,16."),
        (["--sizes", "0"], "'0' is no number of patients"),
        (["--starts", "scratch,psuedo"], "no start 'psuedo'. Did you mean 'pseudo'?"),
        (["--seeds", "0"], "--seeds is 0. It must be at least 1."),
        (["--mae-epochs", "-1"], "--mae-epochs is -1"),
        (["--folds", "0,9"], "no fold '9'. There are: "),
        (["--device", "gpu"], "--device is 'gpu'"),
        (["--set", "max_epochs=3"], "'max_epochs' is set by this command"),
        (["--set", "encoder_facto=1"], "has no 'encoder_facto' to override"),
        (["--set", "freeze_epochs=many"], "'many' is no value of that kind"),
        (["--set", "regions=wt,tc"], "pseudo-masks hold the whole tumour alone"),
        (["--network", "segresnet"], "Leave mae out of --starts"),
    ],
)
def test_bad_words_are_one_line_before_anything_is_written(volumes, small, tmp_path, capsys, idle, given, said):
    words_ = [] if "--sizes" in given else ["--sizes", "2"]
    common = (volumes.work, "--bundle", UNETR3D, "--plan", small, "--out", tmp_path / "curve", *words_)
    refused(capsys, said, *common, *given)
    assert not (tmp_path / "curve").exists()


def test_other_data_and_other_settings_are_refused(job, slices, tmp_path, capsys, idle):
    plan = write_yaml(tmp_path / "images.yaml", {"image_size": 64})
    said = "bundle 'pseudo2d' is one for images, without true masks"
    refused(capsys, said, slices.work, "--bundle", PSEUDO2D, "--plan", plan)
    given = ("--sizes", 2, "--seeds", 1, "--starts", "scratch")
    job.run(*given)
    _, err = job.run(*given, "--epochs", 5, expect=1)
    assert "begun with epochs of scratch 2, not 5" in err and len(err.splitlines()) == 1
    _, err = job.run(*given, "--folds", "0", expect=1)
    assert "begun with folds [0, 1, 2, 3, 4], not [0]" in err


# The real bundle


@pytest.mark.long
def test_the_real_bundle_goes_through_the_whole_chain(volumes, small, tmp_path):
    """Both pre-trainings, with two labelled patients. The files of the test cases are gone: nobody may ask for them."""
    shutil.copytree(volumes.folder, tmp_path / "data")
    content = json.loads(volumes.datalist.read_text()) | {"dataset_dir": str(tmp_path / "data")}
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "datalist.json").write_text(json.dumps(content))
    for item in content["testing"]:
        for name in [*item["image"], item["label"]]:
            (tmp_path / "data" / name).unlink()
    plan = without(small, tmp_path / "plan.yaml", "network_def::feature_size")  # which no autoencoder has
    given = [tmp_path / "work", "--bundle", UNETR3D, "--plan", plan, "--sizes", 2, "--seeds", 1, "--folds", 0]
    given += ["--starts", "pseudo,mae"]
    command = [sys.executable, "-W", "ignore", "-m", "autoconf", "efficiency", *map(str, given)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)}
    done = subprocess.run(command, env=env, timeout=400, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "work" / "efficiency"
    with open(out / "curve.csv", newline="") as file:
        rows = {row["start"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"pseudo", "mae", "pseudo-masks"} and all(0 <= float(row["dice"]) <= 1 for row in rows.values())
    crops = sum(item["fold"] != 0 for item in content["training"])  # one each
    for start in ("pseudo", "mae"):
        assert int(rows[start]["steps"]) == -(-crops // 2)
        assert "training: loaded " in (out / "seed-1" / f"2-{start}" / "log.txt").read_text()
