"""What a training keeps on disk: the best weights, the last ones, and all that it takes to go on after a stop.

Every file is written aside and renamed: who reads one, or comes after a kill, finds it whole. Of several processes
only rank 0 writes.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from .errors import refuse

LOST_WORKER = "DataLoader worker"  # how torch begins to say so
FULL = (errno.ENOSPC, errno.EDQUOT)  # of a disk, or of what this user may take of it


class KeepBest:
    """Write model.pt, a plain state dict, whenever a validation gave the best key metric so far.

    Attach to the evaluator. output_dir: where to. network: as the trainer has it.
    """

    def __init__(self, output_dir: str, network: torch.nn.Module) -> None:
        self.path = Path(output_dir) / "model.pt"
        self.network = network

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if engine.state.best_metric_epoch == engine.state.epoch and is_first():
            save(plain(self.network).state_dict(), self.path)


class KeepLast:
    """Write model_final.pt, a plain state dict, when all epochs are done. Attach to the trainer."""

    def __init__(self, output_dir: str, network: torch.nn.Module) -> None:
        self.path = Path(output_dir) / "model_final.pt"
        self.network = network

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if engine.state.epoch == engine.state.max_epochs and is_first():
            save(plain(self.network).state_dict(), self.path)


def refuse_lost_worker(error: Exception) -> NoReturn:
    """End in one line when a process that loads data is gone, as it is when the kernel needs its memory."""
    why = str(error).splitlines()[0].strip(" .")
    refuse(f"{why}. Memory may be short: lower --num_workers (0: no such process); --resume True goes on.")


def plain(network: torch.nn.Module) -> torch.nn.Module:
    """The network itself, without what shares it out among processes."""
    return network.module if isinstance(network, torch.nn.parallel.DistributedDataParallel) else network


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def say(message: str) -> None:
    """A line for the user, from one process only."""
    if is_first():
        print(f"training: {message}", file=sys.stderr, flush=True)


def save(content: Any, path: Path, before: Path | None = None) -> None:
    """Write a file of tensors whole, or leave the old one as it is. before: where the old one is kept."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        if before is not None and path.exists():
            os.replace(path, before)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into a RuntimeError
        partial.unlink(missing_ok=True)
        if LOST_WORKER in str(error):  # torch tells of it wherever the program happens to be
            refuse_lost_worker(error)
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        refuse(f"cannot write {path}: {why}. Free some space; what was written before is whole, --resume True goes on.")
