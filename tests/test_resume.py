"""A training that was stopped goes on as if it had not been: same weights, same table, nothing half written."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from helpers_bundles import UNETR3D, assert_refused, run_bundle, scripts, write_yaml
from helpers_processes import start_module

from autoconf.bundle.progress import read_progress

checkpoints, resume = scripts("unetr3d", "checkpoints"), scripts("unetr3d", "resume")
EPOCHS = 3


@pytest.fixture(scope="module")
def short(small, tmp_path_factory) -> Path:
    """Three epochs, with an average of the weights, so that it has to be resumed too."""
    words = {"max_epochs": EPOCHS, "ema_decay": 0.9, "dropout": 0.1, "crops_per_case": 2}
    return write_yaml(tmp_path_factory.mktemp("short") / "short.yaml", words)


def train(volumes, small, short, out: Path, *words: object, expect: int = 0):
    return run_bundle(
        *(UNETR3D, "training", ["train.yaml", small, short]),
        *("--datalist", volumes.datalist, "--output_dir", out, *words),
        expect=expect,
    )


@pytest.fixture(scope="module")
def uninterrupted(volumes, small, short, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    train(volumes, small, short, out)
    return out


def kill_after_epoch(volumes, small, short, out: Path, epoch: int, workers: int = 0) -> None:
    """kill -9 of a training as soon as its table says that an epoch is done: the next one is under way, or soon."""
    files = [str(UNETR3D / "configs" / "train.yaml"), str(small), str(short)]
    words = ["run", "training", "--config_file", str(files), "--datalist", str(volumes.datalist)]
    words += ["--output_dir", str(out), "--resume", "True", "--num_workers", str(workers)]
    process = start_module("monai.bundle", words, [out / "log", out / "log"])
    ends = time.monotonic() + 200
    while process.is_alive() and time.monotonic() < ends:
        if len(read_progress(str(out / "progress.csv"))[0]) >= epoch:
            break
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, (out / "log").read_text()[-3000:]


def same_weights(one: Path, other: Path) -> bool:
    first, second = (torch.load(path, weights_only=True) for path in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def numbers(out: Path) -> list[tuple]:
    return [(e.number, e.rate, e.loss, e.dice) for e in read_progress(str(out / "progress.csv"))[0]]


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.long), 2])
def test_killed_twice_a_training_ends_with_the_same_weights_and_the_same_table(
    volumes, small, short, uninterrupted, tmp_path, workers
):
    """As one without worker processes that was never stopped: who cuts the crops does not matter either."""
    kill_after_epoch(volumes, small, short, tmp_path, 1, workers)
    kill_after_epoch(volumes, small, short, tmp_path, 2, workers)
    assert not (tmp_path / "model_final.pt").exists()
    done = train(volumes, small, short, tmp_path, "--resume", True, "--num_workers", workers)
    assert "training: going on after epoch" in done.stderr
    assert same_weights(tmp_path / "model_final.pt", uninterrupted / "model_final.pt")
    assert same_weights(tmp_path / "model.pt", uninterrupted / "model.pt")
    assert numbers(tmp_path) == numbers(uninterrupted) and len(numbers(tmp_path)) == EPOCHS


def terminated_after(out: Path, iteration: int) -> Path:
    """An override: the training sends SIGTERM to itself after that iteration, so that no test need be in time."""
    kill = "torch.os.kill(torch.os.getpid(), 15)"  # MONAI takes an expression with the word import for a statement
    event = f"monai.handlers.stats_handler.Events.ITERATION_COMPLETED(once={iteration})"
    run = f"$(@train#trainer.add_event_handler({event}, lambda: {kill}), @train#trainer.run())"
    return write_yaml(out / "terminate.yaml", {"run::2": run})


@pytest.mark.promise(
    "Resume",
    "A training that is asked to stop (SIGTERM) keeps the steps of its epoch, and ends with the "
    "weights of one that was not",
)
def test_asked_to_stop_within_an_epoch_it_keeps_its_steps_and_ends_with_the_same_weights(
    volumes, small, short, uninterrupted, tmp_path
):
    for iteration, said in ((6, "stopped after epoch 1"), (7, "stopped after step 2 of epoch 2")):
        stop = terminated_after(tmp_path, iteration)
        done = run_bundle(
            *(UNETR3D, "training", ["train.yaml", small, short, stop]),
            *("--datalist", volumes.datalist, "--output_dir", tmp_path, "--resume", True),
            expect=-signal.SIGTERM,
        )
        assert said in done.stderr and "Traceback" not in done.stderr
    done = train(volumes, small, short, tmp_path, "--resume", True)
    assert "going on after step 2 of epoch 2 of 3" in done.stderr
    assert same_weights(tmp_path / "model_final.pt", uninterrupted / "model_final.pt")
    assert numbers(tmp_path) == numbers(uninterrupted)


def test_more_epochs_can_be_added_and_fewer_are_refused(volumes, small, short, uninterrupted, tmp_path):
    for name in ("resume.pt", "progress.csv", "model.pt"):
        (tmp_path / name).write_bytes((uninterrupted / name).read_bytes())
    train(volumes, small, short, tmp_path, "--resume", True, "--max_epochs", EPOCHS + 1)
    assert [row[0] for row in numbers(tmp_path)] == [1, 2, 3, 4]
    done = train(volumes, small, short, tmp_path, "--resume", True, "--max_epochs", 2, expect=1)
    assert_refused(done, "unetr3d", "has 4 epochs already", "--max_epochs")


def test_a_run_that_begins_anew_keeps_what_it_could_have_gone_on_with(volumes, small, short, uninterrupted, tmp_path):
    (tmp_path / "resume.pt").write_bytes((uninterrupted / "resume.pt").read_bytes())
    done = train(volumes, small, short, tmp_path, "--max_epochs", 1)
    assert "beginning anew" in done.stderr and (tmp_path / "resume_old.pt").exists()
    assert [row[0] for row in numbers(tmp_path)] == [1]


def in_first_step(out: Path, what: str) -> Path:
    """An override: the expression is evaluated after the first step of a training."""
    event = "monai.handlers.stats_handler.Events.ITERATION_COMPLETED(once=1)"
    run = f"$(@train#trainer.add_event_handler({event}, lambda: {what}), @train#trainer.run())"
    return write_yaml(out / "first_step.yaml", {"run::2": run})


def test_nothing_of_the_older_run_is_gone_on_with_after_a_new_one_was_killed(
    volumes, small, short, uninterrupted, tmp_path
):
    for name in ("resume.pt", "resume_previous.pt"):
        (tmp_path / name).write_bytes((uninterrupted / name).read_bytes())
    stop = in_first_step(tmp_path, "torch.os.kill(torch.os.getpid(), 9)")
    files = ["train.yaml", small, short, stop]
    words = ("--datalist", volumes.datalist, "--output_dir", tmp_path)
    run_bundle(UNETR3D, "training", files, *words, expect=-signal.SIGKILL)
    done = train(volumes, small, short, tmp_path, "--resume", True, "--max_epochs", 1)
    assert "going on after" not in done.stderr
    assert [row[0] for row in numbers(tmp_path)] == [1]


def test_a_disk_that_fills_up_while_others_write_ends_in_one_line(volumes, small, short, tmp_path):
    full = "(_ for _ in ()).throw(OSError(28, 'No space left on device', 'overlays.png'))"
    stop = in_first_step(tmp_path, full)
    files = ["train.yaml", small, short, stop]
    done = run_bundle(UNETR3D, "training", files, "--datalist", volumes.datalist, "--output_dir", tmp_path, expect=1)
    assert_refused(done, "unetr3d", "cannot write overlays.png: No space left on device", "--resume True goes on")


@pytest.mark.promise("Resume", "A damaged checkpoint falls back to the one before, and says so")
def test_a_damaged_state_falls_back_to_the_epoch_before_and_says_so(volumes, small, short, uninterrupted, tmp_path):
    for name in ("resume.pt", "resume_previous.pt"):
        (tmp_path / name).write_bytes((uninterrupted / name).read_bytes())
    whole = (tmp_path / "resume.pt").read_bytes()
    (tmp_path / "resume.pt").write_bytes(whole[: len(whole) // 2])
    done = train(volumes, small, short, tmp_path, "--resume", True)
    assert "resume.pt is damaged" in done.stderr and f"going on after epoch {EPOCHS - 1} of {EPOCHS}" in done.stderr
    assert same_weights(tmp_path / "model_final.pt", uninterrupted / "model_final.pt")


def test_a_state_of_another_network_is_refused(volumes, small, short, uninterrupted, tmp_path):
    (tmp_path / "resume.pt").write_bytes((uninterrupted / "resume.pt").read_bytes())
    done = train(volumes, small, short, tmp_path, "--resume", True, "--network_def::hidden_size", 128, expect=1)
    assert_refused(done, "unetr3d", "is of another network", "--resume False")


def without_numbers(out: Path, iteration: int) -> Path:
    """An override: the network's answer is no number in that step."""
    event = "monai.engines.IterationEvents.FORWARD_COMPLETED"
    factor = f"float('nan') if @train#trainer.state.iteration == {iteration} else 1"
    spoil = f"@train#trainer.state.output['pred'].mul_({factor})"
    run = f"$(@train#trainer.add_event_handler({event}, lambda: {spoil}), @train#trainer.run())"
    return write_yaml(out / "without_numbers.yaml", {"run::2": run})


