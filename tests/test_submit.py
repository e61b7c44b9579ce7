"""Workers as jobs, by submitit's local executor: what Slurm would be told is the same but for its own options."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers_bundles import REPO, STAND_IN, UNETR3D, read_yaml, write_yaml

from autoconf.__main__ import check_words, main
from autoconf.errors import AutoconfError
from autoconf.submit import submit
from autoconf.workers.cluster import ClusterWorker, parse_options


@pytest.fixture
def farm(volumes, small, tmp_path) -> Iterator:
    """Start `submit --executor local` of a tiny cross-validation, with a stand-in for the trainings."""
    started = []
    plan = write_yaml(tmp_path / "plan.yaml", read_yaml(small) | {"max_epochs": 3})

    def start(*words: object, folds: str = "0,1", pause: float = 0.5) -> subprocess.Popen:
        command = ["submit", "--executor", "local", "--folder", tmp_path / "jobs", *words, "--", "crossval"]
        command += [volumes.work, "--bundle", UNETR3D, "--plan", plan, "--out", tmp_path / "cv", "--folds", folds]
        path = f"{STAND_IN}{os.pathsep}{REPO}"
        process = subprocess.Popen(
            [sys.executable, "-m", "autoconf", *map(str, command)],
            env=os.environ
            | {"PYTHONPATH": path, "STAND_IN_LOG": str(tmp_path / "log"), "STAND_IN_SECONDS": str(pause)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with the jobs, if a test left some
        process.communicate()


def lines(tmp_path: Path, what: str) -> list[str]:
    path = tmp_path / "log"
    return sorted(line for line in (path.read_text() if path.exists() else "").splitlines() if line.startswith(what))


def test_two_jobs_share_the_folds_and_one_scores(farm, tmp_path):
    process = farm("--workers", 2)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert out.count("job ") == 2 and out.splitlines()[-1] == "all have ended"
    assert lines(tmp_path, "begin") == ["begin 0", "begin 1"] and lines(tmp_path, "TWO") == []
    said = [path.read_text() for path in sorted((tmp_path / "jobs").glob("*_log.out"))]
    assert len(said) == 2 and sum("each by a network that never saw it" in text for text in said) == 1
    assert all("training; its log" in text for text in said)


def test_a_job_that_is_told_to_end_goes_on_in_the_queue_where_it_was(farm, tmp_path):
    """Slurm, and submitit's local executor alike, send SIGUSR2 before the time is up."""
    process = farm(pause=1.0)
    ends = time.monotonic() + 60
    while "epoch 0 1" not in lines(tmp_path, "epoch"):
        assert time.monotonic() < ends and process.poll() is None
        time.sleep(0.02)
    (controller,) = children(process.pid)
    (job,) = children(controller)
    os.kill(job, signal.SIGUSR2)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert lines(tmp_path, "epoch") == [f"epoch {fold} {epoch}" for fold in (0, 1) for epoch in (1, 2, 3)]
    assert lines(tmp_path, "begin") == ["begin 0", "begin 0", "begin 1"]
    assert (tmp_path / "cv" / "crossval.csv").exists()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_job_that_fails_is_named_and_its_reason_is_in_its_log(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    words = [
        "submit",
        "--executor",
        "local",
        "--folder",
        str(tmp_path),
        "--",
        "plan",
        str(tmp_path / "no.yaml"),
        "--show",
    ]
    assert main(words) == 1
    err = capsys.readouterr().err
    assert "1 of 1 workers failed" in err and len(err.splitlines()) == 1
    (log,) = tmp_path.glob("*_log.err")
    assert str(log) in err and "no.yaml is not there" in log.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "submit needs `-- VERB ...`"),
        (["crossval", "work"], "submit needs `-- VERB ...`"),
        (["--", "crosval"], "no verb 'crosval' to submit"),
        (["--", "submit", "--", "plan", "x"], "no verb 'submit' to submit"),
        (["--", "plan", "plan.yaml", "--fast"], "plan has no flag '--fast'"),
        (["--workers", "0", "--", "plan", "x"], "--workers is 0. It must be at least 1"),
        (["--executor", "pbs", "--", "plan", "x"], "--executor is 'pbs'"),
        (["--set", "partition", "--", "plan", "x"], "--set partition: write it as KEY=VALUE"),
        (["--executor", "local", "--set", "partition=x", "--", "plan", "x"], "local took no job: Unknown argument"),
        (["--executor", "local", "--set", "mem_gb=x", "--", "plan", "x"], 'Parameter "mem_gb" expected type'),
    ],
)
def test_what_cannot_be_submitted_is_one_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(["submit", *words]) == 1
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1, err


