"""The machine that is planned for: its memory and cores as they are found, and a training step as it is timed."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from autoconf.arguments import parse_memory
from autoconf.bundle.settings import Bundle
from autoconf.errors import AutoconfError
from autoconf.output import by
from autoconf.plan.memory import build_network
from autoconf.pool import usable_cores

TIMED_STEPS = 2  # after one that is not timed, which also chooses algorithms


@dataclass(frozen=True)
class Machine:
    """What a plan may use."""

    device: str  # cpu or cuda
    memory: float  # bytes of the device
    ram: float  # bytes of main memory that are free
    cores: int

    def __str__(self) -> str:
        main = f"{self.ram / 1e9:.1f} GB free main memory, {self.cores} cores"
        return f"{self.device} with {self.memory / 1e9:.1f} GB, {main}"


@dataclass(frozen=True)
class Speed:
    """How fast the network is on the device, measured; seconds for one voxel of one patch."""

    train: float  # forward, backward and optimiser
    forward: float  # alone, as in validation
    measured: str  # on what, for the reason


def read_machine(device: str, memory: str) -> Machine:
    """The machine that is there, with the memory that was given; `auto` reads each. Raises AutoconfError."""
    if device not in ("auto", "cpu", "cuda"):
        raise AutoconfError(f"--device is '{device}'. It must be auto, cpu or cuda.")
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    ram, cores = free_memory(), usable_cores()
    if memory != "auto":
        amount = parse_memory(memory)
        return Machine(device, amount, amount if device == "cpu" else ram, cores)
    if device == "cpu":
        return Machine(device, ram, ram, cores)
    import torch

    if not torch.cuda.is_available():
        raise AutoconfError("--memory auto: no CUDA device is here to read. Give its memory, such as --memory 24GB.")
    return Machine(device, float(torch.cuda.get_device_properties(0).total_memory), ram, cores)


def free_memory() -> float:
    """Bytes of main memory that a new process could take; a container's own limit counts too."""
    free = float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        with open("/proc/meminfo", encoding="ascii") as stream:  # caches count as free there, unlike above
            free = 1024.0 * int(re.search(r"MemAvailable:\s+(\d+) kB", stream.read())[1])  # type: ignore[index]
        with open("/sys/fs/cgroup/memory.max") as limit, open("/sys/fs/cgroup/memory.current") as used:
            free = min(free, float(limit.read()) - float(used.read()))
    except (OSError, TypeError, ValueError):  # no Linux, no container, or one without a limit ("max")
        pass
    return max(free, 1.0)


def measure_speed(bundle: Bundle, patch: tuple[int, ...], device: str, amp: bool = True) -> Speed:
    """Time real training steps of the bundle's network, and forward passes alone, on the device that is here.

    patch: voxels. One patch of noise; AdamW; bfloat16 as the bundle uses it with this `amp`. Raises AutoconfError if
    the device is not here, or has less memory than the plan was asked for.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise AutoconfError("--time needs a training step measured on the device, and no CUDA device is here.")
    network = build_network(bundle.configs, patch, device)
    image = torch.randn(1, bundle.channels, *patch, device=device)
    optimiser = torch.optim.AdamW(network.parameters())
    fast = torch.cpu._is_avx512_bf16_supported() if device == "cpu" else torch.cuda.is_bf16_supported(False)
    low = amp and fast

    def forward() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=low):
            return network(image)

    def train() -> None:
        optimiser.zero_grad()
        forward().float().square().mean().backward()
        optimiser.step()

    sides = by(patch)
    try:
        step = _seconds(train, device)
        network.eval()
        with torch.no_grad():
            alone = _seconds(forward, device)
    except torch.OutOfMemoryError:
        raise AutoconfError(
            f"--time: a patch of {sides} does not fit the {device} that is here. Give less --memory."
        ) from None
    voxels = image[0, 0].numel()
    said = f"a step of {sides} took {step:.2f} s in {'bfloat16' if low else 'float32'} on this {device}"
    return Speed(step / voxels, alone / voxels, said)


def _seconds(run: Callable[[], object], device: str) -> float:
    """The mean of TIMED_STEPS runs, after one more."""
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else torch.cpu.synchronize
    run()
    wait()
    began = time.perf_counter()
    for _ in range(TIMED_STEPS):
        run()
    wait()
    return (time.perf_counter() - began) / TIMED_STEPS
