"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from autoconf.env import processor

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "monai", "numpy", "nibabel", "isal", "pytorch-ignite", "torchio", "nnunetv2", "batchgeneratorsv2")


def machine(device: str) -> dict[str, Any]:
    """Processor, memory, GPU, versions, commit and date."""
    import torch

    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed_since": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(memory / 1e9, 1),
        "gpu": gpu,
        "system": platform.platform(),
        "versions": {"python": platform.python_version()} | {p: v for p in PACKAGES if (v := _version(p))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git here, or no repository: then nothing is known
        return ""
    return done.stdout.strip()
