"""Several processes, by torchrun and gloo: the same numbers as one process, each case once, and a lost one survived."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers_bundles import TINY, UNETR3D, run_bundle, scripts, write_yaml
from helpers_distributed import PAIR, Ended, Job, finished, our_lines, rank_of, ranks, ranks_of, torchrun, trained
from hypothesis import given
from hypothesis import strategies as st
from monai.bundle import ConfigParser

from autoconf.bundle.progress import read_progress

distributed, lost = (scripts("unetr3d", name) for name in ("distributed", "lost"))
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for the ranks of a job in /proc")
TRAIN, EVALUATE = ["train.yaml", "multi_gpu_train.yaml"], ["evaluate.yaml", "multi_gpu_evaluate.yaml"]
EPOCHS, VALIDATED = 3, 3
GOES_ON = pytest.mark.promise(
    "Resume", "Of several processes a killed one ends the job in one line, and the job can go on"
)


@pytest.fixture(scope="module")
def plan(volumes, tmp_path_factory) -> Path:
    """Nothing drawn by chance but the order of the cases, which all share; a mean of crops that is one over ranks too.

    Three cases validate, which two processes cannot halve; the other four, twice each, make eight draws an epoch.
    """
    home = tmp_path_factory.mktemp("plan")
    datalist = json.loads(volumes.datalist.read_text())
    for place, item in enumerate(datalist["training"]):
        item["fold"] = 4 if place < VALIDATED else place % 4
    datalist["testing"] = datalist["training"][:VALIDATED]
    (home / "datalist.json").write_text(json.dumps(datalist))
    words = {
        "datalist": str(home / "datalist.json"),
        "dataset_dir": str(volumes.folder),
        "cache_dir": str(home / "preprocessed"),
        "fold": 4,
        "max_epochs": EPOCHS,
        "crops_per_case": 2,
        "batch_size": 1,
        "num_workers": 0,
        "patch_size": [32, 32, 32],
        "target_spacing": [5.0, 5.0, 5.0],
        "dropout": 0.0,
        "amp": False,
        "augmentation_strength": 0.0,
        "loss_function::batch": False,
        "train::crop": {"_target_": "scripts.crops.CentreCrop", "patch_size": "@patch_size"},
        **TINY,
    }
    return write_yaml(home / "plan.yaml", words)


@pytest.fixture(scope="module")
def alone(plan, tmp_path_factory) -> tuple[Path, Ended]:
    """One process with batches of two: the same whole batches as the pair's."""
    out = tmp_path_factory.mktemp("alone")
    return out, trained(1, [*TRAIN, plan], out / "log", "--output_dir", out, "--batch_size", 2)


@pytest.fixture(scope="module")
def pair(plan, tmp_path_factory) -> tuple[Path, Ended]:
    """Two processes with batches of one."""
    out = tmp_path_factory.mktemp("pair")
    return out, trained(2, [*TRAIN, plan], out / "log", "--output_dir", out)


def numbers(out: Path) -> np.ndarray:
    """(epochs, 3): epoch, loss and validation Dice of progress.csv."""
    return np.array([(e.number, e.loss, e.dice) for e in read_progress(str(out / "progress.csv"))[0]], float)


def epochs_done(out: Path) -> int:
    return len(read_progress(str(out / "progress.csv"))[0]) if (out / "progress.csv").exists() else 0


# The same as one process


def test_two_processes_learn_what_one_does_from_the_same_whole_batches(alone, pair):
    one, two = numbers(alone[0]), numbers(pair[0])
    assert one.shape == two.shape == (EPOCHS, 3)
    assert np.abs(one[:, 1] - two[:, 1]).max() < 1e-4
    assert np.abs(one[:, 2] - two[:, 2]).max() < 5e-3
    assert one[-1, 1] < one[0, 1] - 0.01  # it learned: equal numbers of an idle network would say nothing


def test_only_the_first_process_speaks_and_writes_plain_weights(pair):
    out, job = pair
    assert [job.said.count(f"training: epoch {epoch}/{EPOCHS}") for epoch in range(1, EPOCHS + 1)] == [1] * EPOCHS
    assert not any(name.startswith("module.") for name in torch.load(out / "model.pt", weights_only=True))
    writers = {path.name.split(".")[-2] for path in out.glob("tensorboard/events*")}  # their process ids
    assert len(writers) == 1
    assert our_lines(job.said) == []


