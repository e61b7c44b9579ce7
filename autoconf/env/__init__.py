"""`autoconf env`: what a bug report needs, and nothing that is nobody's business."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from autoconf import __version__
from autoconf.output import table
from autoconf.pool import usable_cores

PROJECT = "gliobundle"
CORE = ("torch", "monai", "numpy", "scipy", "nibabel", "pytorch-ignite")  # where the project is not installed
MISSING = "not installed"
# Only these variables are shown: others may hold names, tokens and paths.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
INSTRUCTIONS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")  # they rule out instruction sets
VARIABLES = (*THREADS, *INSTRUCTIONS, "CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF", "TMPDIR")
# instruction sets that PyTorch computes with -> Linux's flags for them, any of which will do; from widest to oldest
INSTRUCTION_SETS = {
    "AMX": ("amx_bf16", "amx_tile"),
    "AVX512-BF16": ("avx512_bf16",),
    "AVX512": ("avx512f",),
    "AVX2": ("avx2",),
    "SVE": ("sve",),
}


def env() -> None:
    """Print what a bug report needs: versions, processor, memory, GPU, disk, and the settings that change results.

    Paste it into the report. It names no file, user or host.
    """
    print(table([[name, value] for name, value in lines()]))


def lines() -> Iterator[tuple[str, str]]:
    """(name, value) of everything, in the order of the print-out."""
    yield "autoconf", " ".join([__version__, *([f"({commit})"] if (commit := _commit()) else [])])
    yield "python", f"{platform.python_implementation()} {platform.python_version()}"
    yield "system", platform.platform()
    yield "processor", processor()
    yield "cores", f"{usable_cores()} usable of {os.cpu_count()}"
    yield "memory", _memory()
    yield "disk", f"{shutil.disk_usage('.').free / 1e9:.1f} GB free in this folder"
    yield "GPU", _gpu()
    for name in packages():
        yield name, _version(name)
    for name in VARIABLES:
        if name in os.environ:
            yield name, os.environ[name]


def processor() -> str:
    """The model's name and its instruction sets, where Linux says so."""
    try:
        return described(Path("/proc/cpuinfo").read_text())
    except OSError:
        return platform.processor() or platform.machine()


def described(cpuinfo: str) -> str:
    """The text of /proc/cpuinfo -> "AMD EPYC with AVX512-BF16, AVX512, AVX2".

    The architecture takes the place of a name that is missing, as on ARM, whose flags are called `Features`.
    """
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in cpuinfo.splitlines())}
    flags = set(found.get("flags", found.get("Features", "")).split())
    sets = [name for name, any_of in INSTRUCTION_SETS.items() if flags.intersection(any_of)]
    return found.get("model name", platform.machine()) + (f" with {', '.join(sets)}" if sets else "")


def packages() -> list[str]:
    """What the project needs, and its extras as far as they are installed."""
    try:
        needed = requires(PROJECT) or []
    except PackageNotFoundError:
        return list(CORE)
    names = [(re.match(r"[\w.-]+", line)[0], "extra ==" in line) for line in needed]  # type: ignore[index]
    return list(dict.fromkeys(name for name, is_extra in names if not is_extra or _version(name) != MISSING))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return MISSING


def _commit() -> str:
    """Of a checkout: the short hash, and whether files were changed since; empty elsewhere."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        found, changed = (
            subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False).stdout.strip()
            for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except FileNotFoundError:
        return ""
    return f"{found}, changed since" if changed else found


def _memory() -> str:
    if not hasattr(os, "sysconf"):
        return "unknown"
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return f"{total / 1e9:.1f} GB, {free / 1e9:.1f} GB unused"


def _gpu() -> str:
    try:
        import torch
    except ImportError:
        return "unknown: torch is not installed"
    if not torch.cuda.is_available():
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU"
        return f"none that torch can use (it is built for {built})"
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    named = ", ".join(f"{device.name} {device.total_memory / 1e9:.0f} GB" for device in found)
    return f"{named}; CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
