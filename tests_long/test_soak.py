"""A long training takes no more memory, files or threads than a short one; and several share a cache."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers_bundles import TINY, UNETR3D, write_yaml
from test_kills import started

from autoconf.inspect import inspect
from autoconf.phantom import phantom

EPOCHS = 200


def data_of(home: Path) -> Path:
    phantom(str(home / "data"), cases=8, size=32)
    inspect(str(home / "data"), str(home / "work"))
    numbers = {"target_spacing": [5.0, 5.0, 5.0], "patch_size": [32, 32, 32], "batch_size": 2, "crops_per_case": 1}
    write_yaml(home / "small.yaml", numbers | TINY | {"device": "cpu"})
    return home


def train(home: Path, out: Path, *words: object) -> subprocess.Popen:
    out.mkdir()
    files = str([str(UNETR3D / "configs" / "train.yaml"), str(home / "small.yaml")])
    more = ["--datalist", home / "work" / "datalist.json", "--output_dir", out, *words]
    return started("training", "--config_file", files, *more, log=out / "log.txt")


def look(pid: int) -> tuple[float, int, int] | None:
    """Resident memory in MB, open files, threads; None of a process that has just ended."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    if "VmRSS" not in status:
        return None
    return int(status["VmRSS"].split()[0]) / 1e3, len(list(Path(f"/proc/{pid}/fd").iterdir())), int(status["Threads"])


@pytest.mark.promise("Load", "200 epochs grow no memory, no open files, no threads")
def test_two_hundred_epochs_grow_nothing(tmp_path, record_property):
    home = data_of(tmp_path)
    process = train(home, tmp_path / "run", "--max_epochs", EPOCHS, "--ema_decay", 0.9)
    seen = []
    while process.poll() is None:
        table = tmp_path / "run" / "progress.csv"
        epoch = len(table.read_text().splitlines()) - 1 if table.exists() else 0
        if epoch >= EPOCHS // 4 and (found := look(process.pid)):  # by then all that is made once has been made
            seen.append((epoch, *found))
        time.sleep(0.5)
    assert process.returncode == 0, (tmp_path / "run" / "log.txt").read_text()[-2000:]
    early = [row for row in seen if row[0] < EPOCHS // 2]
    late = [row for row in seen if row[0] >= EPOCHS * 3 // 4]
    memory, files, threads = ([statistics.median(row[i] for row in part) for part in (early, late)] for i in (1, 2, 3))
    grown = f"{memory[1] - memory[0]:+.1f} of {memory[0]:.0f} MB, {files[1] - files[0]:+.0f} files"
    record_property("figure", f"epochs 150 to 200 against 50 to 100: {grown}, {threads[1] - threads[0]:+.0f} threads")
    assert memory[1] < memory[0] * 1.02 + 5
    assert files[0] == files[1] and threads[0] == threads[1]


@pytest.mark.promise("Load", "Two trainings and a search that prepare the same cases at once end as each does alone")
def test_two_trainings_and_a_search_share_one_cache(tmp_path):
    """They prepare the same cases at the same time; each ends as it does alone."""
    home = data_of(tmp_path)
    words = ["--max_epochs", 3]
    space = {"max_epochs": 2, "keys": {"learning_rate": {"low": 1e-4, "high": 1e-3}}}
    plan, out = home / "small.yaml", home / "tuned.yaml"
    tune = ["tune", home / "work", "--bundle", UNETR3D, "--plan", plan, "--trials", 2, "--seeds", 0, "--out", out]
    tune += ["--space", write_yaml(home / "space.yaml", space)]
    command = [sys.executable, "-m", "autoconf", *map(str, tune), "--device", "cpu"]
    search = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    both = [train(home, tmp_path / name, *words) for name in ("one", "two")]
    assert [process.wait() for process in both] == [0, 0], (tmp_path / "one" / "log.txt").read_text()[-2000:]
    error = search.communicate()[1]
    assert search.returncode == 0, error[-2000:]
    assert train(home, tmp_path / "alone", *words).wait() == 0
    states = [torch.load(tmp_path / name / "model_final.pt", weights_only=True) for name in ("one", "two", "alone")]
    assert all(torch.equal(state[key], states[2][key]) for state in states[:2] for key in states[2])