def evaluated(processes: int | None, plan: Path, weights: Path, out: Path) -> dict[str, bytes]:
    """What an evaluation of the three cases writes: file -> content."""
    words = ("--checkpoint", weights / "model.pt", "--output_dir", out / "scores")
    own = write_yaml(out / "own.yaml", {k: v for k, v in ConfigParser.load_config_file(plan).items() if k in USED})
    if processes is None:
        run_bundle(UNETR3D, "evaluating", ["evaluate.yaml", own], *words)
    else:
        trained(processes, [*EVALUATE, own], out / "log", *words, run_id="evaluating")
    content = {path.name: path.read_bytes() for path in (out / "scores").iterdir()}
    return content | {ACCOUNT: re.sub(rb'"date": ".+"', b'"date": ""', content[ACCOUNT])}


ACCOUNT = "provenance.json"
USED = ("datalist", "dataset_dir", "patch_size", "target_spacing", "amp", *TINY)


def test_two_processes_evaluate_each_case_once_and_write_what_one_does(plan, pair, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = evaluated(None, plan, pair[0], tmp_path / "one")
    two = evaluated(2, plan, pair[0], tmp_path / "two")
    assert len([name for name in one if name.endswith(".nii.gz")]) == VALIDATED
    assert len(one["dice_raw.csv"].splitlines()) == VALIDATED + 1
    assert list(json.loads(two[ACCOUNT])["masks"]) == [
        name.removesuffix(".nii.gz") for name in sorted(one) if "nii" in name
    ]
    assert two == one  # masks, tables, and how the masks were made but for the time, to the byte


# Who gets what


@given(st.integers(1, 20), st.integers(1, 6))
def test_each_case_is_scored_once_whatever_the_number_of_processes(cases, processes):
    if cases < processes:
        return
    places = [distributed.Process(rank, processes, torch.device("cpu"), None) for rank in range(processes)]
    parts = [list(distributed.share(range(cases), place)) for place in places]
    assert sum(parts, []) == list(range(cases))
    assert {len(part) for part in parts} <= {cases // processes, -(-cases // processes)}


def test_two_draw_in_pairs_what_one_draws_in_batches_of_two():
    def draws(rank: int, processes: int, epoch: int) -> list[int]:
        sampler = distributed.RepeatingSampler(range(6), 2, rank, processes)
        sampler.epoch = epoch
        return list(sampler)

    for epoch in (1, 2):
        pairs = list(zip(draws(0, 2, epoch), draws(1, 2, epoch), strict=True))
        assert [case for both in pairs for case in both] == draws(0, 1, epoch)
    assert draws(0, 1, 1) != draws(0, 1, 2)


def test_each_process_draws_crops_of_its_own_and_shares_the_order():
    for rank in (0, 3):
        parser = ConfigParser()
        parser.read_config([str(UNETR3D / "configs" / name) for name in TRAIN])
        parser["distributed"] = distributed.Process(rank, 4, torch.device("cpu"), None)
        parser["seed"] = 7
        assert parser.get_parsed_content("run::1::seed") == 7 + rank
        assert parser.get_parsed_content("train::sampler::seed") == 7


# Refusals


def test_more_processes_than_cases_are_refused_in_one_line(plan, pair, tmp_path):
    own = {key: value for key, value in ConfigParser.load_config_file(plan).items() if key in USED}
    datalist = json.loads(Path(own["datalist"]).read_text())
    own["datalist"] = str(tmp_path / "datalist.json")
    Path(own["datalist"]).write_text(json.dumps({**datalist, "testing": datalist["testing"][:1]}))
    files = [*EVALUATE, write_yaml(tmp_path / "own.yaml", own)]
    words = ("--checkpoint", pair[0] / "model.pt", "--output_dir", tmp_path / "scores")
    job = ranks(2, files, tmp_path / "log", *words, run_id="evaluating")
    assert job.status != 0
    assert our_lines(job.said) == ["unetr3d: 1 cases to score for 2 processes. Start no more than 1."], job.said


def test_processes_that_do_not_see_the_same_folder_are_refused_in_one_line(plan, pair, tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "resume.pt").write_bytes((pair[0] / "resume_previous.pt").read_bytes())
    words = ("--output_dir", f"$'{tmp_path}/' + str(@distributed.rank)", "--resume", True)
    job = ranks(2, [*TRAIN, plan], tmp_path / "log", *words)
    assert job.status != 0
    (line,) = our_lines(job.said)
    assert "some processes begin with epoch 1, others with 3" in line and "--output_dir that all nodes share" in line


def test_a_loss_that_is_no_number_in_one_process_stops_all_in_one_line(plan, tmp_path):
    """Only rank 1's loss is broken, in the only step of the epoch; only rank 0 speaks."""
    broken = ("--loss_function::lambda_dice", "$[0.5, float('nan')][@distributed.rank]")
    broken += ("--crops_per_case", 1, "--batch_size", 2)
    job = ranks(2, [*TRAIN, plan], tmp_path / "log", "--output_dir", tmp_path, *broken)
    assert job.status != 0
    (line,) = our_lines(job.said)
    assert "the gradient is no number in step 1 (epoch 1, cases" in line
    assert not (tmp_path / "resume.pt").exists()


def test_what_all_processes_refuse_is_said_once(plan, tmp_path):
    job = ranks(2, [*TRAIN, plan], tmp_path / "log", "--output_dir", tmp_path, "--learning_rate", -1)
    assert job.status != 0
    (line,) = our_lines(job.said)
    assert "learning_rate is -1. It must be a number above 0" in line


def test_what_one_process_alone_refuses_is_said_too(plan, tmp_path):
    words = ("--output_dir", tmp_path, "--dice_weight", "$[0.5, 2.0][@distributed.rank]")
    job = ranks(2, [*TRAIN, plan], tmp_path / "log", *words)
    assert job.status != 0
    assert our_lines(job.said) == ["unetr3d: dice_weight is 2.0. It must be a number from 0 to 1."]


def test_more_processes_than_gpus_are_refused_in_one_line(tmp_path):
    (tmp_path / "begin.py").write_text(
        f"import sys, torch; sys.path.insert(0, {str(UNETR3D)!r})\n"
        "torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 0\n"
        "from scripts.distributed import start; start()\n"
    )
    job = ranks_of(2, "begin", [], tmp_path / "log", tmp_path)
    assert job.status != 0
    assert our_lines(job.said) == ["unetr3d: 0 GPUs for more processes. Lower torchrun's --nproc_per_node."]


# A process that is lost


def kill_one(job: Job, out: Path, rank: int) -> None:
    """kill -9 of a rank as soon as the first epoch is kept whole."""
    job.wait_for(lambda: (out / "resume.pt").exists() and len(job.workers()) == 2)
    os.kill(job.workers()[rank], signal.SIGKILL)


def is_one_line_of_a_lost_process(said: str) -> bool:
    (line,) = our_lines(said)
    return "a process of this job was lost" in line and "--resume True goes on after the last whole epoch" in line


@pytest.mark.parametrize("rank", [0, 1])
@GOES_ON
def test_a_killed_process_ends_the_job_in_one_line_and_the_job_can_go_on(plan, pair, tmp_path, rank):
    job = ([*TRAIN, plan], tmp_path / "log", "--output_dir", tmp_path)
    ended = ranks(2, *job, kill=(rank, (tmp_path / "resume.pt").exists))
    assert ended.status and is_one_line_of_a_lost_process(ended.said)
    trained(2, *job, "--resume", True)
    assert np.abs(numbers(tmp_path) - numbers(pair[0])).max() < 1e-5


@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 1])
@GOES_ON
def test_torchrun_too_ends_a_killed_job_in_one_line(plan, pair, tmp_path, rank):
    words = ("--output_dir", tmp_path)
    with torchrun(PAIR, [*TRAIN, plan], tmp_path / "log", *words) as job:
        kill_one(job, tmp_path, rank)
        assert job.wait() != 0
    assert is_one_line_of_a_lost_process(job.said)
    ours = job.said.split("torch.distributed.elastic.multiprocessing.errors")[0]
    assert ours.count("Traceback") <= 1, job.said  # torchrun's own report
    finished(PAIR, [*TRAIN, plan], tmp_path / "log", *words, "--resume", True)
    assert np.abs(numbers(tmp_path) - numbers(pair[0])).max() < 1e-5


