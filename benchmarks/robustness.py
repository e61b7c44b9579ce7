"""python -m benchmarks.robustness: what becomes of the shipped weights' masks when something is wrong with a scan?

    python -m benchmarks.robustness --data DATA --cases 8 \
        --out docs/evidence/results/robustness.json \
        --picture docs/evidence/robustness.png --page docs/evidence/robustness.md

DATA is a folder of cases with masks in BraTS naming. Each scan is written as new files, changed in one way, and goes
through the bundle's own inference config from there. The table goes between two marks of the page; images and masks
are written to a temporary folder alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from autoconf.data.brats import BratsCase, CaseError, find_cases
from autoconf.output import progress, to_json
from autoconf.score.metrics import overlap
from autoconf.score.summary import intervals

from .changes import KINDS, MODALITIES, Change, Scan, unchanged
from .machine import machine
from .table import fill, read_page
from .task import BUNDLE, open_config

UNITS = {
    "missing contrast": "which",
    "bias field": "brightness times or divided by, at most",
    "noise": "Rician, share of the contrast's deviation",
    "thick slices": "mm",
    "turned header": "degrees; the voxels stay",
    "tilted head": "degrees; voxels and truth turn",
    "stored as": "axes of the array",
    "voxel size": "mm",
}
SAME = 0.0005  # of Dice: three digits show nothing smaller
WEAK = 0.01  # a loss of Dice that is called a weak spot
Row = dict[str, Any]


# Segment


def measure(cases: Sequence[BratsCase], device: str) -> Row:
    """case -> kind -> label -> Dice; the unchanged scan is the kind "unchanged" with the label ""."""
    steps = progress(steps_of(cases, device), len(cases) * (1 + len(KINDS)), "robustness")
    found: Row = {}
    for case, kind, dice in steps:
        found.setdefault(case, {})[kind] = dice
    return found


def steps_of(cases: Sequence[BratsCase], device: str) -> Iterator[tuple[str, str, dict[str, float]]]:
    for case in cases:
        scan = read(case)
        for kind, changes in {"unchanged": {"": unchanged}, **KINDS}.items():
            yield case.case, kind, dice_after(scan, changes, f"{case.case} {kind}", device)


def read(case: BratsCase) -> Scan:
    """The voxels as they are stored."""
    images = [nibabel.load(path) for path in case.image]  # type: ignore[arg-type]
    truth = np.asarray(nibabel.load(case.label).dataobj) > 0  # type: ignore[arg-type]
    return Scan(tuple(np.asanyarray(image.dataobj) for image in images), truth, images[0].affine)


def dice_after(scan: Scan, changes: dict[str, Change], seed: str, device: str) -> dict[str, float]:
    """label -> Dice of the mask of the scan changed so, on its own grid. All draw the same from `seed`, so that of
    two bias fields only the strength differs."""
    with tempfile.TemporaryDirectory() as folder:
        truths, items = {}, []
        for label, change in changes.items():
            changed = change(scan, np.random.default_rng(zlib.crc32(seed.encode())))
            name = label or "unchanged"
            items.append({"case": name, "patient": name, "image": write(changed, Path(folder), name)})
            truths[label] = changed.truth
        datalist = {"modalities": list(MODALITIES), "dataset_dir": folder, "training": [], "testing": items}
        path = Path(folder) / "datalist.json"
        path.write_text(json.dumps(datalist), encoding="utf-8")
        segment(path, Path(folder) / "masks", device)
        return {
            label: round(overlap(mask_of(Path(folder) / "masks" / f"{label or 'unchanged'}.nii.gz"), truth).dice, 5)
            for label, truth in truths.items()
        }


def write(scan: Scan, folder: Path, name: str) -> list[str | None]:
    """A file per contrast, None where there is none: what a datalist says of a scan's image."""
    files = [None if c is None else f"{name}_{n}.nii" for n, c in zip(MODALITIES, scan.channels, strict=True)]
    for file, channel in zip(files, scan.channels, strict=True):
        if file is not None:
            nibabel.save(nibabel.Nifti1Image(channel, scan.affine), folder / file)
    return files


def segment(datalist: Path, out: Path, device: str) -> None:
    """What `run inferring` does, but for its checks of the command line."""
    given = {"datalist": str(datalist), "output_dir": str(out), "bundle_root": str(BUNDLE)}
    parser = open_config(["inference.yaml"], given | ({"device": device} if device else {}))
    parser["handlers"] = parser["handlers"][:1]  # the weights are loaded; the bundle's own progress is not shown
    parser.get_parsed_content("weights")
    parser.get_parsed_content("evaluator").run()


def mask_of(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj) > 0


def chosen(cases: Sequence[BratsCase], most: int) -> list[BratsCase]:
    """So many cases, evenly taken from the list; 0: all."""
    if not most or most >= len(cases):
        return list(cases)
    return [cases[place] for place in np.linspace(0, len(cases) - 1, most).round().astype(int)]


# Say


def summarise(found: Row, patients: dict[str, str]) -> Row:
    """Per change the mean Dice, and the mean change against the same case's unchanged scan, with intervals."""
    cases = list(found)
    before = np.array([found[case]["unchanged"][""] for case in cases])
    who = [patients[case] for case in cases]
    rows: Row = {"unchanged": {"dice": spread(before, who)}}
    for kind in KINDS:
        for label in KINDS[kind]:
            after = np.array([found[case][kind][label] for case in cases])
            change = spread(after - before, who)
            worst = int((after - before).argmin())
            row = {"dice": spread(after, who), "change": change, "worst_case": cases[worst]}
            rows.setdefault(kind, {})[label] = row
    return rows


