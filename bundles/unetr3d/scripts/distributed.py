"""Several processes on one network, started by torchrun: on GPUs with nccl, else on CPUs with gloo."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.handlers import CheckpointLoader, LrScheduleHandler, MetricsSaver, ValidationHandler
from torch.distributed.rendezvous import rendezvous
from torch.utils.data import Dataset, Sampler, Subset

from .errors import refuse
from .handlers import AverageWeights, ClipGradients, WatchNumbers
from .inferers import CheckGradients
from .lost import speak_for_the_lost
from .pretrained import Freeze
from .provenance import Provenance
from .resume import RESTARTS, Resume

# What trains or gathers, in every process; all other handlers only write or show something, which is rank 0's.
# WatchNumbers sees the gradient that all have in common, and each process leaves the same steps out.
EVERYWHERE = (ClipGradients, WatchNumbers, AverageWeights, LrScheduleHandler, ValidationHandler, Resume, Freeze)
EVERYWHERE += (CheckpointLoader, MetricsSaver, CheckGradients, Provenance)


@dataclass(frozen=True)
class Process:
    """This process's place: `device_ids` is what DistributedDataParallel wants, None on a CPU."""

    rank: int
    processes: int
    device: torch.device
    device_ids: list[int] | None


def start(advice: str = "--resume True goes on after the last whole epoch") -> Process:
    """Join the group that torchrun announced in the environment.

    advice: what to do when a process of the job is lost, for the line that the others then say.
    """
    if "LOCAL_RANK" not in os.environ:
        refuse("several processes: needs torchrun --standalone --nproc_per_node=2 -m monai.bundle run ...")
    local = int(os.environ["LOCAL_RANK"])
    cuda = torch.cuda.is_available()
    device = torch.device(f"cuda:{local}" if cuda else "cpu")
    if not dist.is_initialized():
        _join(device, advice)
    return Process(dist.get_rank(), dist.get_world_size(), device, [local] if cuda else None)


def _join(device: torch.device, advice: str) -> None:
    """Form the group under keys that no earlier attempt of the job has used.

    torchrun keeps one store for all its attempts, and torch 2.5 and later put no attempt into its keys ("a new store
    for every retry", torch/distributed/rendezvous.py, which it is not): a process that is started again may read the
    address of a dead one, and fails with "Connection refused". TORCHELASTIC_RESTART_COUNT would not do as a part of
    the keys, because each node counts by itself.
    """
    store, rank, processes = next(rendezvous("env://"))
    attempt, name = meet(store, rank, processes)
    store = dist.PrefixStore(name, store)
    speak_for_the_lost(store, advice)
    gpus = torch.cuda.device_count()
    if device.type == "cuda" and device.index >= gpus:  # asked now that one can speak for all
        refuse(f"{gpus} GPUs for more processes. Lower torchrun's --nproc_per_node.")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=store, rank=rank, world_size=processes)
    restarts = torch.tensor(max(attempt - 1, int(os.environ.get(RESTARTS, 0))), device=device)
    dist.all_reduce(restarts, dist.ReduceOp.MAX)
    os.environ[RESTARTS] = str(int(restarts))  # by which all of them go on with what was kept, or none


def meet(store: dist.Store, rank: int, processes: int) -> tuple[int, str]:
    """The number of this attempt, from 1, and a name that its processes share and no other attempt has.

    Rank 0 answers whoever is there until all have said that they got the answer: what processes of an earlier attempt
    left in the store is answered too, and harms nobody. They are dead: torchrun ends all before it starts any.
    """
    me = uuid.uuid4().hex
    if rank > 0:
        store.set(f"here/{rank}", me)
        attempt, name = store.get(f"answer/{me}").decode().split()
        store.set(f"{name}/{rank}", "met")
        return int(attempt), name
    attempt = store.add("attempts", 1)
    missing = list(range(1, processes))
    while missing:  # torchrun ends this process if one of them is lost meanwhile
        for other in missing:
            if store.check([f"here/{other}"]):
                store.set(f"answer/{store.get(f'here/{other}').decode()}", f"{attempt} {me}")
        missing = [other for other in missing if not store.check([f"{me}/{other}"])]
        time.sleep(0.02)
    return attempt, me


def handlers_of(handlers: Sequence[Any], process: Process, sampler: RepeatingSampler | None = None) -> list[Any]:
    """Those of an engine's handlers that this process needs. sampler: given for a trainer, whose handlers it adds."""
    needed = [handler for handler in handlers if process.rank == 0 or isinstance(handler, EVERYWHERE)]
    return needed if sampler is None else [SameEpoch(sampler, process), MeanLoss(), *needed]


class MeanLoss:
    """Put the mean over all processes in the place of each step's loss, for all handlers that come after this one.

    What is shown and written is then the loss of the whole batch, and one that is no number stops the job. One
    number is exchanged per step, beside all gradients.
    """

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        loss = engine.state.output["loss"].detach().clone()
        dist.all_reduce(loss)
        engine.state.output["loss"] = loss / dist.get_world_size()


class SameEpoch:
    """Tell the sampler which epoch begins, also after a resume, and refuse to train where processes differ in it."""

    def __init__(self, sampler: RepeatingSampler, process: Process) -> None:
        self.sampler = sampler
        self.process = process

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        self.sampler.epoch = engine.state.epoch
        epoch = torch.tensor([engine.state.epoch, -engine.state.epoch], device=self.process.device)
        dist.all_reduce(epoch, dist.ReduceOp.MAX)
        last, first = int(epoch[0]), -int(epoch[1])
        if first != last:
            refuse(
                f"some processes begin with epoch {first}, others with {last}. "
                "Give an --output_dir that all nodes share: each process reads resume.pt there."
            )


class RepeatingSampler(Sampler[int]):
    """Draw each case `repeats` times per epoch, shared out evenly among the processes.

    Every process shuffles alike, from `seed` and `epoch` (set it before each), and takes every n-th index. The same
    number of indices for all: up to n - 1 draws are repeated at the end.
    """

    def __init__(self, dataset: Dataset, repeats: int, rank: int, processes: int, seed: int = 0) -> None:
        self.length = len(dataset)  # type: ignore[arg-type]
        self.repeats = repeats
        self.seed = seed
        self.epoch = 1
        self.rank, self.processes = rank, processes

    def __len__(self) -> int:
        return -(-self.length * self.repeats // self.processes)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.cat([torch.randperm(self.length, generator=generator) for _ in range(self.repeats)]).tolist()
        total = len(self) * self.processes
        order = (order * -(-total // len(order)))[:total]
        return iter(order[self.rank :: self.processes])


def share(dataset: Dataset, process: Process) -> Subset:
    """This process's part of the cases to score: each case is in one part, and some parts may have one more.

    Parts are runs of neighbours, so that scores gathered from rank 0, 1, ... stand in the order of the cases.
    """
    cases = len(dataset)  # type: ignore[arg-type]
    if cases < process.processes:
        refuse(f"{cases} cases to score for {process.processes} processes. Start no more than {cases}.")
    first, end = (cases * rank // process.processes for rank in (process.rank, process.rank + 1))
    return Subset(dataset, range(first, end))