@pytest.mark.long
@GOES_ON
def test_torchrun_starts_a_job_again_which_goes_on_after_the_last_epoch(plan, pair, tmp_path):
    launcher = ("--standalone", "--nproc_per_node=2", "--max_restarts=2")
    with torchrun(launcher, [*TRAIN, plan], tmp_path / "log", "--output_dir", tmp_path) as job:
        kill_one(job, tmp_path, 1)
        assert job.wait() == 0, job.said[-6000:]
    assert job.said.count("training: going on after epoch") == 1
    assert "beginning anew" not in job.said
    assert np.abs(numbers(tmp_path) - numbers(pair[0])).max() < 1e-5  # as if nothing had happened


def free_port() -> int:
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        return there.getsockname()[1]


@pytest.mark.long
def test_two_nodes_train_as_one_and_survive_the_loss_of_a_process(plan, pair, tmp_path):
    """Each node counts its own restarts: the one that lost nothing counts none, and must go on all the same."""
    launcher = ("--nnodes=2", "--nproc_per_node=1", "--max_restarts=2", "--rdzv_id=test", "--rdzv_backend=c10d")
    launcher += (f"--rdzv_endpoint=127.0.0.1:{free_port()}", "--local_addr=127.0.0.1")
    words = ("--output_dir", tmp_path)
    with (
        torchrun(launcher, [*TRAIN, plan], tmp_path / "log0", *words) as first,
        torchrun(launcher, [*TRAIN, plan], tmp_path / "log1", *words) as second,
    ):
        first.wait_for((tmp_path / "resume.pt").exists)
        victim = next(job for job in (first, second) if [rank_of(pid) for pid in job.workers()] == [1])
        os.kill(victim.workers()[0], signal.SIGKILL)
        assert (first.wait(), second.wait()) == (0, 0), first.said[-3000:] + second.said[-3000:]
    said = first.said + second.said
    assert said.count("training: going on after epoch") == 1 and "beginning anew" not in said
    assert np.abs(numbers(tmp_path) - numbers(pair[0])).max() < 1e-5


