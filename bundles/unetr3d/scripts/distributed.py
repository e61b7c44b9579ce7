"""Several processes on one network, started by torchrun: on GPUs with nccl, else on CPUs with gloo."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from monai.data import DistributedSampler
from monai.handlers import LrScheduleHandler, ValidationHandler
from torch.utils.data import Dataset, Sampler

from .checkpoints import Resume
from .errors import refuse
from .handlers import AverageWeights, ClipGradients, StopOnNan

# What trains, in every process; all other handlers only write or show something, which is rank 0's.
EVERYWHERE = (ClipGradients, AverageWeights, LrScheduleHandler, ValidationHandler, StopOnNan, Resume)


@dataclass(frozen=True)
class Process:
    """This process's place: `device_ids` is what DistributedDataParallel wants, None on a CPU."""

    rank: int
    processes: int
    device: torch.device
    device_ids: list[int] | None


def start() -> Process:
    """Join the group that torchrun announced in the environment."""
    if "LOCAL_RANK" not in os.environ:
        refuse("multi_gpu_train.yaml needs torchrun: torchrun --standalone --nproc_per_node=2 -m monai.bundle run ...")
    local = int(os.environ["LOCAL_RANK"])
    cuda = torch.cuda.is_available()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    if cuda:
        torch.cuda.set_device(local)
    device = torch.device(f"cuda:{local}" if cuda else "cpu")
    return Process(dist.get_rank(), dist.get_world_size(), device, [local] if cuda else None)


def handlers_of(handlers: Sequence[Any], process: Process) -> list[Any]:
    """Those of a trainer's handlers that this process needs."""
    return [handler for handler in handlers if process.rank == 0 or isinstance(handler, EVERYWHERE)]


class RepeatingSampler(Sampler[int]):
    """Draw each case `repeats` times per epoch, shared out evenly among the processes.

    Every process shuffles alike, from `seed` and the epoch, and takes every n-th index. The same
    number of indices for all: up to n - 1 draws are repeated at the end.
    """

    def __init__(self, dataset: Dataset, repeats: int, rank: int, processes: int, seed: int = 0) -> None:
        self.length = len(dataset)  # type: ignore[arg-type]
        self.repeats = repeats
        self.seed = seed
        self.epoch = 0
        self.rank, self.processes = rank, processes

    def __len__(self) -> int:
        return -(-self.length * self.repeats // self.processes)

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.cat([torch.randperm(self.length, generator=generator) for _ in range(self.repeats)]).tolist()
        total = len(self) * self.processes
        order = (order * -(-total // len(order)))[:total]
        return iter(order[self.rank :: self.processes])


def validation_sampler(dataset: Dataset, process: Process) -> DistributedSampler:
    """Share the cases out so that none is scored twice: some processes may get one more than others."""
    cases = len(dataset)  # type: ignore[arg-type]
    if cases < process.processes:
        refuse(f"{cases} validation cases for {process.processes} processes. Start fewer, or choose another --fold.")
    return DistributedSampler(
        dataset, even_divisible=False, num_replicas=process.processes, rank=process.rank, shuffle=False
    )
