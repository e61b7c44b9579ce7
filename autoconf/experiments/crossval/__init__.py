"""`autoconf crossval`: one training per fold, all cases scored by networks that never saw them, and an ensemble.

settings.py   what is asked for, checked             folds.py    one fold: train, segment what was left out
result.py     all out-of-fold masks scored together   files.py    what is written of that
"""

from __future__ import annotations

from autoconf.errors import AutoconfError
from autoconf.experiments.crossval.folds import do_folds
from autoconf.experiments.crossval.result import score_folds
from autoconf.experiments.crossval.settings import read_job
from autoconf.experiments.setup import remember
from autoconf.workers.engine import read_engine
from autoconf.workers.parts import only_one


def crossval(
    work: str,
    bundle: str,
    plan: str,
    out: str,
    network: str = "",
    folds: str = "",
    device: str = "",
    jobs: int = 1,
    cluster: str = "",
    slurm: str = "",
    probabilities: bool = False,
    set: tuple[str, ...] = (),  # noqa: A002 - the flag is called --set
) -> None:
    """Train a network per fold, let each segment the cases it never saw, and score all of these masks together.

    The same command goes on where it was stopped. Test cases are never looked at.

    work: folder that `inspect` wrote.
    bundle: folder of the bundle; plan: the override file that `plan` or `tune` wrote.
    out: folder for fold-0, fold-1, ..., predictions, scores, crossval.csv, and folds.yaml for ensemble inference.
    network: one of BUNDLE/configs/networks, the one the plan was made for; empty: the bundle's own.
    folds: which ones, e.g. 0,2; empty: all in the datalist.
    device: cpu, cuda or cuda:1; several, cuda:0,cuda:1, are dealt to the jobs; empty: what is there.
    jobs: folds at once on this machine, or jobs of Slurm.
    cluster: tcp://HOST:PORT or tls://HOST:PORT of a Dask scheduler, whose workers do the folds.
    slurm: 'queue=gpu cores=8 memory=32GB walltime=08:00:00 ...': start workers through Slurm (dask-jobqueue).
    probabilities: keep those of every voxel, large files, and let the scores say whether they mean what they say; folds
      that were done without are segmented again, not trained.
    set: key=value of the bundle, on top of the plan; may be given several times.
    """
    engine = read_engine(jobs, device, cluster, slurm)
    job = read_job(work, bundle, plan, out, network, folds, probabilities, set)
    with only_one(job.setup.home):
        remember(job.setup, {})
        left = do_folds(job, engine)
        if left.failed:
            said = "; ".join(f"{fold}: {reason}" for fold, reason in left.failed.items())
            failed = f"{len(left.failed)} of {len(job.folds)} folds failed. {said}."
            raise AutoconfError(f"{failed} The same command tries again.")
        score_folds(job)
