"""What was found about a device's bfloat16, kept on disk so that later runs need not measure it again.

A file for each combination of all that a kernel's choice depends on. A folder that cannot be written or a file that
cannot be read costs a measurement, no more.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .answers import FACTOR, UNIT
from .arithmetic import Verdict
from .files import whole_file

FOLDER = "gliobundle/precision"
VARIABLES = ("ONEDNN_", "DNNL_", "ATEN_", "MKL_", "OMP_NUM_THREADS", "CUBLAS_", "CUDNN_", "NVIDIA_TF32", "TORCH_")
Facts = dict[str, Any]


def folder() -> Path:
    """$GLIOBUNDLE_CACHE, or below the user's cache folder: $XDG_CACHE_HOME, %LOCALAPPDATA% or ~/.cache."""
    if os.environ.get("GLIOBUNDLE_CACHE"):
        return Path(os.environ["GLIOBUNDLE_CACHE"])
    home = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else "")
    return Path(home or os.path.expanduser("~/.cache")) / FOLDER


def facts(network: nn.Module, image: torch.Tensor, what: str) -> Facts:
    """All that the verdict may depend on, but for weights and voxels: processor, versions, variables, network, shape.

    what: "answer", or "gradient" and of which loss.
    """
    device = image.device
    weights = [[name, list(tensor.shape), list(tensor.stride())] for name, tensor in network.state_dict().items()]
    drawn = json.dumps([type(network).__qualname__, repr(network), weights])
    return {
        "what": what,
        "shape": list(image.shape),
        "network": type(network).__name__,
        "network_sha256": hashlib.sha256(drawn.encode()).hexdigest(),
        "compiled": network._compiled_call_impl is not None,
        "processor": gpu(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "variables": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(VARIABLES)},
        "versions": {name: version(name) for name in ("torch", "monai")},
        "onednn": torch.backends.mkldnn.enabled and torch.backends.mkldnn.is_available(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "bounds": [FACTOR, UNIT],
    }


def processor() -> Facts:
    """Its name and features, as torch sees them."""
    seen = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return {"capability": torch.backends.cpu.get_cpu_capability(), **{name: seen[name] for name in sorted(seen)}}


def gpu(device: torch.device) -> Facts:
    found = torch.cuda.get_device_properties(device)
    libraries = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {"gpu": found.name, "capability": [found.major, found.minor], **libraries, "hip": torch.version.hip}


def path_of(known: Facts) -> Path:
    return folder() / f"{hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:32]}.json"


def read(known: Facts) -> Verdict | None:
    """The verdict of an earlier run; None if there is none that can be read."""
    try:
        content = json.loads(path_of(known).read_text(encoding="utf-8"))
        return Verdict(**content["verdict"]) if content["facts"] == known else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(known: Facts, verdict: Verdict) -> None:
    """Keep it, if it says anything and the folder can be written."""
    if not verdict.judged:
        return
    try:
        with whole_file(path_of(known), "w") as file:
            json.dump({"verdict": asdict(verdict), "facts": known}, file, indent=1)
    except OSError:
        pass
