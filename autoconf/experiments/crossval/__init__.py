"""The verb `crossval`: one training per fold, all cases scored by networks that never saw them, and an ensemble.

settings.py   what is asked for, checked and remembered   folds.py    who does which fold, and the doing
result.py     all out-of-fold masks scored together       files.py    what is written of that
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoconf.errors import AutoconfError

if TYPE_CHECKING:
    from autoconf.experiments.crossval.settings import CrossValidation


def crossval(
    work: str,
    bundle: str,
    plan: str,
    out: str,
    network: str = "",
    folds: str = "",
    device: str = "",
    probabilities: bool = False,
    wait: bool = False,
    set: tuple[str, ...] = (),  # noqa: A002 - the flag is called --set
) -> None:
    """Train a network per fold, let each segment the cases it never saw, and score all of these masks together.

    The same command goes on where it was stopped. Started several times, here or on machines that share the folders,
    the workers share the folds; the last one to finish scores. Test cases are never looked at.

    work: folder that `inspect` wrote.
    bundle: folder of the bundle; plan: the override file that `plan` or `tune` wrote.
    out: folder for fold-0, fold-1, ..., predictions, scores, crossval.csv, and folds.yaml for ensemble inference.
    network: one of BUNDLE/configs/networks, the one the plan was made for; empty: the bundle's own.
    folds: which ones, e.g. 0,2; empty: all in the datalist.
    device: cpu, cuda or cuda:1; empty: what is there.
    probabilities: keep those of every voxel, large files, and let the scores say whether they mean what they say; folds
      that were done without are segmented again, not trained.
    wait: wait for the folds of other workers, and take over those of workers that die; else leave when none is free.
    set: key=value of the bundle, on top of the plan; may be given several times.
    """
    from autoconf.experiments.crossval.folds import do_folds
    from autoconf.experiments.crossval.result import score_once
    from autoconf.experiments.crossval.settings import read_job, remember

    job = read_job(work, bundle, plan, out, network, folds, device, probabilities, set)
    remember(job)
    left = do_folds(job, wait)
    if left.failed:
        raise AutoconfError(_failures(job, left.failed))
    if left.others:
        print(f"{', '.join(left.others)}: another worker is at it; the last one to finish scores all")
    elif not score_once(job):
        print("another worker scores")


def _failures(job: CrossValidation, failed: dict[str, str]) -> str:
    said = "; ".join(f"{fold}: {reason}" for fold, reason in failed.items())
    return f"{len(failed)} of {len(job.folds)} folds failed. {said}. The same command tries again."