# Meeting


def meet_all(store: dist.Store, processes: int) -> list[tuple[int, str]]:
    """What each rank of one attempt is told; each waits in a thread, on a connection of its own."""
    found: dict[int, tuple[int, str]] = {}

    def one(rank: int, own: dist.Store) -> None:
        found[rank] = distributed.meet(own, rank, processes)

    threads = [threading.Thread(target=one, args=(rank, store.clone()), daemon=True) for rank in range(processes)]
    for thread in reversed(threads):  # rank 0 last
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    return [found[rank] for rank in range(processes)]


def test_an_attempt_gets_keys_of_its_own_whatever_the_one_before_left_in_the_store():
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    names = []
    for attempt in (1, 2, 3):
        found = meet_all(store, 3)
        assert found == [found[0]] * 3 and found[0][0] == attempt
        names.append(found[0][1])
        store.set("here/1", "a process that was killed before it got its answer")
    assert len(set(names)) == 3


def test_a_loss_is_told_from_a_mistake_also_through_what_monai_wraps_around_it():
    error = RuntimeError("Failed to evaluate '$@train#trainer.run()'")
    error.__cause__ = RuntimeError("[../gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1")
    assert lost.is_loss(error) and lost.is_loss(dist.DistNetworkError("gone"))
    assert not lost.is_loss(RuntimeError("shapes differ")) and not lost.is_loss(None)


STUCK = """
import ctypes
import sys
import torch.distributed as dist

sys.path.insert(0, sys.argv[1])
from scripts.lost import speak_for_the_lost

store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
speak_for_the_lost(store, "run it again")
print("ready", flush=True)
libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
libc.pthread_mutex_lock(mutex)
libc.pthread_mutex_lock(mutex)
"""


def test_a_process_that_waits_in_the_library_still_speaks_when_it_is_ended():
    """As one that waits for a dead GPU's answer: Python's own handlers would not run before that has come."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", STUCK, UNETR3D],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            process.terminate()
            assert process.wait(timeout=20) == 1
            assert our_lines(process.stderr.read())[0].endswith("ended from outside; run it again")
        finally:
            process.kill()
