"""Where parts run: in threads of this process, each over one process of the bundle, or on the workers of Dask.

Both are `concurrent.futures.Executor`s. Source: distributed and dask-jobqueue, BSD-3-Clause (docs/decisions/0027).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from autoconf.arguments import check_device
from autoconf.errors import AutoconfError
from autoconf.pool import usable_cores

CONNECT_SECONDS = 20
AGAIN = "Start it and its workers again; the same command goes on."
INSTALL = 'Install it with: pip install "gliobundle[cluster]"'


@dataclass(frozen=True)
class Engine:
    """What was asked for. jobs: parts at once. devices: dealt to them. cluster: a Dask scheduler. slurm: its options.

    With a cluster as many parts run at once as it has workers.
    """

    jobs: int = 1
    devices: tuple[str, ...] = ("",)
    cluster: str = ""
    slurm: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_local(self) -> bool:
        return not (self.cluster or self.slurm)


@dataclass(frozen=True)
class Running:
    """An engine under way. slots: how many parts can run now; raises AutoconfError when the scheduler has gone."""

    executor: Executor
    slots: Callable[[], int]


def read_engine(jobs: int, device: str, cluster: str, slurm: str) -> Engine:
    """Check the flags that all long work takes. Raises AutoconfError."""
    if jobs < 1:
        raise AutoconfError(f"--jobs is {jobs}. It must be at least 1.")
    devices = tuple(device.split(","))
    for name in devices:
        check_device(name)
    if cluster and slurm:
        raise AutoconfError("--cluster and --slurm both say where to run. Give one of them.")
    if cluster and jobs > 1:
        raise AutoconfError("--jobs is for this machine; a cluster runs as many parts as it has workers. Leave it out.")
    if cluster and "://" not in cluster:
        raise AutoconfError(f"--cluster is '{cluster}'. Write it as tcp://HOST:PORT or tls://HOST:PORT.")
    if (cluster or slurm) and len(devices) > 1:
        raise AutoconfError("--device names several; a cluster's workers have a device each. Name one, or none.")
    if not device and jobs > 1 and not slurm:
        devices = _all_devices()
    return Engine(jobs, devices, cluster, _options(slurm))


def _all_devices() -> tuple[str, ...]:
    import torch

    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count())) or ("",)


def _options(text: str) -> dict[str, Any]:
    """`queue=gpu cores=8` -> {"queue": "gpu", "cores": 8}; values are YAML. Raises AutoconfError."""
    options = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise AutoconfError(
                f"--slurm '{text}': write it as KEY=VALUE ..., such as 'queue=gpu cores=8 memory=32GB'."
            )
        options[key] = yaml.safe_load(value)
    return options


@contextmanager
def start(engine: Engine, home: Path) -> Iterator[Running]:
    """Start an engine, for as long as this lasts. home: a folder that all machines see. Raises AutoconfError."""
    if engine.is_local:
        with _shared_cores(engine.jobs), ThreadPoolExecutor(engine.jobs) as pool:
            yield Running(pool, lambda: engine.jobs)
        return
    try:
        import distributed
    except ImportError:
        raise AutoconfError(f"--cluster and --slurm need distributed. {INSTALL}") from None
    for name in ("distributed", "distributed.client", "asyncio", "tornado"):  # a line of ours says what matters
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with _cluster(engine, home) as address:
        try:
            client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise AutoconfError(f"--cluster {engine.cluster}: no Dask scheduler answers there ({error}).") from None
        with client:
            yield Running(client.get_executor(pure=False), lambda: _workers(client))


@contextmanager
def _shared_cores(jobs: int) -> Iterator[None]:
    """Each process gets its share: two that take all cores each wait for one another, seven times as long."""
    if jobs == 1 or "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = str(max(1, usable_cores() // jobs))
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


@contextmanager
def _cluster(engine: Engine, home: Path) -> Iterator[Any]:
    """The scheduler's address; or a cluster of our own, whose workers are jobs of Slurm, with TLS both ways."""
    if not engine.slurm:
        yield engine.cluster
        return
    try:
        from dask_jobqueue.slurm import SLURMCluster
        from distributed.security import Security

        security = Security.temporary()
    except ImportError:
        raise AutoconfError(f"--slurm needs dask-jobqueue and cryptography. {INSTALL}") from None
    home.mkdir(parents=True, exist_ok=True)
    known: dict[str, Any] = {"log_directory": str(home / "slurm"), "shared_temp_directory": str(home)}
    known |= {"security": security, "scheduler_options": {"dashboard": False}} | dict(engine.slurm)
    # One part at a time for each job, with all of its cores: Dask itself gives a worker's libraries one.
    cores = known.pop("cores", 1)
    prologue = [*known.pop("job_script_prologue", []), f"export OMP_NUM_THREADS={cores}"]
    try:
        cluster = SLURMCluster(cores=1, processes=1, job_cpu=cores, job_script_prologue=prologue, **known)
        cluster.scale(jobs=engine.jobs)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise AutoconfError(f"--slurm: {str(error).splitlines()[0].rstrip('.')}. Check its options.") from None
    with cluster:
        yield cluster


def _workers(client: Any) -> int:
    """How many are there now. Each gets one part, which has threads of its own."""
    if client.status != "running":
        raise AutoconfError(f"the Dask scheduler has gone. {AGAIN}")
    return len(client.nthreads())


def deal(devices: Sequence[str], taken: Sequence[str]) -> str:
    """The device that fewest of the parts under way have; the first of equals."""
    return min(devices, key=lambda device: taken.count(device))
