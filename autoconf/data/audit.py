"""What is odd about cases that can be read: found from their rows and traits, across cases. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from autoconf.data import traits
from autoconf.data.labels import Scheme
from autoconf.data.measured import Measured
from autoconf.data.problems import Problem
from autoconf.data.scans import Scan
from autoconf.data.split import TESTING, group_sides, side_name

ANISOTROPY = 3.0  # nnU-Net resamples such an axis by itself
OUTSIDE = 0.1  # of a mask's voxels: real masks have a few where the skull-stripping cut too deep


def audit_labels(scans: Sequence[Scan], rows: Sequence[dict[str, Any]], schemes: dict[str, Scheme]) -> list[Problem]:
    """Masks with values that the scheme of their family lacks, and masks much of which lies outside the head."""
    found = []
    for scan, row in zip(scans, rows, strict=True):
        if row["labels"] is None:
            continue
        scheme = schemes[scan.family]
        odd = sorted(set(row["labels"]) - scheme.values)
        if odd:
            allowed = f"{scheme.name} has {', '.join(map(str, sorted(scheme.values)))}"
            finding = f"holds the value {odd[0]}; {allowed}. Correct it, or say what the values mean: --labels."
            found.append(Problem("labels", scan.case, f"{scan.label}: {finding}"))
        elif row["tumour_voxels"] and row["outside_head"] > OUTSIDE * row["tumour_voxels"]:
            share = row["outside_head"] / row["tumour_voxels"]
            finding = f"{share:.0%} of it lies where all modalities are 0. Does it belong to this scan?"
            found.append(Problem("mask-outside-head", scan.case, f"{scan.label}: {finding}"))
    return found


def audit_grids(scans: Sequence[Scan], rows: Sequence[dict[str, Any]]) -> list[Problem]:
    """Cases of thick slices, and cases that are stored along other axes than most."""
    usual = Counter(row["orientation"] for row in rows).most_common(1)[0][0] if rows else ""
    found = []
    for scan, row in zip(scans, rows, strict=True):
        if max(row["spacing"]) >= ANISOTROPY * min(row["spacing"]):
            spacing = " x ".join(f"{mm:.3g}" for mm in row["spacing"])
            found.append(Problem("anisotropic", scan.case, f"voxels of {spacing} mm. Plan and train as usual."))
        if row["orientation"] != usual:
            finding = f"stored as {row['orientation']}, most are {usual}. Nothing to do."
            found.append(Problem("orientation", scan.case, finding))
    return found


def audit_modalities(scans: Sequence[Scan], measured: Sequence[Measured]) -> list[Problem]:
    """Cases whose modalities look exchanged, judged by the other cases."""
    return [
        Problem("swapped", scans[index].case, f"its {a} and {b} look exchanged. Look at both; rename them if they are.")
        for index, a, b in traits.swapped([one.agreement for one in measured])
    ]


def audit_copies(scans: Sequence[Scan], measured: Sequence[Measured]) -> tuple[list[tuple[int, int]], list[Problem]]:
    """Pairs (indices) of cases that share a contrast voxel by voxel or look nearly the same, and what to say."""
    first: dict[tuple[object, ...], int] = {}
    shared: dict[tuple[int, int], None] = {}  # an ordered set
    for index, one in enumerate(measured):
        for checksum in one.content:
            other = first.setdefault((checksum, *one.row["shape"]), index)
            if other != index:
                shared[other, index] = None
    exact = list(shared)
    near = [pair for pair in traits.alike([one.coarse for one in measured]) if pair not in shared]
    problems = [
        Problem("copy", scans[b].case, f"shares a whole image with case '{scans[a].case}'. Remove one of them.")
        for a, b in exact
    ]
    problems += [
        Problem("alike", scans[b].case, f"looks nearly the same as case '{scans[a].case}'. Look at both.")
        for a, b in near
    ]
    return exact + near, problems


def audit_sides(names: Sequence[str], groups: Sequence[str], sides: Sequence[int | str | None]) -> list[Problem]:
    """Groups of which a given split puts cases on two sides; unlabelled cases of who tests; nobody with a mask.

    names: the cases; groups: what should stay together; sides: where each is, None without a mask.
    """
    found = []
    of_group: dict[str, dict[int | str, str]] = {}
    for name, group, side, side_of_group in zip(names, groups, sides, group_sides(groups, sides), strict=True):
        if side is not None:
            of_group.setdefault(group, {}).setdefault(side, name)
        elif side_of_group == TESTING:
            found.append(Problem("unlabelled-kin", name, "its patient is in testing. Do not pre-train on it."))
    if not of_group:
        finding = "no mask holds a tumour: nothing to train on. Add masks, or only segment."
        found.append(Problem("no-masks", "", finding))
    for group, on in sorted(of_group.items()):
        if len(on) > 1:
            listed = ", ".join(f"{name} in {side_name(side)}" for side, name in on.items())
            found.append(Problem("two-sides", group, f"the given split has {listed}. Scores will flatter; split anew."))
    return found
