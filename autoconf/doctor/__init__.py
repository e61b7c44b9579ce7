"""`autoconf doctor`: is anything wrong that would make a score a lie? docs/how-to/doctor.md explains each check.

catalogue.py  every check, in one table           checks.py     what a check is, how one is run
data.py       split, copies, masks: the data      lists.py      the datalist, and what was measured
processes.py  the bundle's process, from outside

Only in the bundle's own process, because it needs the bundle's `scripts`, torch and monai:
probe.py           its main               opened.py       the bundle's configs
samples.py         a few cases to use     bundle_data.py  preprocessing and its way back
bundle_metrics.py  the bundle's metrics   bundle_training.py, bundle_model.py  the network, fresh and trained
paired.py          is a difference over a few cases clear?
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

from autoconf.bundle.overrides import read
from autoconf.bundle.settings import check_plan, read_bundle
from autoconf.commands import run_command
from autoconf.doctor.catalogue import CHECKS
from autoconf.doctor.checks import FAIL, PASS, SKIPPED, Check, Result, Subject, ask, unanswered
from autoconf.doctor.lists import read_list
from autoconf.doctor.processes import ask_bundle
from autoconf.errors import AutoconfError
from autoconf.output import check_out, progress, table, to_json, write_files

SLOW = "too slow for --quick"


def doctor(
    bundle: str = "", work: str = "", plan: str = "", checkpoint: str = "", out: str = "", quick: bool = False
) -> None:
    """Check metrics, data, training and model for what would make a score a lie. Exit status 1 if a check fails.

    bundle: folder of a bundle, to check its metrics, preprocessing and network; on a phantom, without --work.
    work: folder that `inspect` wrote, to check the data and their split.
    plan: override file that the model is or was trained with.
    checkpoint: model.pt, to check that the trained network does its work; needs --bundle and --work.
    out: folder for doctor.json.
    quick: leave out what takes more than a minute.

    Each check says what it expects and what it measured; docs/how-to/doctor.md says what to do after a failure.
    """
    if out:
        check_out(out)
    _check_given(bundle, work, plan, checkpoint)
    with tempfile.TemporaryDirectory(prefix="doctor-") as scratch:
        subject = prepare(scratch, bundle, work, plan, checkpoint, quick)
        results = examine(subject)
    if out:
        write_files(out, {"doctor.json": to_json([asdict(result) for result in results])})
    _print(results, out)
    failed = [result.check for result in results if result.verdict == FAIL]
    if failed:
        raise AutoconfError(
            f"{len(failed)} of {len(results)} checks failed: {', '.join(failed)}. See docs/how-to/doctor.md."
        )


def _print(results: Sequence[Result], out: str) -> None:
    """One line per check, then the counts and where they were written."""
    rows = [
        (r.group, r.check, r.verdict, f"{r.seconds:.1f}", r.expected, r.measured + (f"  ({r.note})" if r.note else ""))
        for r in results
    ]
    print(table(rows, ["group", "check", "verdict", "s", "expected", "measured"]))
    counts = Counter(result.verdict for result in results)
    print("\n" + ", ".join(f"{counts[verdict]} {verdict}" for verdict in (PASS, FAIL, SKIPPED)))
    slow = [r.check for r in results if r.measured == SLOW]
    if slow:
        print(f"left out by --quick: {', '.join(slow)}")
    if out:
        print(f"wrote  {out}/doctor.json")


def _check_given(bundle: str, work: str, plan: str, checkpoint: str) -> None:
    """Refuse paths that are not there, and a plan with keys or values that the bundle does not have."""
    if not bundle and not work:
        raise AutoconfError("nothing to check. Give --bundle BUNDLE, --work WORK, or both.")
    if bundle:
        read_bundle(bundle)
    if work and not os.path.isfile(os.path.join(work, "datalist.json")):
        raise AutoconfError(f"{work}: holds no datalist.json. Make it: python -m autoconf inspect DATA --out {work}")
    for flag, path in (("--plan", plan), ("--checkpoint", checkpoint)):
        if path and not os.path.isfile(path):
            raise AutoconfError(f"{flag} {path}: no such file. Check the path.")
        if path and not bundle:
            raise AutoconfError(f"{flag} needs --bundle, whose it is.")
    if plan:
        choices = read(plan)[1]
        network = choices["network_name"].value if "network_name" in choices else ""
        check_plan(read_bundle(bundle, str(network)), choices)


def prepare(scratch: str, bundle: str, work: str, plan: str, checkpoint: str, quick: bool) -> Subject:
    """What is to be examined; where a bundle has no data, a phantom is made for it. Raises AutoconfError."""
    given = {"bundle": bundle, "work": work, "plan": plan, "checkpoint": checkpoint}
    paths = {name: os.path.abspath(path) for name, path in given.items() if path}
    is_3d = read_bundle(bundle).is_3d if bundle else True
    datalist = os.path.join(paths["work"], "datalist.json") if work else ""
    if bundle and not work:
        datalist = _make_phantom(scratch, not is_3d)
    subject = Subject(scratch, datalist=datalist, quick=quick, **paths)
    if bundle and read_list(subject).is_3d is not is_3d:
        kind = "volumes" if is_3d else "images"
        raise AutoconfError(f"{work}: its datalist is not of {kind}, which {bundle} needs. Give another --work.")
    return subject


def _make_phantom(scratch: str, slices: bool) -> str:
    """Twelve phantom cases, inspected; returns the datalist's path."""
    print("doctor: making a phantom", flush=True)
    data, work = os.path.join(scratch, "data"), os.path.join(scratch, "phantom")
    run_command("phantom", data, "--cases", 12, "--size", 32, *(["--slices"] if slices else []))
    run_command("inspect", data, "--out", work)
    return os.path.join(work, "datalist.json")


def examine(subject: Subject, checks: Sequence[Check] | None = None) -> list[Result]:
    """Run the checks (all, unless some are given), with progress; those that cannot be run are there as skipped."""
    chosen = CHECKS if checks is None else checks
    results = progress(_answers(subject, chosen), len(chosen), "doctor: checks")
    # Without the scratch folder's name two runs say the same.
    shown = (
        replace(r, **{k: getattr(r, k).replace(subject.scratch, "...") for k in ("measured", "note")}) for r in results
    )
    found = {result.check: result for result in shown}
    return [found[check.name] for check in chosen]


def _answers(subject: Subject, checks: Sequence[Check]) -> Iterator[Result]:
    """The checks of this process first, then those of the bundle's."""
    needed = {check.name: _why_not(check, subject) for check in checks}
    yield from (unanswered(check, SKIPPED, needed[check.name]) for check in checks if needed[check.name])
    asked = [check for check in checks if not needed[check.name]]
    yield from (ask(check, subject) for check in asked if not check.probe)
    yield from ask_bundle(subject, [check for check in asked if check.probe])


def _why_not(check: Check, subject: Subject) -> str:
    """Why a check is left out; empty if it is not."""
    missing = [name for name in check.needs if not getattr(subject, name)]
    if missing == ["datalist"]:
        return "needs --work, or --bundle for a phantom"
    if missing:
        return "needs " + " and ".join(f"--{name}" for name in missing if name != "datalist")
    return SLOW if check.slow and subject.quick else ""
