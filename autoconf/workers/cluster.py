"""Workers as jobs of a cluster, or as processes of this machine, by submitit (an optional extra)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from autoconf.bundle.runs import LAUNCHER
from autoconf.errors import AutoconfError

EXECUTORS = ("slurm", "local")
ANY = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "name")  # understood by every executor
DAY = 24 * 60  # minutes; submitit's own limit is five minutes


@dataclass(frozen=True)
class ClusterWorker:
    """One autoconf command, as submitit calls it in the job."""

    command: tuple[str, ...]

    def __call__(self) -> None:
        """Run it in a process of its own, which ends with the job. Raises RuntimeError if it fails."""
        words = [sys.executable, "-c", LAUNCHER, str(os.getpid()), "-m", "autoconf", *self.command]
        status = subprocess.call(words, stdin=subprocess.DEVNULL)
        if status:
            raise RuntimeError(f"ended with status {status}")

    def checkpoint(self) -> Any:
        """Called when the time is nearly up, or the job is preempted: the same again, which goes on where it was."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def submit_workers(
    command: Sequence[str], workers: int, folder: Path, executor: str, options: Mapping[str, Any]
) -> list[Any]:
    """Submit the same autoconf command several times; returns submitit's jobs.

    folder: for logs, seen by all machines. options: of submitit; of Slurm's, such as partition, under their own names.
    Raises AutoconfError.
    """
    try:
        import submitit
    except ImportError:
        raise AutoconfError('submitit is not installed. Install it with: pip install "gliobundle[slurm]"') from None
    known = {"timeout_min": DAY, "name": "autoconf"} | dict(options)
    named = {key if key in ANY else f"{executor}_{key}": value for key, value in known.items()}
    try:
        farm = submitit.AutoExecutor(folder=str(folder), cluster=executor)
        farm.update_parameters(**named)
        return [farm.submit(ClusterWorker(tuple(command))) for _ in range(workers)]
    except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:  # all that submitit raises
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise AutoconfError(f"{executor} took no job: {said[0].rstrip('.?')}. Check --executor and --set.") from None


def parse_options(words: Sequence[str]) -> dict[str, Any]:
    """`partition=gpu` -> {"partition": "gpu"}; values are YAML. Raises AutoconfError."""
    options = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.isidentifier():
            raise AutoconfError(f"--set {word}: write it as KEY=VALUE, such as partition=gpu.")
        try:
            options[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            options[key] = text
    return options
