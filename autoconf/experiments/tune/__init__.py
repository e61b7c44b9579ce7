"""`autoconf tune`: short trainings find settings for a plan; the best is confirmed and written as an override file.

docs/how-to/tuning.md explains it.

space.py      what may be tuned, checked        settings.py   what a search is; the data without the test list
search.py     the trials                        study.py      Optuna: what to try next, when to give up
confirm.py    tuned against default             result.py     tuned.yaml, trials.csv, the screen
page.py       the page                          pictures.py   its pictures
"""

from __future__ import annotations

import os
import shlex
import sys
import time

from autoconf.arguments import parse_time
from autoconf.errors import AutoconfError
from autoconf.experiments.setup import remember
from autoconf.experiments.tune.confirm import confirm, to_confirm
from autoconf.experiments.tune.result import write
from autoconf.experiments.tune.search import best_of, do_trials, trials
from autoconf.experiments.tune.settings import Search, read_search
from autoconf.experiments.tune.study import load_optuna, repair_journal
from autoconf.output import check_out, check_out_file
from autoconf.workers.engine import Engine, read_engine
from autoconf.workers.parts import only_one


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
    cluster: str = "",
    slurm: str = "",
    set: tuple[str, ...] = (),  # noqa: A002 - the flag is called --set
    seed: int = 0,
    folder: str = "",
    storage: str = "",
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
    jobs: trials at once on this machine, or jobs of Slurm; cluster, slurm: as for crossval.
    device: cpu, cuda, cuda:1; several, cuda:0,cuda:1, are dealt to the jobs; empty: what is there.
    set: key=value of the bundle for every training; may be given several times.
    seed: of the search; the same seed draws the same trials.
    folder: where all is kept; else WORK/tune.
    storage: Optuna storage URL; else a journal file in the folder, which needs no server and works on NFS.
    out: the override file, in place of the plan.
    """
    engine = read_engine(jobs, device, cluster, slurm)
    ends = time.time() + parse_time(timeout, "--timeout") if timeout else None
    check_out_file(out, "tuned.yaml")
    home = folder or os.path.join(work, "tune")
    check_out(home, flag="--folder")
    load_optuna()
    search = read_search(
        *(home, work, bundle, network, plan, set, space, preset, stages),
        *(sampler, trials, seeds, seed, storage),
    )
    flags: dict[str, object] = {"bundle": bundle, "plan": plan, "network": network, "space": space, "preset": preset}
    flags |= {"sampler": search.sampler, "trials": trials, "seeds": seeds, "seed": seed}
    words = [f"--{name}={value}" for name, value in flags.items() if value != ""]
    words += ["--stages"] * stages + [f"--set={word}" for word in set]
    with only_one(search.setup.home):
        remember(search.setup, search.same())
        if not storage and repair_journal(search.setup.home / "journal.log"):
            print("the journal had a line that was cut short; it is taken out", file=sys.stderr)
        _search(search, engine, ends, out, shlex.join(["autoconf", "tune", work, *words]))


def _search(search: Search, engine: Engine, ends: float | None, out: str, command: str) -> None:
    """Search, confirm, write. command: what was asked for, without where it is kept and for how long."""
    try:
        finished = do_trials(search, engine, ends)
    except KeyboardInterrupt:
        if trials(search):
            write(search, trials(search), None, out, command, finished=False)
        raise
    found = trials(search)
    if best_of(found) is None:
        raise AutoconfError(
            f"no trial ran to its end ({len(found)} are over). Their logs: {search.setup.home}/trials/*/log.txt"
        )
    best = to_confirm(search) if finished else None
    verdict = confirm(search, engine, ends, best) if best else None
    if not finished or (best and not verdict):
        print("the time is up; the same command goes on", file=sys.stderr)
    write(search, found, verdict, out, command, finished)
