"""`autoconf tune`: short trainings find settings for a plan; the best is confirmed and written as an override file.

docs/how-to/tuning.md explains it.

space.py      what may be tuned, checked        settings.py   what a search is; the data without the test list
search.py     one worker: trial after trial     study.py      Optuna: what to try next, when to give up
confirm.py    tuned against default             result.py     tuned.yaml, trials.csv, the screen
page.py       the page                          pictures.py   its pictures
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autoconf.commands import environment
from autoconf.errors import AutoconfError
from autoconf.output import check_out, check_out_file

if TYPE_CHECKING:
    from autoconf.experiments.tune.search import Worker
    from autoconf.experiments.tune.settings import Search


def tune(
    work: str,
    bundle: str,
    plan: str = "",
    network: str = "",
    space: str = "",
    preset: str = "",
    stages: bool = False,
    sampler: str = "tpe",
    trials: int = 20,
    seeds: int = 3,
    timeout: str = "",
    jobs: int = 1,
    device: str = "",
    set: tuple[str, ...] = (),  # noqa: A002 - the flag is called --set
    seed: int = 0,
    folder: str = "",
    storage: str = "",
    join: bool = False,
    out: str = "tuned.yaml",
) -> None:
    """Search for better settings with short trainings, confirm the best, and write it as an override file.

    Each trial is one process of the bundle, so that an error or a full memory ends a trial, not the search. Stopped by
    ctrl-C or by a power cut and started again, it goes on. The testing list is never looked at.

    work: folder that `inspect` wrote.
    bundle: folder of the bundle; plan: the override file that trainings get, made by `plan`.
    network: one of BUNDLE/configs/networks; else the plan's.
    space: YAML of keys and ranges; else BUNDLE/configs/tuning.yaml.
    preset: study: the study's two-stage grid (BUNDLE/configs/tuning_study.yaml), every trial in full.
    stages: tune in stages, the learning rate first; each stage goes on from the best of the one before.
    sampler: tpe (Optuna's, seeded), grid (every combination of the space's values), or random.
    trials: of each stage; a grid has as many as it has points.
    seeds: how often best and default are trained again to be compared, each time on another fold; 0: not at all.
    timeout: stop after that time, e.g. 2h; what was found so far is written, and the same command goes on.
    jobs: workers on this machine.
    device: cpu, cuda, cuda:1; for several workers a list, cuda:0,cuda:1. Empty: what is there.
    set: key=value of the bundle for every training; may be given several times.
    seed: of the search; the same seed draws the same trials.
    folder: where all is kept, shared by all workers; else WORK/tune.
    storage: Optuna storage URL; else a journal file in the folder, which needs no server and works on NFS.
    join: work on a search that runs already, here or on another machine that sees the same folder; it says how many
      trials and seeds there are.
    out: the override file, in place of the plan.
    """
    from autoconf.arguments import parse_time
    from autoconf.experiments.tune.settings import Search, begin, check_fold, check_sampler, read_search
    from autoconf.experiments.tune.study import load_optuna, repair_journal
    from autoconf.workers.sealed import MASKS, read_sealed

    if preset:
        sampler = "grid"
    to, choices, heading, found = read_search(bundle, network, plan, set, space, preset, stages)
    check_sampler(sampler, found)
    for name, value, least in (("trials", trials, 1), ("seeds", seeds, 0), ("jobs", jobs, 1), ("seed", seed, 0)):
        if value < least:
            raise AutoconfError(f"--{name} is {value}. It must be at least {least}.")
    seconds = parse_time(timeout, "--timeout") if timeout else None
    if not join:  # who helps writes none
        check_out_file(out, "tuned.yaml")
    home = Path(os.path.abspath(folder or os.path.join(work, "tune")))
    check_out(str(home), flag="--folder")
    load_optuna()
    data = read_sealed(work, to, MASKS in choices)
    search = Search(home, work, to, choices, heading, found, sampler, trials, seeds, seed, storage, data)
    check_fold(search)
    search = begin(search, join)
    if not storage and repair_journal(home / "journal.log"):
        print("the journal had a line that was cut short; it is taken out", file=sys.stderr)
    devices = device.split(",") if device else [""]
    worker = _worker(devices, 0, seconds)
    if join:
        _help(search, worker)
        return
    flags: dict[str, object] = {
        "bundle": bundle,
        "plan": plan,
        "network": network,
        "space": space,
        "preset": preset,
        "sampler": sampler,
    }
    flags |= {"trials": trials, "seeds": seeds, "seed": seed}
    command = ["tune", work, *(f"--{name}={value}" for name, value in flags.items() if value != "")]
    command += ["--stages"] * stages + [f"--set={word}" for word in set]
    words = [*command, f"--folder={home}"]
    words += [f"--{name}={value}" for name, value in (("timeout", timeout), ("storage", storage)) if value]
    with _helpers(jobs, devices, search, words):
        _lead(search, worker, out, shlex.join(["autoconf", *command]))


def _worker(devices: Sequence[str], index: int, seconds: float | None) -> Worker:
    from autoconf.experiments.tune.search import Worker

    return Worker(devices[index % len(devices)], None if seconds is None else time.monotonic() + seconds)


def _work(search: Search, worker: Worker) -> bool:
    """Whether all trials are over; False if the time was up before."""
    from autoconf.experiments.tune.search import TimeUp, work

    try:
        work(search, worker)
    except TimeUp:
        print("the time is up; the same command goes on", file=sys.stderr, flush=True)
        return False
    return True


def _help(search: Search, worker: Worker) -> None:
    """Take trials, and then a share of the runs that confirm the best."""
    from autoconf.experiments.tune.confirm import do_runs, to_confirm
    from autoconf.experiments.tune.search import TimeUp

    best = to_confirm(search) if _work(search, worker) else None
    if best is not None:
        try:
            do_runs(search, worker, best)
        except TimeUp:
            print("the time is up; the same command goes on", file=sys.stderr, flush=True)


def _lead(search: Search, worker: Worker, out: str, command: str) -> None:
    """Search, confirm, write. command: what was asked for, without where it is kept and for how long."""
    from autoconf.experiments.tune.confirm import confirm, to_confirm
    from autoconf.experiments.tune.result import write
    from autoconf.experiments.tune.search import TimeUp, best_of, trials

    try:
        finished = _work(search, worker)
    except KeyboardInterrupt:
        if trials(search):
            write(search, trials(search), None, out, command, finished=False)
        raise
    found = trials(search)
    if best_of(found) is None:
        raise AutoconfError(
            f"no trial ran to its end ({len(found)} are over). Their logs: {search.folder}/trials/*/log.txt"
        )
    best = to_confirm(search) if finished else None
    verdict = None
    if best is not None:
        try:
            verdict = confirm(search, worker, best)
        except TimeUp:
            print("the time is up before the best was confirmed; the same command goes on", file=sys.stderr)
    write(search, found, verdict, out, command, finished)


@contextlib.contextmanager
def _helpers(jobs: int, devices: Sequence[str], search: Search, words: list[str]) -> Iterator[None]:
    """More workers on this machine, as long as this lasts: the same command with --join."""
    from autoconf.bundle.runs import end, start

    helpers = []
    try:
        for index in range(1, jobs):
            device = devices[index % len(devices)]
            command = ["-W", "ignore", "-m", "autoconf", *words, "--join", *([f"--device={device}"] if device else [])]
            helpers.append(
                start(command, search.folder / f"worker-{index}.log", {"PYTHONPATH": environment()["PYTHONPATH"]})
            )
        yield
    finally:
        for helper in helpers:
            end(helper)
