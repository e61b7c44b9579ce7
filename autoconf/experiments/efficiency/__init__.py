"""`autoconf efficiency`: how many labelled patients a network needs, and whether a pre-training saves some.

settings.py   what is asked for, checked                  draw.py      which patients keep their labels; the datalists
parts.py      what has to be done, and what needs what    work.py      what is done for each part
masks.py      what the pseudo-masks themselves are worth  result.py    the points and their paired differences
picture.py    the curve
"""

from __future__ import annotations

from functools import partial

from autoconf.errors import AutoconfError
from autoconf.experiments.efficiency.parts import all_parts
from autoconf.experiments.efficiency.result import write_curve
from autoconf.experiments.efficiency.settings import read_curve
from autoconf.experiments.efficiency.work import do_task
from autoconf.experiments.setup import remember
from autoconf.workers.engine import read_engine
from autoconf.workers.parts import only_one
from autoconf.workers.work import do_parts


def efficiency(
    work: str,
    bundle: str,
    plan: str,
    sizes: str = "4,8,16",
    starts: str = "scratch,pseudo,mae",
    seeds: int = 3,
    out: str = "",
    folds: str = "",
    epochs: int = 0,
    mae_epochs: int = 0,
    pseudo_epochs: int = 0,
    network: str = "",
    device: str = "",
    jobs: int = 1,
    cluster: str = "",
    slurm: str = "",
    set: tuple[str, ...] = (),  # noqa: A002 - the flag is called --set
) -> None:
    """Train with few labelled patients and with more, from each start, and draw Dice against their number.

    The 4 patients of a seed are among its 8, and these among its 16. All points of a seed take as many steps and are
    scored on the same fold, by their last epoch. The same command goes on where it was stopped. Test cases are never
    looked at.

    work: folder that `inspect` wrote.
    bundle: folder of a bundle for volumes; plan: the override file that `plan` or `tune` wrote.
    sizes: numbers of labelled patients. starts: scratch, mae (a masked autoencoder of all scans first) and pseudo
      (pseudo-masks of all scans first).
    seeds: how many draws, each with its own pre-trainings; they take turns at the folds.
    out: folder for curve.csv, curve.png, result.json and all runs; empty: WORK/efficiency.
    folds: which ones are held out and scored, e.g. 0,2; empty: all.
    epochs: of a training, counted as if all cases had labels; 0: the plan's. mae_epochs, pseudo_epochs: of the
      pre-trainings; 0: as many as epochs.
    network: one of BUNDLE/configs/networks, the one the plan was made for; empty: the bundle's own.
    device: cpu, cuda or cuda:1; several, cuda:0,cuda:1, are dealt to the jobs; empty: what is there.
    jobs: parts at once on this machine, or jobs of Slurm; cluster, slurm: as for crossval.
    set: key=value of the bundle, on top of the plan, or of its configs/finetune.yaml; may be given several times.
    """
    engine = read_engine(jobs, device, cluster, slurm)
    lengths = {"scratch": epochs, "mae": mae_epochs, "pseudo": pseudo_epochs}
    curve = read_curve(work, bundle, plan, out, network, sizes, starts, seeds, folds, lengths, set)
    home = curve.setup.home
    with only_one(home):
        remember(curve.setup, curve.same())
        left = do_parts(all_parts(curve), partial(do_task, curve), engine, home)
        write_curve(curve)
    if left.failed:
        raise AutoconfError(_failures(left.failed, left.blocked))


def _failures(failed: dict[str, str], blocked: list[str]) -> str:
    said = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
    so = f" Not begun for want of them: {', '.join(blocked)}." if blocked else ""
    return f"{len(failed)} parts failed. {said}.{so} The same command tries again."
