"""Several processes train, validate and evaluate as one does; a lost one ends the job with a line, or it goes on."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers_bundles import UNETR3D, assert_refused, run_bundle, scripts, write_yaml

from autoconf.report.read import read_progress

distributed = scripts("unetr3d", "distributed")
LOSS, DICE = 1e-4, 5e-3  # how far two processes may be from one: sums are added in another order


def torchrun(processes: int, *words: str) -> tuple[str, ...]:
    return ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", *words)


# Who gets which cases


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("cases", [5, 6, 7, 11])
def test_each_case_is_validated_and_evaluated_by_one_process(cases, processes):
    data = list(range(cases))
    ranks = [distributed.Process(rank, processes, torch.device("cpu"), None) for rank in range(processes)]
    for shares in (
        [list(distributed.validation_sampler(data, process)) for process in ranks],
        [list(distributed.share(data, process)) for process in ranks],
    ):
        assert sorted(case for share in shares for case in share) == data
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_fewer_cases_than_processes_are_refused():
    process = distributed.Process(0, 3, torch.device("cpu"), None)
    for function in (distributed.validation_sampler, distributed.share):
        with pytest.raises(SystemExit, match="2 .*cases for 3 processes. Start fewer"):
            function([1, 2], process)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_draw_together_what_one_draws_alone(processes):
    data = list(range(6))
    alone = distributed.RepeatingSampler(data, repeats=2, rank=0, processes=1, seed=3)
    together = [distributed.RepeatingSampler(data, 2, rank, processes, seed=3) for rank in range(processes)]
    epochs = []
    for epoch in (1, 2):
        for sampler in (alone, *together):
            sampler.set_epoch(epoch)
        drawn = [case for step in zip(*together, strict=True) for case in step]
        assert drawn == list(alone) and len(drawn) == 12
        epochs.append(drawn)
    assert epochs[0] != epochs[1] and sorted(epochs[0]) == sorted(epochs[1])


# Meeting


def test_processes_agree_on_a_name_though_the_store_holds_what_dead_ones_said():
    store = dist.HashStore()
    names = [together(store) for _ in range(3)]  # each time the job starts again, in the store of the first time
    assert all(len(found) == 3 and len(set(found)) == 1 for found in names)
    assert [found[0].partition("-")[0] for found in names] == ["0", "1", "2"]


def together(store: dist.Store) -> list[str]:
    """The names that three processes get, of which one comes late."""
    found: list[str] = []

    def come(rank: int) -> None:
        time.sleep(0.2 * (rank == 1))
        found.append(distributed.agree(store, rank, 3))

    threads = [threading.Thread(target=come, args=(rank,), daemon=True) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return found


# Two as one


@pytest.fixture(scope="module")
def plain(small, tmp_path_factory) -> Path:
    """Nothing is drawn at random but the order of the cases, and a loss is the mean of the crops' losses."""
    return write_yaml(
        tmp_path_factory.mktemp("plain") / "plain.yaml",
        {
            **{"max_epochs": 3, "crops_per_case": 2, "dropout": 0.0, "augmentation_strength": 0.0, "fold": 4},
            "loss_function::batch": False,
            "train::crop": {"_target_": "scripts.crops.CentreCrop", "patch_size": "@patch_size"},
        },
    )


def train(volumes, small, plain, out: Path, processes: int, batch: int, *words: object, **more):
    return run_bundle(
        *(UNETR3D, "training", ["train.yaml", "multi_gpu_train.yaml", small, plain]),
        *("--datalist", volumes.datalist, "--output_dir", out, "--batch_size", batch, *words),
        launcher=torchrun(processes),
        **more,
    )


@pytest.fixture(scope="module")
def trained(volumes, small, plain, tmp_path_factory) -> tuple[Path, Path]:
    """Output folders of one process with batches of two, and of two processes with batches of one."""
    home = tmp_path_factory.mktemp("trained")
    for name, processes, batch in (("one", 1, 2), ("two", 2, 1)):
        done = train(volumes, small, plain, home / name, processes, batch)
        assert done.stderr.count("training: epoch 3/3") == 1  # rank 0 alone speaks
    return home / "one", home / "two"


def curve(out: Path) -> np.ndarray:
    return np.array([(e.loss, e.dice, e.rate) for e in read_progress(str(out / "progress.csv"))[0]])


def test_two_processes_have_the_loss_curve_and_the_validation_of_one(trained):
    one, two = map(curve, trained)
    assert len(one) == 3 and one[0, 0] - one[-1, 0] > 100 * LOSS  # it learned much more than the tolerance
    np.testing.assert_allclose(two[:, 0], one[:, 0], atol=LOSS)
    np.testing.assert_allclose(two[:, 1], one[:, 1], atol=DICE)
    np.testing.assert_allclose(two[:, 2], one[:, 2])


def test_only_one_process_writes_and_what_it_writes_any_run_can_read(trained):
    for out in trained:
        assert not list(out.rglob("*.partial"))
        weights = torch.load(out / "model.pt", weights_only=True)
        assert not any(name.startswith("module.") for name in weights)
        # events.out.tfevents.TIME.MACHINE.PROCESS.NUMBER
        writers = {path.name.split(".")[-2] for path in (out / "tensorboard").glob("events*")}
        assert len(writers) == 1


def rows(path: Path) -> dict[str, float]:
    with open(path, newline="") as stream:
        return {name: float(value) for name, value, *_ in list(csv.reader(stream))[1:]}


