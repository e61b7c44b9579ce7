"""What the server of these tests is made of: small bundles, phantom scans and pictures; and how it is waited for."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monailabel.client import MONAILabelClient
from PIL import Image

from autoconf.layout import layout
from autoconf.phantom import phantom

REPO = Path(__file__).resolve().parents[1]
START = REPO / "label" / "start.sh"
SMALL = {  # knob of a config -> value, so that a training takes seconds
    "unetr3d": {
        **{"patch_size": "[32, 32, 32]", "target_spacing": "[5.0, 5.0, 5.0]", "crops_per_case": "1", "batch_size": "2"},
        **{"feature_size": "4", "hidden_size": "32", "mlp_dim": "64", "num_heads": "2"},
    },
    "pseudo2d": {"image_size": "64", "channels": "[4, 8, 16, 16, 16]"},
}


@dataclass(frozen=True)
class Server:
    """A server that runs: its address, its images, the bundles it was started with, and MONAI Label's client."""

    url: str
    studies: Path
    bundles: Path
    client: MONAILabelClient

    def bundle(self, name: str) -> Path:
        """The copy of a bundle that is served."""
        return self.studies / "server" / "model" / name


def small_bundle(name: str, folder: Path) -> Path:
    """A copy of a bundle with a small network and random weights."""
    copy = folder / name
    shutil.copytree(REPO / "bundles" / name, copy, ignore=shutil.ignore_patterns("models", "__pycache__", "eval"))
    shutil.copytree(REPO / "bundles" / "shared", folder / "shared", dirs_exist_ok=True)  # as in a checkout
    for config in ("train.yaml", "inference.yaml"):
        text = (copy / "configs" / config).read_text()
        for knob, value in SMALL[name].items():
            text = re.sub(rf"(?m)^( *{knob}:) .*$", rf"\1 {value}", text)
        (copy / "configs" / config).write_text(text)
    (copy / "models").mkdir()
    parser = ConfigParser()
    parser.read_config(copy / "configs" / "inference.yaml")
    torch.manual_seed(1)
    torch.save(parser.get_parsed_content("network_def").state_dict(), copy / "models" / "model.pt")
    return copy


def start(*words: object) -> subprocess.CompletedProcess[str]:
    """start.sh where it must refuse."""
    return subprocess.run([START, *map(str, words)], capture_output=True, text=True, timeout=600, env=environment())


def environment() -> dict[str, str]:
    """Of the environment that these tests run in; images get scores when a test asks for them."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    own = {"LABEL_VENV": str(Path(sys.prefix)), "MONAI_LABEL_AUTO_UPDATE_SCORING": "false", "CUDA_VISIBLE_DEVICES": ""}
    return kept | own


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_studies(home: Path) -> Path:
    """Four scans, and four pictures, of which three have masks."""
    studies = home / "my studies + labels"
    phantom(str(home / "volumes"), cases=4, size=32)
    phantom(str(home / "pictures"), cases=2, size=32, slices=True)
    layout(str(home / "volumes"), str(studies))
    for number, picture in enumerate(sorted((home / "pictures").rglob("*.jpg"))[:4]):
        shutil.copy(picture, studies / f"picture{number}.jpg")
        if number < 3:
            bright = np.asarray(Image.open(picture).convert("L")) > 100
            Image.fromarray(bright.astype(np.uint8)).save(studies / "labels" / "final" / f"picture{number}.png")
    return studies


def wait_until_up(client: MONAILabelClient, process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + 600
    while time.monotonic() < until and process.poll() is None:
        try:
            client.info()
            return
        except Exception:  # noqa: BLE001 - not yet
            time.sleep(0.5)
    pytest.fail(f"the server did not start:\n{log.read_text()[-3000:]}")


def run_inferring(bundle: Path, images: Path, out: Path, checkpoint: Path) -> None:
    """`run inferring` of a bundle, in this environment."""
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "inferring"]
    command += ["--config_file", str(bundle / "configs" / "inference.yaml"), "--dataset_dir", str(images)]
    command += ["--output_dir", str(out), "--checkpoint", str(checkpoint), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def wait_for_training(client: MONAILabelClient) -> dict:
    """The task of the training that was asked for, when it is over."""
    until = time.monotonic() + 600
    while time.monotonic() < until:
        task = client.train_status()
        task = json.loads(task) if isinstance(task, str) else task
        if task["status"] not in ("SUBMITTED", "RUNNING"):
            return task
        time.sleep(0.5)
    raise AssertionError(f"the training did not end: {task}")