@pytest.mark.promise(
    "Numbers",
    "A gradient that is no number stops before anything is kept, and names step and cases",
)
def test_a_gradient_that_is_no_number_stops_before_anything_is_kept_and_names_its_cases(volumes, small, tmp_path):
    bad = without_numbers(tmp_path, 2)
    done = run_bundle(
        *(UNETR3D, "training", ["train.yaml", small, bad]),
        *("--datalist", volumes.datalist, "--output_dir", tmp_path),
        expect=1,
    )
    assert_refused(done, "unetr3d", "the gradient is no number in step 2 (epoch 1, cases BraTS-GLI-", "--on_nan skip")
    assert not (tmp_path / "model.pt").exists() and not (tmp_path / "resume.pt").exists()


@pytest.mark.promise("Numbers", "or is left out (`on_nan: skip`), and the weights stay numbers")
def test_such_a_step_can_be_left_out_and_the_weights_stay_numbers(volumes, small, tmp_path):
    bad = without_numbers(tmp_path, 2)
    done = run_bundle(
        *(UNETR3D, "training", ["train.yaml", small, bad]),
        *("--datalist", volumes.datalist, "--output_dir", tmp_path, "--on_nan", "skip"),
    )
    assert "training: left out step 2 (epoch 1, cases BraTS-GLI-" in done.stderr
    weights = torch.load(tmp_path / "model_final.pt", weights_only=True)
    assert all(weight.isfinite().all() for weight in weights.values())