def test_two_processes_evaluate_each_case_once_with_the_scores_and_masks_of_one(volumes, small, trained, tmp_path):
    words = ("--datalist", volumes.datalist, "--checkpoint", trained[0] / "model.pt", "--section", "validation")
    words += ("--fold", 4)
    run_bundle(UNETR3D, "evaluating", ["evaluate.yaml", small], *words, "--output_dir", tmp_path / "one")
    run_bundle(
        *(UNETR3D, "evaluating", ["evaluate.yaml", "multi_gpu_evaluate.yaml", small], *words),
        *("--output_dir", tmp_path / "two"),
        launcher=torchrun(2),
    )
    one, two = (rows(tmp_path / name / "dice_raw.csv") for name in ("one", "two"))
    assert len(one) == 2 and two == pytest.approx(one, abs=1e-6)
    masks = {name: sorted((tmp_path / name).glob("*.nii.gz")) for name in ("one", "two")}
    assert [m.name for m in masks["one"]] == [m.name for m in masks["two"]] and len(masks["one"]) == 2
    for first, second in zip(masks["one"], masks["two"], strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "two" / "metrics.csv").read_text() == (tmp_path / "one" / "metrics.csv").read_text()


def test_without_torchrun_it_is_one_line(volumes, small, tmp_path):
    done = run_bundle(
        *(UNETR3D, "training", ["train.yaml", "multi_gpu_train.yaml", small]),
        *("--datalist", volumes.datalist, "--output_dir", tmp_path),
        expect=1,
    )
    assert_refused(done, "unetr3d", "several processes need torchrun")


# A lost process


@contextlib.contextmanager
def started(volumes, small, plain, out: Path, *launchers: tuple[str, ...]) -> Iterator[list[subprocess.Popen]]:
    """Jobs that train for many epochs, one for each launcher; killed in the end, with all that they started."""
    files = [str(UNETR3D / "configs" / name) for name in ("train.yaml", "multi_gpu_train.yaml")]
    words = ["-m", "monai.bundle", "run", "training", "--config_file", str([*files, str(small), str(plain)])]
    words += ["--datalist", str(volumes.datalist), "--output_dir", str(out), "--batch_size", "1", "--max_epochs", "8"]
    jobs = []
    for number, launcher in enumerate(launchers):
        with open(out / f"log-{number}.txt", "w") as log:
            command = [sys.executable, "-W", "ignore", *launcher, *words]
            env = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
            jobs.append(subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True))
    try:
        yield jobs
    finally:
        for job in jobs:
            for pid in (*children(job.pid), job.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            job.wait()


def children(pid: int) -> list[int]:
    """Processes that train, of a torchrun."""
    done = subprocess.run(["pgrep", "-P", str(pid), "-f", "monai.bundle"], capture_output=True, text=True)
    return sorted(map(int, done.stdout.split()))


def epochs(out: Path) -> list[int]:
    return [e.number for e in read_progress(str(out / "progress.csv"))[0]]


def wait_for(condition, seconds: float = 100) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_a_lost_process_ends_the_job_with_one_line_that_says_so(volumes, small, plain, tmp_path):
    with started(volumes, small, plain, tmp_path, torchrun(2)) as (job,):
        wait_for(lambda: (tmp_path / "resume.pt").exists())
        os.kill(children(job.pid)[1], signal.SIGKILL)
        job.wait(100)
    said = (tmp_path / "log-0.txt").read_text()
    lines = [line for line in said.splitlines() if line.startswith("unetr3d: ")]
    assert lines == [f"unetr3d: {distributed.ENDED}"], said[-3000:]
    assert job.returncode != 0 and "terminate called" not in said
    assert torch.load(tmp_path / "resume.pt", weights_only=True)["epoch"] >= 1


def test_torchrun_starts_a_job_again_that_lost_a_process_and_it_goes_on(volumes, small, plain, tmp_path):
    with started(volumes, small, plain, tmp_path, torchrun(2, "--max_restarts=2")) as (job,):
        wait_for(lambda: len(epochs(tmp_path)) >= 2)
        os.kill(children(job.pid)[1], signal.SIGKILL)
        job.wait(120)
    said = (tmp_path / "log-0.txt").read_text()
    assert job.returncode == 0, said[-3000:]
    assert said.count("training: going on after epoch") == 1
    assert epochs(tmp_path) == list(range(1, 9)) and (tmp_path / "model_final.pt").exists()


def test_two_nodes_lose_a_process_and_go_on_together(volumes, small, plain, tmp_path):
    """As two machines: two torchruns that meet at an address, and share a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meet = ("--nnodes=2", "--nproc_per_node=1", "--max_restarts=2", "--rdzv_id=job", "--rdzv_backend=c10d")
    node = ("-m", "torch.distributed.run", *meet, f"--rdzv_endpoint=127.0.0.1:{port}", "--local_addr=127.0.0.1")
    with started(volumes, small, plain, tmp_path, node, node) as jobs:
        wait_for(lambda: len(epochs(tmp_path)) >= 2)
        os.kill(children(jobs[1].pid)[0], signal.SIGKILL)
        for job in jobs:
            job.wait(120)
    said = "".join((tmp_path / f"log-{number}.txt").read_text() for number in (0, 1))
    assert [job.returncode for job in jobs] == [0, 0], said[-4000:]
    assert said.count("training: going on after epoch") == 1 and epochs(tmp_path) == list(range(1, 9))
