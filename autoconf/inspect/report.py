"""The tables that `autoconf inspect` prints."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from autoconf.data.datalist import Datalist
from autoconf.data.images import Image
from autoconf.data.layouts import LAYOUTS
from autoconf.data.problems import LEFT_OUT, Problem, as_csv, grouped
from autoconf.data.scans import LayoutScans
from autoconf.output import by, table, to_json, write_files

MOST_CLASSES = 12  # more than these are summed up
FILES = ("datalist.json", "fingerprint.json", "problems.csv")


def write(out: str, datalist: Datalist, fingerprint: dict[str, Any], problems: list[Problem]) -> None:
    """FILES, all or none."""
    write_files(out, dict(zip(FILES, (datalist.text(), to_json(fingerprint), as_csv(problems)), strict=True)))


def print_volumes(
    data: str,
    found: LayoutScans,
    datalist: Datalist,
    measured: dict[str, Any],
    problems: list[Problem],
    unused: list[str],
) -> None:
    """What was found and measured, one line per fact, then the intensities per contrast."""
    rows = measured["cases"]
    count = len(found.scans) + sum(problem.severity == LEFT_OUT for problem in found.problems)
    volumes = [row["tumour_ml"] for row in rows if row["tumour_ml"]] or [0.0]
    brain = by(measured["median_brain_shape"])
    facts = [
        ("data", data),
        ("layout", f"{found.layout}: {LAYOUTS[found.layout]}"),
        ("cases", f"{len(rows)} of {count}, of {len({scan.patient for scan in found.scans})} patients"),
        ("shape", _counted(by(row["shape"]) for row in rows) + "   voxels, right x anterior x superior"),
        ("spacing", _counted(" x ".join(f"{mm:.4g}" for mm in row["spacing"]) for row in rows) + "   mm"),
        ("brain", f"median {brain} voxels, {by(round(mm) for mm in measured['median_brain_mm'])} mm"),
    ]
    if datalist.training:
        regions = (f"{region} {', '.join(map(str, v))}" for region, v in (datalist.regions or {}).items())
        facts += [
            ("tumour", f"{min(volumes):.1f} / {np.median(volumes):.1f} / {max(volumes):.1f} mL   min / median / max"),
            ("labels", _counted(", ".join(map(str, row["labels"])) for row in rows if row["labels"])),
            ("tumour is", ";  ".join(regions)),
            *_split_facts(datalist),
        ]
    if datalist.unlabelled:
        some = ", ".join(case.name for case in datalist.unlabelled[:3]) + (", ..." * (len(datalist.unlabelled) > 3))
        facts.append(("no mask", f"{len(datalist.unlabelled)} cases, kept apart: {some}"))
    if unused:
        facts.append(("not used", f"{len(unused)} volumes that fit no naming scheme, e.g. {unused[0]}"))
    print(table(facts))
    intensities = [
        (contrast, *(f"{v:g}" for v in found.values())) for contrast, found in measured["modalities"].items()
    ]
    print("\nintensities of the non-zero voxels")
    print(table(intensities, ("contrast", *next(iter(measured["modalities"].values())))))
    _print_problems(problems)


def _print_problems(problems: list[Problem]) -> None:
    """Each kind of finding once, with how often and one example; nothing where nothing was found."""
    if not problems:
        return
    print("\nfindings (all of them in problems.csv)")
    print(table([(f"{severity}: {kind}", n, finding) for severity, kind, n, finding in grouped(problems)]))


def print_images(
    data: str, images: list[Image], total: int, datalist: Datalist, measured: dict[str, Any], problems: list[Problem]
) -> None:
    """What was found, one line per fact, then the classes by size."""
    height, width = measured["median_size"]
    sizes = [image.size for image in images]
    low, high = np.min(sizes, axis=0), np.max(sizes, axis=0)
    size = f"median {height}x{width}, from {by(low)} to {by(high)}" if (low < high).any() else f"all {height}x{width}"
    copies = f"{measured['n_duplicates']} files repeat another one exactly"
    crossing = measured["n_duplicates_across_classes"]
    across = f"{crossing} of them one of another class; {measured['n_near_duplicates']} are nearly the same as another"
    kind = f"in {len(measured['classes'])} classes" if measured["classes"] else "with masks"
    facts = [
        ("data", data),
        ("images", f"{len(images)} of {total}, {kind}"),
        ("size", f"{size} pixels, height x width"),
        ("copies", f"{copies}, {across}; copies stay on one side of the split"),
        *_split_facts(datalist),
    ]
    print(table(facts))
    if measured["classes"]:
        _print_classes(measured["classes"])
    _print_problems([problem for problem in problems if problem.kind not in ("copy", "alike")])  # counted above


def _print_classes(of_class: dict[str, int]) -> None:
    classes = sorted(of_class.items(), key=lambda item: (-item[1], item[0]))
    print()
    if len(classes) <= MOST_CLASSES:
        print(table(classes, ("class", "images")))
        return
    middle = classes[MOST_CLASSES // 2 : -MOST_CLASSES // 2]
    rest = (f"... {len(middle)} more classes", sum(count for _, count in middle))
    print(table([*classes[: MOST_CLASSES // 2], rest, *classes[-MOST_CLASSES // 2 :]], ("class", "images")))


def print_next(out: str, command: str) -> None:
    """Where the results lie and what to type next, if anything."""
    print("\nwrote  " + "\n       ".join(os.path.join(out, name) for name in FILES))
    if command:
        print(f"next   {command}")


def _split_facts(datalist: Datalist) -> list[tuple[str, str]]:
    """How many cases each side has; one line per fact."""
    folds = Counter(case.fold or 0 for case in datalist.training)
    dealt = " + ".join(str(folds[fold]) for fold in sorted(folds))
    text = f"training {dealt} (folds {min(folds, default=0)}-{max(folds, default=0)}; fold 0 validates first)"
    return [("split", f"{text}, testing {len(datalist.testing)}; by patient and copies, seed {datalist.seed}")]


def _counted(kinds: Iterable[str]) -> str:
    """Each kind with how often it occurs, the commonest first."""
    counts = Counter(kinds).most_common()
    more = [f"{len(counts) - 4} more"] if len(counts) > 4 else []
    return ";  ".join([*(f"{kind} ({count})" for kind, count in counts[:4]), *more])