@pytest.mark.promise("Load", "A process that the kernel kills for its memory ends the run in one line")
def test_a_lost_worker_of_the_loader_ends_in_one_line(volumes, small, tmp_path):
    """As the kernel does when memory is short: kill -9 of one of two, in the first validation."""
    kill = "torch.os.kill(@train#trainer._dataloader_iter._workers[0].pid, 9)"
    event = "monai.handlers.stats_handler.Events.STARTED"
    run = f"$(@validate#evaluator.add_event_handler({event}, lambda: {kill}), @train#trainer.run())"
    lost = write_yaml(tmp_path / "lost.yaml", {"run::2": run, "num_workers": 2, "max_epochs": 50})
    done = run_bundle(
        *(UNETR3D, "training", ["train.yaml", small, lost]),
        *("--datalist", volumes.datalist, "--output_dir", tmp_path),
        expect=1,
    )
    assert_refused(done, "unetr3d", "DataLoader worker (pid", "killed by signal: Killed", "--num_workers")
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.promise("Disk", "A full disk is one line, and leaves what was written before whole")
def test_a_full_disk_leaves_the_older_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "resume.pt"
    checkpoints.save({"epoch": 1}, path)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    with pytest.raises(SystemExit, match="No space left on device.*Free some space"):
        checkpoints.save({"epoch": 2}, path, before=tmp_path / "before.pt")
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["resume.pt"]


def test_random_states_come_back():
    import random

    import numpy as np

    states = resume.random_states()
    drawn = [random.random(), np.random.rand(), np.random.randn(), float(torch.rand(()))]
    resume.set_random_states(states)
    assert drawn == [random.random(), np.random.rand(), np.random.randn(), float(torch.rand(()))]


def test_what_was_used_of_an_epoch_is_left_out_once_and_the_order_is_the_same():
    order = torch.utils.data.RandomSampler(range(10))
    torch.manual_seed(3)
    whole = [list(order), list(order)]
    called = []
    torch.manual_seed(3)
    unused = resume.Unused(order, 4, lambda: called.append(1))
    assert [list(unused), list(unused)] == [whole[0][4:], whole[1]]
    assert called == [1] and len(unused) == 10
