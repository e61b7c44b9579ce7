"""A training that is killed again and again, at moments drawn by chance, ends as one that never was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers_bundles import PSEUDO2D, TINY, UNETR3D, write_yaml

from autoconf.inspect import inspect
from autoconf.phantom import phantom

KILLS = 20
EPOCHS = 30


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> list[str]:
    """The words of a training of unetr3d on phantom heads, some seconds long."""
    home = tmp_path_factory.mktemp("volumes")
    phantom(str(home / "data"), cases=8, size=32)
    inspect(str(home / "data"), str(home / "work"))
    numbers = {"target_spacing": [5.0, 5.0, 5.0], "patch_size": [32, 32, 32], "batch_size": 2, "crops_per_case": 2}
    small = write_yaml(home / "small.yaml", numbers | TINY | {"ema_decay": 0.9, "dropout": 0.1})
    files = str([str(UNETR3D / "configs" / "train.yaml"), str(small)])
    return ["--config_file", files, "--datalist", str(home / "work" / "datalist.json")]


@pytest.fixture(scope="module")
def slices(tmp_path_factory) -> list[str]:
    """The same of pseudo2d."""
    home = tmp_path_factory.mktemp("slices")
    phantom(str(home / "data"), cases=4, size=32, slices=True)
    inspect(str(home / "data"), str(home / "work"))
    masks = ["pseudo_labelling", "--config_file", str(PSEUDO2D / "configs" / "pseudo_label.yaml")]
    started(*masks, "--dataset_dir", home / "data", "--output_dir", home / "pseudo", "--image_size", 64).wait()
    small = write_yaml(home / "small.yaml", {"image_size": 64, "dropout": 0.1, "ema_decay": 0.9})
    files = str([str(PSEUDO2D / "configs" / "train.yaml"), str(small)])
    words = ["--config_file", files, "--datalist", str(home / "work" / "datalist.json")]
    return [*words, "--mask_dir", str(home / "pseudo" / "masks")]


def started(*words: object, log: Path | None = None) -> subprocess.Popen:
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", *map(str, words)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with open(log or os.devnull, "ab") as file:
        return subprocess.Popen(command, env=env, stdout=file, stderr=file)


def train(words: list[str], out: Path) -> subprocess.Popen:
    out.mkdir(exist_ok=True)
    more = ["--output_dir", out, "--max_epochs", EPOCHS, "--resume", True]
    return started("training", *words, *more, log=out / "log.txt")


@pytest.mark.parametrize("data", ["volumes", "slices"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.promise(
    "Resume",
    "A training that is killed 20 times, at moments drawn by chance, ends with the weights of one "
    "that never was, to the bit; no file is ever half written",
)
def test_killed_at_twenty_moments_it_ends_with_the_same_weights(request, tmp_path, record_property, data, number):
    words = request.getfixturevalue(data)
    assert train(words, tmp_path / "whole").wait() == 0
    draw, out, kills = random.Random(number), tmp_path / "killed", 0
    while kills < KILLS:
        process = train(words, out)
        kills += killed(process, number, draw, out / "log.txt")
        for path in out.glob("*.pt"):
            torch.load(path, weights_only=True)  # whole, at any moment
        if process.returncode == 0:  # done before all kills: the rest of them hit another one
            assert_same(out, tmp_path / "whole")
            out = tmp_path / f"killed-{kills}"
    assert train(words, out).wait() == 0, (out / "log.txt").read_text()[-2000:]
    assert_same(out, tmp_path / "whole")
    said = "".join(path.read_text() for path in tmp_path.glob("killed*/log.txt"))
    name = "unetr3d" if data == "volumes" else "pseudo2d"
    record_property("figure", f"{name}, {number.name}: {kills} kills, gone on {said.count('going on after')} times")
    assert "Traceback" not in said and "is damaged" not in said and said.count("going on after") >= KILLS // 2


def killed(process: subprocess.Popen, number: signal.Signals, draw: random.Random, log: Path) -> bool:
    """Whether the signal was what ended it: sent while it starts, one in five, or within a few epochs of work."""
    starts = draw.random() < 0.2
    before = log.read_text().count("training: ")
    ends = time.monotonic() + (draw.uniform(0, 10) if starts else 300)
    while process.poll() is None and time.monotonic() < ends:
        if not starts and log.read_text().count("training: ") > before:
            break
        time.sleep(0.02)
    if not starts:
        time.sleep(draw.uniform(0, 3))
    process.send_signal(number)
    return process.wait() == -number


def assert_same(out: Path, whole: Path) -> None:
    for name in ("model_final.pt", "model.pt"):
        one, other = (torch.load(folder / name, weights_only=True) for folder in (out, whole))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name
