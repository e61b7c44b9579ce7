"""The verb `submit`: any other verb, several times at once, as jobs of a cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from autoconf.errors import AutoconfError
from autoconf.output import check_out


def submit(
    workers: int = 1,
    folder: str = "jobs",
    executor: str = "slurm",
    set: tuple[str, ...] = (),  # noqa: A002 - the flag is called --set
    *,
    command: list[str],
) -> None:
    """Run one command of autoconf as several jobs: workers that share the folds of a cross-validation, or a search.

        python -m autoconf submit --workers 5 --folder logs --set partition=gpu --set gpus_per_node=1 \\
            -- crossval work --bundle bundles/unetr3d --plan plan.yaml --out work/cv

    After `--` comes the command, without `python -m autoconf`; its words are checked before anything is submitted. A
    job that is stopped by its time limit, or preempted, is put into the queue again.

    workers: how many jobs.
    folder: for the logs of the jobs; every machine must see it, as it must see the data and this folder.
    executor: slurm, which returns at once; or local: processes of this machine, waited for.
    set: key=value for the jobs: timeout_min (default: a day), mem_gb, cpus_per_task, gpus_per_node, name; and what
      else submitit knows of Slurm: partition, account, qos, constraint, ... May be given several times.
    """
    from autoconf.workers.cluster import EXECUTORS, parse_options, submit_workers

    if workers < 1:
        raise AutoconfError(f"--workers is {workers}. It must be at least 1.")
    if executor not in EXECUTORS:
        raise AutoconfError(f"--executor is '{executor}'. It must be one of {', '.join(EXECUTORS)}.")
    _check_command(command)
    options = parse_options(set)
    check_out(folder, flag="--folder")
    home = Path(os.path.abspath(folder))
    jobs = submit_workers(command, workers, home, executor, options)
    for job in jobs:
        print(f"job {job.job_id}: log in {job.paths.stdout}, errors in {job.paths.stderr}", flush=True)
    if executor == "local":
        _wait(jobs)


def _check_command(command: list[str]) -> None:
    """Refuse a mistyped command now, not hours later in a job."""
    from autoconf.__main__ import OF_EVERY_VERB, VERBS, check_words, function_of

    verb, *words = [word for word in command if word not in OF_EVERY_VERB] or [""]
    known = [name for name in VERBS if name != "submit"]
    if verb not in known:
        raise AutoconfError(f"no verb '{verb}' to submit. Write one after `--`: {', '.join(known)}.")
    check_words(verb, function_of(verb), words)


def _wait(jobs: list[Any]) -> None:
    """Until all have ended. Raises AutoconfError if one failed."""
    try:
        failed = [job for job in jobs if job.exception() is not None]
    except BaseException:
        for job in jobs:
            job.cancel()
        raise
    if failed:
        logs = ", ".join(str(job.paths.stderr) for job in failed)
        raise AutoconfError(
            f"{len(failed)} of {len(jobs)} workers failed. Why, say the lines `autoconf: ...` in {logs}."
        )
    print("all have ended")
