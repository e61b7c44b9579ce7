"""What all benchmarks work on: a data set, inspected and planned as a user would, and the bundle's configs for it."""

from __future__ import annotations

import functools
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from .machine import ROOT

BUNDLE = ROOT / "bundles" / "unetr3d"
ZOO = ROOT / "benchmarks" / "peers" / "zoo.yaml"
GPU_PLAN = {"patch_size": [128, 128, 128], "target_spacing": [1.0, 1.0, 1.0], "batch_size": 2}  # of the goals
PHANTOMS, PHANTOM_SIZE = 8, 96  # drawn where no data are given
QUICK_PHANTOM_SIZE = 48  # voxels per axis: a smaller patch is planned for them


class BenchmarkError(Exception):
    """What a person can put right; printed as one line."""


@dataclass(frozen=True)
class Task:
    """Where data and results lie, on what device, and how long to measure."""

    scratch: Path
    device: str = "cpu"
    data: str = ""
    rounds: int = 5
    quick: bool = False

    @functools.cached_property
    def inspected(self) -> Path:
        """The folder of a datalist; inspects the data, or phantoms, on the first call."""
        folder = self.scratch / "inspected"
        data = self.data
        if not data:
            data = str(self.scratch / "phantoms")
            size = QUICK_PHANTOM_SIZE if self.quick else PHANTOM_SIZE
            autoconf("phantom", data, "--cases", str(PHANTOMS), "--size", str(size))
        autoconf("inspect", data, "--out", str(folder))
        return folder

    @property
    def datalist(self) -> str:
        return str(self.inspected / "datalist.json")

    @functools.cached_property
    def plan(self) -> dict[str, Any]:
        """The override file that autoconf plans; on a GPU, the size that the goals are stated for."""
        path = self.scratch / "plan.yaml"
        words = ["--bundle", str(BUNDLE), "--memory", "8GB", "--device", self.device.partition(":")[0]]
        autoconf("plan", str(self.inspected), *words, "--out", str(path))
        plan = yaml.safe_load(path.read_text())
        return plan | (GPU_PLAN if self.device.startswith("cuda") else {})

    @functools.cached_property
    def plan_file(self) -> str:
        path = self.scratch / "plan_used.yaml"
        path.write_text(yaml.safe_dump(self.plan))
        return str(path)

    def overrides(self, **more: Any) -> dict[str, Any]:
        cache = str(self.scratch / "prepared")
        paths = {"datalist": self.datalist, "output_dir": str(self.scratch / "run"), "cache_dir": cache}
        return {**self.plan, **paths, "device": self.device, **more}


def autoconf(*words: str) -> None:
    command = [sys.executable, "-m", "autoconf", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(last_line(done.stderr.strip() or f"autoconf {words[0]} failed"))


def open_config(names: list[str], overrides: dict[str, Any], bundle: Path = BUNDLE) -> Any:
    """A bundle's config files, one on top of the other, with overrides: a MONAI ConfigParser.

    One bundle per process: its scripts join the path.
    """
    from monai.bundle import ConfigParser

    for folder in (str(bundle), str(ROOT)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    parser = ConfigParser()
    parser.read_config([str(path) if Path(path).is_absolute() else str(bundle / "configs" / path) for path in names])
    parser.read_meta(str(bundle / "configs" / "metadata.json"))
    for key, value in overrides.items():
        if key.split("#")[0].split("::")[0] in parser.config:
            parser[key] = value
    return parser


def last_line(said: str) -> str:
    """Of what a program said on stderr: usually why it ended."""
    return (said.strip().splitlines() or ["?"])[-1]


def wait_for(device: str) -> None:
    """A GPU works on after it was asked: before a clock is read it must be done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