def test_without_submitit_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert main(["submit", "--folder", str(tmp_path), "--", "plan", "x", "--show"]) == 1
    assert 'pip install "gliobundle[slurm]"' in capsys.readouterr().err


def test_words_after_two_dashes_belong_to_the_command():
    found = check_words("submit", submit, ["--workers", "3", "--set", "a=1", "--", "score", "--out", "x", "--help"])
    assert found == {"workers": "3", "set": '["a=1"]', "command": '["score", "--out", "x", "--help"]'}
    with pytest.raises(AutoconfError, match="no flag '--'"):
        from autoconf.plan import plan

        check_words("plan", plan, ["--", "x"])


def test_words_after_two_dashes_reach_the_command_as_they_are(monkeypatch):
    from autoconf import __main__ as command

    seen = []
    monkeypatch.setattr(command, "run", seen.append)
    assert main(["submit", "--debug", "--", "score", "--debug"]) == 0
    assert seen == [["submit", "--", "score", "--debug"]]


def test_flags_of_every_verb_are_no_typing_errors_of_a_command(tmp_path, monkeypatch):
    from autoconf.workers import cluster

    given = []
    monkeypatch.setattr(cluster, "submit_workers", lambda command, *_: given.append(command) or [])
    submit(folder=str(tmp_path), command=["plan", "plan.yaml", "--show", "--debug"])
    assert given == [["plan", "plan.yaml", "--show", "--debug"]]


def test_a_folder_that_is_none_is_named_by_this_verbs_flag(tmp_path):
    (tmp_path / "afile").write_text("")
    with pytest.raises(AutoconfError, match="afile is a file, not a folder. Give --folder another folder."):
        submit(folder=str(tmp_path / "afile" / "x"), command=["plan", "plan.yaml"])


def test_options_are_yaml():
    words = ["gpus_per_node=1", "partition=gpu", "mem_gb=32"]
    assert parse_options(words) == {"gpus_per_node": 1, "partition": "gpu", "mem_gb": 32}


def test_slurm_gets_its_options_under_its_own_names_and_a_worker_that_can_be_asked_again(tmp_path, monkeypatch):
    """Up to the file that sbatch would read; there is no Slurm here."""
    import submitit

    from autoconf.workers import cluster

    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 2))
    texts = []

    def keep(self, command):
        texts.append(self._make_submission_file_text(command, "x"))
        raise submitit.core.utils.FailedSubmissionError("stop here")

    monkeypatch.setattr(submitit.SlurmExecutor, "_submit_command", keep)
    with pytest.raises(AutoconfError, match="slurm took no job: stop here"):
        cluster.submit_workers(["plan", "x"], 2, tmp_path, "slurm", {"partition": "gpu", "gpus_per_node": 1})
    text = texts[0].splitlines()
    assert "#SBATCH --partition=gpu" in text and "#SBATCH --gpus-per-node=1" in text
    assert f"#SBATCH --time={24 * 60}" in text and "#SBATCH --job-name=autoconf" in text
    again = ClusterWorker(("plan", "x")).checkpoint()
    assert again.function == ClusterWorker(("plan", "x"))
