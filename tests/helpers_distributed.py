"""Jobs of several processes, as torchrun starts them, and ways to lose one of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch.distributed as dist
from helpers_bundles import UNETR3D
from helpers_processes import start_module

CONFIGS = UNETR3D / "configs"
PAIR = ("--standalone", "--nproc_per_node=2")
Kill = tuple[int, Callable[[], bool]]


@dataclass
class Job:
    """A running torchrun and what it has said; `said` is whole once `wait` has returned."""

    process: subprocess.Popen
    log: Path
    said: str = field(default="")

    def wait(self, seconds: float = 150) -> int:
        """The exit status."""
        status = self.process.wait(timeout=seconds)
        self.said = self.log.read_text()
        return status

    def workers(self) -> list[int]:
        """The process ids of the ranks that torchrun has now, in their order."""
        return [child for _, child in sorted((rank_of(child), child) for child in children(self.process.pid))]

    def wait_for(self, happened: Callable[[], bool], seconds: float = 120) -> None:
        """Return as soon as something is so; it must be so before the job ends."""
        ends = time.monotonic() + seconds
        while not happened():
            assert self.process.poll() is None and time.monotonic() < ends, self.log.read_text()[-4000:]
            time.sleep(0.01)


@dataclass(frozen=True)
class Ended:
    """The first exit status that is not 0, or 0; and what all processes said."""

    status: int
    said: str


@contextlib.contextmanager
def torchrun(
    launcher: tuple[str, ...], files: list[Path | str], log: Path, *words: object, run_id: str = "training"
) -> Iterator[Job]:
    """`torchrun LAUNCHER -m monai.bundle run RUN_ID ...`; nothing of it is left running in the end.

    files: names in the bundle's configs, or paths. One thread for each process. torchrun makes each rank the leader of
    a session of its own, so that all of them are looked for before torchrun itself is killed.
    """
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", *launcher, "-m", "monai.bundle", "run"]
    command += [run_id, "--config_file", str(paths_of(files)), *map(str, words)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with open(log, "w") as stream:
        process = subprocess.Popen(command, env=env, stdout=stream, stderr=subprocess.STDOUT)
    job = Job(process, log)
    try:
        yield job
    finally:
        for pid in [*children(process.pid), process.pid] if process.poll() is None else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def finished(launcher: tuple[str, ...], files: list[Path | str], log: Path, *words: object, **more: str) -> Job:
    """A job that has ended well."""
    with torchrun(launcher, files, log, *words, **more) as job:
        assert job.wait() == 0, job.said[-6000:]
    return job


def ranks(
    processes: int,
    files: list[Path | str],
    log: Path,
    *words: object,
    run_id: str = "training",
    kill: Kill | None = None,
) -> Ended:
    """The processes that torchrun would start, without it and quicker."""
    command = ["run", run_id, "--config_file", str(paths_of(files)), *map(str, words)]
    return ranks_of(processes, "monai.bundle", command, log, kill=kill)


def ranks_of(
    processes: int, module: str, words: list[str], log: Path, cwd: Path | None = None, kill: Kill | None = None
) -> Ended:
    """`python -m MODULE WORDS` in forks, which meet in a store of this process.

    As with torchrun the first that fails ends the others, by SIGTERM. kill: a rank, which gets SIGKILL as soon as
    something is so.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    meeting |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    places = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    running = [start_module(module, words, [log, log], cwd, meeting | place) for place in places]
    ends = time.monotonic() + 150
    while any(process.is_alive() for process in running):
        if kill and kill[1]():
            running[kill[0]].kill()
        if time.monotonic() > ends:
            for process in running:
                process.kill()
        if any(process.exitcode for process in running):
            for process in running:
                process.terminate()
                process.join(30)
        time.sleep(0.01)
    return Ended(next((process.exitcode for process in running if process.exitcode), 0), log.read_text())


def trained(processes: int, files: list[Path | str], log: Path, *words: object, **more: str) -> Ended:
    """Such processes, which all have ended well."""
    ended = ranks(processes, files, log, *words, **more)
    assert ended.status == 0, ended.said[-6000:]
    return ended


def paths_of(files: list[Path | str]) -> list[str]:
    return [str(CONFIGS / file) if isinstance(file, str) else str(file) for file in files]


def our_lines(said: str) -> list[str]:
    """What the processes of a job said about its end, without torchrun's own report."""
    return [line for line in said.splitlines() if line.startswith("unetr3d: ")]


def children(pid: int) -> list[int]:
    """The processes that a process has started itself."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def rank_of(pid: int) -> int:
    """A rank's RANK; -1 of a process that is no rank, or is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if entry.startswith(b"RANK="):
                return int(entry[5:])
    return -1
