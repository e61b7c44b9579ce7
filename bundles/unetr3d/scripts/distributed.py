"""Several processes on one network, started by torchrun: on GPUs with nccl, else on CPUs with gloo."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.data import DistributedSampler as EvenOrUneven
from monai.handlers import LrScheduleHandler, ValidationHandler
from torch.utils.data import Dataset, DistributedSampler, Sampler, Subset

from .checkpoints import RESTARTS, Resume
from .errors import ROOT, refuse
from .handlers import AverageWeights, ClipGradients, StopOnNan

MEETING = 300  # seconds until all processes of a job must have come
LOST = ("Connection closed by peer", "Connection reset by peer", "Connection refused", "Broken pipe", "gloo/transport")
ENDED = (
    "another process of this job was lost, so it ends. Look above for why; --resume True goes on from the last epoch."
)
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
        refuse("several processes need torchrun: torchrun --standalone --nproc_per_node=2 -m monai.bundle run ...")
    local = int(os.environ["LOCAL_RANK"])
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local)
    if not dist.is_initialized():
        explain_lost_processes()
        store, rank, processes = next(dist.rendezvous("env://"))
        name = agree(store, rank, processes)
        fresh = dist.PrefixStore(name, store)
        dist.init_process_group("nccl" if cuda else "gloo", store=fresh, rank=rank, world_size=processes)
        restarts = torch.tensor(max(int(name.partition("-")[0]), int(os.environ.get(RESTARTS, 0))))
        restarts = restarts.cuda() if cuda else restarts
        dist.all_reduce(restarts, dist.ReduceOp.MAX)
        os.environ[RESTARTS] = str(int(restarts))  # alike for all: torchrun counts failures of the own node only
    device = torch.device(f"cuda:{local}" if cuda else "cpu")
    return Process(dist.get_rank(), dist.get_world_size(), device, [local] if cuda else None)


def agree(store: dist.Store, rank: int, processes: int) -> str:
    """A name that all processes of this start of the job have in common, and those of no earlier start: STARTS-RANDOM,
    with the number of starts before this one, as far as the store knows of them.

    torchrun hands the store of its first start to every later one. There a process would find the addresses of its
    dead predecessors, and its group could not be joined. torchrun's own count is no such name: it differs from node to
    node. So every process asks under a name of its own, and rank 0 answers until all have heard.
    """
    me = uuid.uuid4().hex
    if rank == 0:
        me = f"{store.add('starts', 1) - 1}-{me}"
    else:
        store.set(f"ask/{rank}", me)
        store.wait([f"answer/{me}"], timedelta(seconds=MEETING))
        name = store.get(f"answer/{me}").decode()
        store.set(f"heard/{name}/{rank}", "")
        return name
    missing, ends = set(range(1, processes)), time.monotonic() + MEETING
    while missing:
        for other in sorted(missing):
            if store.check([f"ask/{other}"]):  # perhaps by a dead one; then the living one asks a moment later
                store.set(f"answer/{store.get(f'ask/{other}').decode()}", me)
            if store.check([f"heard/{me}/{other}"]):
                missing.remove(other)
        if time.monotonic() > ends:
            refuse(f"{len(missing)} of {processes} processes did not come within {MEETING} s. Look at their output.")
        time.sleep(0.02)
    return me


def explain_lost_processes() -> None:
    """Say in one line that the job ends because another of its processes was lost; without it, pages of traceback.

    The others notice it in two ways: a message that does not arrive, or torchrun's SIGTERM.
    """
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if any(isinstance(e, dist.DistError) or any(sign in str(e) for sign in LOST) for e in causes(error)):
            print(f"{ROOT.name}: {ENDED}", file=sys.stderr, flush=True)
        else:
            usual(kind, error, trace)

    def end(number: int, frame: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            print(f"{ROOT.name}: {ENDED}", file=sys.stderr, flush=True)
        os._exit(128 + number)  # not by an exception: a thread that waits for the lost process would hold it up

    sys.excepthook = hook
    signal.signal(signal.SIGTERM, end)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from: MONAI wraps whatever happens in a run."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class MeanLoss:
    """Replace the loss of an iteration by its mean over all processes, so that what is shown, written and looked at
    for numbers that are none is the loss of the whole batch, and all processes stop together. Attach it first."""

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        loss = engine.state.output["loss"].detach().clone()
        dist.all_reduce(loss)
        engine.state.output["loss"] = loss / dist.get_world_size()


def handlers_of(handlers: Sequence[Any], process: Process) -> list[Any]:
    """Those of a trainer's handlers that this process needs, after the one that shares the loss."""
    return [MeanLoss()] + [handler for handler in handlers if process.rank == 0 or isinstance(handler, EVERYWHERE)]


class RepeatingSampler(DistributedSampler):
    """Draw each case `repeats` times per epoch, shared out evenly among the processes.

    Every process shuffles alike, from `seed` and the epoch (which MONAI's trainer sets), and takes every n-th index,
    the same number of them for all: up to n - 1 draws are repeated at the end. Two processes with a batch of 1 draw
    what one process with a batch of 2 draws.
    """

    def __init__(self, dataset: Dataset, repeats: int, rank: int, processes: int, seed: int = 0) -> None:
        super().__init__(dataset, num_replicas=processes, rank=rank, seed=seed)
        self.repeats = repeats

    def __len__(self) -> int:
        return -(-len(self.dataset) * self.repeats // self.num_replicas)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        length = len(self.dataset)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.cat([torch.randperm(length, generator=generator) for _ in range(self.repeats)]).tolist()
        total = len(self) * self.num_replicas
        order = (order * -(-total // len(order)))[:total]
        return iter(order[self.rank :: self.num_replicas])


def share(dataset: Dataset, process: Process) -> Subset:
    """This process's cases of a data set: every n-th, so that none is left out and none is there twice."""
    cases = len(dataset)  # type: ignore[arg-type]
    if cases < process.processes:
        refuse(f"{cases} cases for {process.processes} processes. Start fewer.")
    return Subset(dataset, range(process.rank, cases, process.processes))


def validation_sampler(dataset: Dataset, process: Process) -> Sampler:
    """Share the cases out so that none is scored twice: some processes may get one more than others."""
    cases = len(dataset)  # type: ignore[arg-type]
    if cases < process.processes:
        refuse(f"{cases} validation cases for {process.processes} processes. Start fewer, or choose another --fold.")
    return EvenOrUneven(dataset, even_divisible=False, num_replicas=process.processes, rank=process.rank, shuffle=False)