def spread(values: np.ndarray, patients: Sequence[str]) -> dict[str, float]:
    low, high = intervals(values[:, None], patients)
    found = {"mean": values.mean(), "low": low[0], "high": high[0], "min": values.min(), "max": values.max()}
    return {key: round(float(value), 5) + 0.0 for key, value in found.items()}


def page(report: Row) -> str:
    """The tables and what they say, in Markdown."""
    rows, n = report["rows"], len(report["cases"])
    dice = rows["unchanged"]["dice"]
    said = f"{n} scans, unchanged: Dice {dice['mean']:.3f} [{dice['low']:.3f}, {dice['high']:.3f}]. "
    if len(report["cases"]) == 1:
        said += "**One scan gives no interval.** "
    parts = [said + "Brackets are 95 % bootstrap intervals over patients; *worst* is the largest loss of a scan."]
    for kind, unit in UNITS.items():
        lines = [f"| {kind} ({unit}) | Dice | change | worst |", "|---|---|---|---|"]
        for label, row in rows[kind].items():
            change = row["change"]
            span = f"{change['mean']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]"
            lines.append(f"| {label} | {row['dice']['mean']:.3f} | {span} | {change['min']:+.3f} |")
        parts.append("\n".join(lines).replace("-0.000", "0.000").replace("+0.000", "0.000"))
    return "\n\n".join([*parts, *verdicts(rows)])


def verdicts(rows: Row) -> list[str]:
    """Mean losses of more than WEAK whose interval is below 0, the largest first; what cost less; what did nothing."""
    every = [(row["change"], f"{kind} {label}") for kind in KINDS for label, row in rows[kind].items()]
    weak = sorted((change["mean"], name) for change, name in every if is_weak(change))
    unsure = sorted((c["min"], name) for c, name in every if c["min"] < -WEAK and not is_weak(c))
    same = [name for change, name in every if max(abs(change["min"]), abs(change["max"])) < SAME]
    texts = (
        (
            f"Weak spots, a mean loss of more than {WEAK} whose interval is all below 0",
            [f"{name} ({mean:+.3f})" for mean, name in weak],
        ),
        (
            f"Cost some scan more than {WEAK}, but less or unsurely on the mean",
            [f"{name} (worst {least:+.3f})" for least, name in unsure],
        ),
        (f"Changed no scan by {SAME} or more", same),
    )
    return [f"**{title}**: {', '.join(names) or 'none'}." for title, names in texts]


def is_weak(change: dict[str, float]) -> bool:
    return change["mean"] < -WEAK and change["high"] < 0


def draw(report: Row, path: str) -> None:
    """Dice against strength: a panel per kind, a thin line per scan, the mean with its interval."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 4, figsize=(13, 6), sharey=True, layout="constrained")
    unchanged_dice = report["rows"]["unchanged"]["dice"]["mean"]
    for panel, (kind, unit) in zip(axes.flat, UNITS.items(), strict=True):
        rows = report["rows"][kind]
        for case in report["dice_by_case"].values():
            panel.plot(list(rows), [case[kind][label] for label in rows], color="0.75", linewidth=0.8)
        mean = np.array([row["dice"]["mean"] for row in rows.values()])
        edges = np.array([[row["dice"][edge] for row in rows.values()] for edge in ("low", "high")])
        panel.errorbar(list(rows), mean, abs(edges - mean), color="tab:blue", marker="o", markersize=4, capsize=3)
        panel.axhline(unchanged_dice, color="0.3", linestyle=":", linewidth=1)
        panel.set_title(kind, fontsize=11)
        panel.set_xlabel(unit, fontsize=8)
        panel.grid(axis="y", alpha=0.3)
    axes[0, 0].set_ylim(0, 1)
    for left in axes[:, 0]:
        left.set_ylabel("Dice")
    figure.suptitle("Whole tumour; dotted: the unchanged scans; grey: each scan", fontsize=10)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.robustness", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of cases with masks, in BraTS naming")
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--picture", default="", help="PNG file to write")
    parser.add_argument("--page", default="", help="Markdown page whose marked part is replaced")
    parser.add_argument("--cases", type=int, default=0, help="so many, evenly taken; 0: all")
    parser.add_argument("--device", default="", help="cpu or cuda; default: a GPU if there is one")
    given = parser.parse_args(words)
    try:
        text = read_page(given.page, "robustness") if given.page else ""
        cases = [case for case in find_cases(given.data) if case.label and all(case.image)]
        if not cases:
            raise ValueError(f"{given.data} holds no complete case with a mask. Check --data.")
        for path in filter(None, (given.out, given.picture)):
            Path(os.path.abspath(path)).parent.mkdir(parents=True, exist_ok=True)
        cases = chosen(cases, given.cases)
        weights = hashlib.sha256((BUNDLE / "models" / "model.pt").read_bytes()).hexdigest()
    except (ValueError, CaseError) as error:
        print(f"robustness: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"robustness: {error.filename}: {error.strerror}. Check the path.", file=sys.stderr)
        return 1
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    found = measure(cases, device)
    rows = summarise(found, {case.case: case.patient for case in cases})
    facts = {"machine": machine(device), "weights_sha256": weights, "cases": [c.case for c in cases]}
    report = {**facts, "rows": rows, "dice_by_case": found}
    Path(given.out).write_text(to_json(report), encoding="utf-8")
    tables = page(report)
    if given.picture:
        draw(report, given.picture)
    if given.page:
        Path(given.page).write_text(fill(text, "robustness", tables), encoding="utf-8")
    print(tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
