"""`inspect` for volumes: which scans are complete and readable, what their labels mean, who is on which side."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from autoconf.data import audit
from autoconf.data.brats import MODALITIES, walk_files
from autoconf.data.cache import Cache
from autoconf.data.convert import forget_others, to_nifti
from autoconf.data.counts import Intensities
from autoconf.data.labels import Scheme, choose_schemes
from autoconf.data.measure import measure_cases
from autoconf.data.measured import Measured
from autoconf.data.problems import LEFT_OUT, Problem
from autoconf.data.scans import LayoutScans, Scan
from autoconf.data.split import TESTING, join, quartiles
from autoconf.errors import AutoconfError, DataError
from autoconf.inspect import report
from autoconf.inspect.datalist import of_volumes
from autoconf.inspect.fingerprint import fingerprint as summarise
from autoconf.inspect.sets import Options, Sides, assign_sides
from autoconf.output import progress


def inspect_volumes(data: str, found: LayoutScans, out: str, options: Options) -> None:
    """Everything from the scans that a layout recognised to the files in `out`. Raises AutoconfError."""
    with Cache(os.path.join(out, ".cache")) as cache:  # a run that is refused leaves nothing behind
        scans, measured, intensities, schemes, problems = _usable(found, out, options, cache)
        rows = [_count_tumour(one.row, schemes[s.family]) for one, s in zip(measured, scans, strict=True)]
        for scan, row in zip(scans, rows, strict=True):
            if row["tumour_voxels"] == 0:
                finding = f"{scan.label}: holds no tumour. Correct it if there is one."
                problems.append(Problem("empty-mask", scan.case, finding))
        problems += audit.audit_grids(scans, rows) + audit.audit_modalities(scans, measured)
        pairs, copies = audit.audit_copies(scans, measured)
        groups = join([scan.patient for scan in scans], pairs)
        sides = _assign(scans, rows, groups, found, options, problems)
        problems += copies + audit.audit_sides([scan.case for scan in scans], groups, sides)
        of_scans = [schemes[scan.family] for scan in scans]
        datalist = of_volumes(data, found, options.seed, scans, rows, of_scans, sides, groups)
        fingerprint = summarise(rows, intensities)
        report.write(out, datalist, fingerprint, problems)
    forget_others(os.path.join(out, "converted"), {scan.case for scan in found.scans if scan.convert})
    report.print_volumes(data, found, datalist, fingerprint, problems, unused=_unused_volumes(data, found))
    work, plan = shlex.quote(out), shlex.quote(os.path.join(out, "plan.yaml"))
    command = f"python -m autoconf plan {work} --bundle bundles/unetr3d --memory 8GB --out {plan}"
    report.print_next(out, command if datalist.training else "")


def _usable(
    found: LayoutScans, out: str, options: Options, cache: Cache
) -> tuple[list[Scan], list[Measured], dict[str, Intensities], dict[str, Scheme], list[Problem]]:
    """The scans that can be used, what was measured of each and of all together, the scheme of each family of scans,
    and what is wrong with the others. Raises AutoconfError if none can be used, or with --strict if one cannot."""
    problems = [Problem("layout", "", note) for note in found.notes] + found.problems
    scans, incomplete = _keep_complete(found.scans, options.missing)
    if not scans:
        raise AutoconfError(f"none of the {len(found.scans)} cases can be used: {incomplete[0].finding}")
    scans, measured, intensities, unreadable = _measure(scans, out, options, cache)
    problems += incomplete + unreadable
    for scan in scans:
        name = os.path.basename(scan.label or "")
        if "_segm." in name.lower():
            finding = f"its mask is taken from {name}. Rename it to end in _seg."
            problems.append(Problem("misnamed-mask", scan.case, finding))
    rows = [one.row for one in measured]
    schemes = choose_schemes(scans, rows, found, options.labels)
    problems += audit.audit_labels(scans, rows, schemes)
    unfit = [problem for problem in problems if problem.severity == LEFT_OUT]
    excluded = {problem.case for problem in unfit}
    if options.strict and unfit:
        raise AutoconfError(f"{unfit[0].finding} ({len(excluded)} case(s) cannot be used; --strict)")
    used = [scan for scan in scans if scan.case not in excluded]
    if not used:
        raise AutoconfError(f"none of the {len(found.scans)} cases can be used: {unfit[0].finding}")
    if len(used) < len(scans):  # the statistics anew without them, nearly all from the cache
        scans, measured, intensities, _ = _measure(used, out, options, cache)
    return scans, measured, intensities, schemes, problems


def _keep_complete(scans: Sequence[Scan], missing: str) -> tuple[list[Scan], list[Problem]]:
    """The scans to read, and what is said of those without all modalities.

    missing: error stops, drop leaves them out, zero keeps them if they have at least one. Raises AutoconfError.
    """
    kept, problems = [], []
    for scan in scans:
        if not scan.missing:
            kept.append(scan)
            continue
        what = f"no {' and no '.join(scan.missing)} image beside {scan.files[0]}"
        if missing == "error":
            raise AutoconfError(
                f"case '{scan.case}': {what}. Add it, or say what to do with such cases: --missing drop (leave them "
                "out) or --missing zero (train with zeros in its place)."
            )
        if missing == "drop" or len(scan.missing) == len(MODALITIES):
            problems.append(Problem("missing-modality", scan.case, f"{what}. Add it, or use --missing zero."))
        else:
            kept.append(scan)
            problems.append(Problem("zero-filled", scan.case, f"{what}; zeros stand in its place. Add it if you can."))
    return kept, problems


def _measure(
    scans: list[Scan], out: str, options: Options, cache: Cache
) -> tuple[list[Scan], list[Measured], dict[str, Intensities], list[Problem]]:
    """Convert what must be, then measure: the scans that can be read, what was measured of each, the intensities of all
    together, and the problems. Only rows and traits are kept of a case, so memory does not grow with the counts."""
    problems: list[Problem] = []
    readable: list[Scan] = []
    converted = os.path.join(out, "converted")
    for scan in progress(scans, len(scans), "converting cases") if any(scan.convert for scan in scans) else scans:
        try:
            readable.append(to_nifti(scan, converted) if scan.convert else scan)
        except DataError as error:
            problems.append(Problem(error.kind, scan.case, str(error)))
    kept, measured = [], []
    intensities = {modality: Intensities.none() for modality in MODALITIES}
    outcomes = measure_cases(readable, cache, options.jobs, keep_going=True)
    for scan, one in zip(readable, progress(outcomes, len(readable), "reading cases"), strict=True):
        if isinstance(one, DataError):
            problems.append(Problem(one.kind, scan.case, str(one)))
        elif isinstance(one, AutoconfError):
            raise one
        else:
            one.add_to(intensities)
            kept.append(scan)
            measured.append(replace(one, brain={}, foreground={}))
    if not kept:
        raise AutoconfError(f"none of the {len(scans)} cases can be used: {problems[0].finding}")
    return kept, measured, intensities, problems


def _count_tumour(row: dict[str, Any], scheme: Scheme) -> dict[str, Any]:
    """The row with tumour_voxels and tumour_ml of the labels that are tumour: a cavity is none."""
    if not row.get("label_voxels"):
        return row
    per_voxel = row["tumour_ml"] / row["tumour_voxels"]
    voxels = sum(n for label, n in row["label_voxels"].items() if int(label) in scheme.regions["wt"])
    return row | {"tumour_voxels": voxels, "tumour_ml": round(voxels * per_voxel, 4)}


def _assign(
    scans: list[Scan], rows: list[Any], groups: list[str], found: LayoutScans, options: Options, problems: list[Problem]
) -> Sides:
    """The side of each scan; nobody has one where there is nothing to train on. Raises AutoconfError."""
    labelled = [index for index, row in enumerate(rows) if row["tumour_voxels"]]
    if not labelled:
        return [None] * len(scans)
    if found.folds:  # nnU-Net's; a scan in none of them is for testing
        pairs = zip(scans, rows, strict=True)
        return [found.folds.get(scan.case, TESTING) if row["tumour_voxels"] else None for scan, row in pairs]
    sizes = quartiles([rows[i]["tumour_ml"] for i in labelled])
    try:
        return assign_sides(labelled, groups, sizes, [scan.side for scan in scans], options)
    except AutoconfError as error:
        unfit = [problem for problem in problems if problem.severity == LEFT_OUT]
        count = len({problem.case for problem in unfit})
        left_out = f" {count} case(s) were left out, the first because {unfit[0].finding}" if unfit else ""
        raise AutoconfError(f"{error}{left_out}") from None


def _unused_volumes(data: str, found: LayoutScans) -> list[str]:
    """Volumes below data that belong to no scan: not an error, but never passed over silently."""
    used = set(map(os.path.normpath, (*found.others, *(path for scan in found.scans for path in scan.files))))
    there = (os.path.join(folder, name) for folder, name in walk_files(data))
    volumes = (path for path in there if path.lower().endswith((".nii", ".nii.gz", ".mha")))
    return [path for path in volumes if os.path.normpath(path) not in used]
