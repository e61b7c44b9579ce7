"""python -m benchmarks.labelers: how far is each label function, and each fusion, from the truth?

    python -m benchmarks.labelers --data DATA --out docs/evidence/results/labelers.json --page docs/how-to/labelers.md

DATA holds `brats` (cases in BraTS naming), `figshare_masked` (images and masks) and `mri44` (class folders); what is
missing is left out, and said. Label functions, fusions and rules are those of the bundles' own configs. The table goes
between two marks of the page; no image is written anywhere.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from autoconf.data.brats import CaseError, find_cases
from autoconf.output import progress
from autoconf.score.metrics import overlap
from autoconf.score.references import flair_threshold
from autoconf.score.summary import intervals

from .table import fill, read_page

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
CONFIGS = {"unetr3d": ["pseudo_label.yaml"], "pseudo2d": ["pseudo_label.yaml", "labelers.yaml"]}
FUSIONS = ("majority", "agreement", "staple")
NAMES = {
    "study_otsu": "**Otsu alone**, as in the study",
    "flair_threshold": "FLAIR threshold of `autoconf score`",
}
Row = dict[str, Any]


# In a process of its own for each bundle, as every bundle calls its package `scripts`

HOW: dict[str, Any] = {}


def open_bundle(bundle: str) -> None:
    """Read the bundle's own label functions, fusion and rules into HOW."""
    sys.path.insert(0, str(BUNDLES / bundle))
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config([str(BUNDLES / bundle / "configs" / name) for name in CONFIGS[bundle]])
    for key in ("labelers", "seeded", "vote_rules", "rules", "unsure"):
        HOW[key] = parser.get_parsed_content(key)
    if bundle == "unetr3d":
        HOW["preprocessing"] = parser.get_parsed_content("preprocessing")
        HOW["smooth_mm"] = parser.get_parsed_content("smooth_mm")


def masks_of(scan: Any) -> tuple[dict[str, np.ndarray], Any, list[Row], float]:
    """name -> mask, of each label function after the rules and of each fusion; the majority, its audit, seconds."""
    from scripts import fusion, label_audit, label_rules

    begun = time.perf_counter()
    how = {key: HOW[key] for key in ("labelers", "seeded", "vote_rules", "rules", "unsure")}
    found = fusion.label(scan, fusion=fusion.majority, **how)
    seconds = time.perf_counter() - begun
    masks = {name: label_rules.apply(HOW["rules"], scan, vote == 1) for name, vote in found.votes.items()}
    for name in FUSIONS:
        fused = np.nan_to_num(getattr(fusion, name)(found.votes)) > 0.5
        masks[f"fused: {name}, no rules"] = fused
        masks[f"fused: {name}"] = label_rules.apply(HOW["rules"], scan, fused)
    return masks, found, label_audit.audit(scan, found, ""), seconds


def scored(mask: np.ndarray, truth: np.ndarray) -> Row:
    counts = overlap(mask, truth)
    found = {"sensitivity": counts.sensitivity, "precision": counts.precision, "found": float(mask.any())}
    return {"dice": counts.dice} | found


def volume(case: Any) -> Row:
    """Scores on the scan's own grid."""
    import nibabel
    import torch
    from monai.data import MetaTensor
    from scripts.labelers import otsu
    from scripts.pseudo_label import scan_of

    begun = time.perf_counter()
    item = HOW["preprocessing"]({"image": list(case.image), "channels": [0, 1, 2, 3], "case": case.case})
    scan = scan_of(item["image"], HOW["smooth_mm"])
    loading = time.perf_counter() - begun
    masks, found, audit, seconds = masks_of(scan)
    masks["study_otsu"] = otsu(scan, inside=False) == 1
    masks |= {"soft": found.soft, "ignore": found.ignore}
    three = torch.from_numpy(np.stack(list(masks.values())).astype(np.float32))
    image = MetaTensor(three, meta=item["image"].meta, applied_operations=item["image"].applied_operations)
    back = HOW["preprocessing"].inverse({"image": image})["image"].numpy()
    on_grid = dict(zip(masks, back, strict=True))
    truth = np.asarray(nibabel.load(case.label).dataobj) > 0
    soft, ignore = on_grid.pop("soft"), on_grid.pop("ignore") >= 0.5
    rows = {name: scored(mask >= 0.5, truth) for name, mask in on_grid.items()}
    flair = nibabel.load(case.image[3])
    rows["flair_threshold"] = scored(flair_threshold(np.asarray(flair.dataobj), flair.header.get_zooms()), truth)
    known = scored((on_grid["fused: majority"] >= 0.5) & ~ignore, truth & ~ignore)
    brain = soft.size and (scan.brain.sum() * np.prod(scan.spacing) / np.prod(flair.header.get_zooms()))
    facts = {"known_dice": known["dice"], "ignored": float(ignore.sum() / brain), "seconds": loading + seconds}
    return {"case": case.case, "patient": case.patient, "rows": rows, "audit": audit} | facts


def picture(pair: tuple[str, str | None]) -> Row:
    """Scores of an image at its own size; without a mask the truth is empty."""
    from PIL import Image
    from scripts.images import to_grey
    from scripts.pictures import scan_of
    from scripts.pseudo_label import pseudo_mask

    with Image.open(pair[0]) as opened:
        grey = to_grey(opened)
        grey.thumbnail((256, 256))  # as figshare's; those without truth may be larger
        image = np.asarray(grey, np.float32) / 255
    truth = np.zeros(image.shape, bool)
    if pair[1]:
        with Image.open(pair[1]) as opened:
            truth = np.asarray(opened) > 0
    masks, found, audit, seconds = masks_of(scan_of(image))
    masks["study_otsu"] = pseudo_mask(image).mask
    rows = {n: scored(mask, truth) | {"marked": float(mask.mean())} for n, mask in masks.items()}
    known = scored(found.hard & ~found.ignore, truth & ~found.ignore)
    facts = {"known_dice": known["dice"], "ignored": float(found.ignore.mean()), "seconds": seconds}
    return {"case": pair[0], "patient": pair[0], "rows": rows, "audit": audit} | facts


# What is looked at


def cases_of(data: str) -> list[Any]:
    folder = os.path.join(data, "brats")
    return [case for case in find_cases(folder) if case.label] if os.path.isdir(folder) else []


def masked_pictures(data: str) -> list[tuple[str, str | None]]:
    folder = Path(data) / "figshare_masked"
    found = sorted((folder / "images").glob("*.png"), key=lambda path: (len(path.name), path.name))
    return [(str(path), str(folder / "masks" / path.name)) for path in found]


def normal_pictures(data: str) -> list[tuple[str, str | None]]:
    folder = Path(data) / "mri44"
    return [(str(path), None) for path in sorted(folder.glob("_NORMAL*/*")) if path.is_file()]


def looked_at(bundle: str, look: Callable, items: Sequence[Any], jobs: int, what: str) -> Iterator[Row]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, open_bundle, (bundle,)) as pool:
        yield from progress(pool.map(look, items), len(items), what)


# What is said


def summarise(found: list[Row]) -> Row:
    """Per name the mean of each score with its interval over patients, the median, and the audit's means."""
    patients = [one["patient"] for one in found]
    rows = {}
    for name in found[0]["rows"]:
        keys = list(found[0]["rows"][name])
        table = np.array([[one["rows"][name][key] for key in keys] for one in found])
        low, high = intervals(table, patients)
        rows[name] = {
            key: {
                "mean": round(float(table[:, place].mean()), 4),
                "low": round(float(low[place]), 4),
                "high": round(float(high[place]), 4),
                "median": round(float(np.median(table[:, place])), 4),
                "min": round(float(table[:, place].min()), 4),
            }
            for place, key in enumerate(keys)
        }
    facts = {k: round(float(np.mean([one[k] for one in found])), 4) for k in ("known_dice", "ignored", "seconds")}
    facts["seconds_most"] = round(max(one["seconds"] for one in found), 2)
    return {"n": len(found), "patients": len(set(patients)), "rows": rows, "audit": audit_means(found)} | facts


def audit_means(found: list[Row]) -> Row:
    """Per label function the mean coverage, share, agreement and kappa, and how often each flag is up."""
    means: Row = {}
    for place, row in enumerate(found[0]["audit"]):
        column = [one["audit"][place] for one in found]
        keys = ("coverage", "share", "agreement", "kappa", "touches_skull", "bilateral")
        means[str(row["who"])] = {key: round(float(np.mean([r[key] for r in column])), 4) for key in keys}
    return means


def false_positives(found: list[Row]) -> Row:
    """Of pictures without a tumour: in how many something is marked, and how much of the picture on average."""
    rows = {}
    for name in found[0]["rows"]:
        marked = np.array([one["rows"][name]["marked"] for one in found])
        rows[name] = {"rate": round(float((marked > 0).mean()), 4), "marked": round(float(marked.mean()), 4)}
    return {"n": len(found), "rows": rows, "audit": audit_means(found)}


def page(report: Row) -> str:
    """The tables, in Markdown."""
    parts = []
    for key, title in (("volumes", "Volumes, whole tumour"), ("pictures", "Pictures (`figshare_masked`)")):
        if key in report:
            parts.append(scores_table(report[key], f"{title}: {report[key]['n']} with truth"))
            if key == "pictures":
                parts.append(halves(report))
            parts.append(audit_table(report[key]))
    if "normals" in report:
        lines = ["| on pictures without a tumour | marks something | share of the picture |", "|---|---|---|"]
        for name, row in report["normals"]["rows"].items():
            lines.append(f"| {NAMES.get(name, name)} | {row['rate']:.0%} | {row['marked']:.1%} |")
        title = f"### Where there is no tumour: {report['normals']['n']} pictures (`mri44`, `_NORMAL`)"
        parts.append("\n".join([title, "", *lines]))
    return "\n\n".join(parts)


def scores_table(part: Row, title: str) -> str:
    lines = [
        f"### {title}",
        "",
        "| | Dice | 95 % interval | median | worst | sensitivity | precision | marks | Dice there |",
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    order = sorted(part["rows"], key=lambda name: (name not in NAMES, name.startswith("fused")))
    for name in order:
        row, dice = part["rows"][name], part["rows"][name]["dice"]
        often = row["found"]["mean"]
        others = f"{row['sensitivity']['mean']:.2f} | {row['precision']['mean']:.2f} | {often:.0%}"
        others += f" | {dice['mean'] / often if often else 0:.3f}"  # an empty mask has Dice 0: the truths are not empty
        spread = f"[{dice['low']:.3f}, {dice['high']:.3f}] | {dice['median']:.3f} | {dice['min']:.3f}"
        lines.append(f"| {NAMES.get(name, name)} | {dice['mean']:.3f} | {spread} | {others} |")
    whole = "brain" if "flair_threshold" in part["rows"] else "picture"
    said = (
        f"The majority ignores {part['ignored']:.1%} of the {whole}; on the rest its Dice is {part['known_dice']:.3f}. "
    )
    return "\n".join([*lines, "", said + f"{part['seconds']:.1f} s a case, {part['seconds_most']:.1f} s at most."])


def halves(report: Row) -> str:
    chosen, unseen = report["pictures_by_half"]
    return (
        f"The majority reaches {chosen:.3f} on the {(report['pictures']['n'] + 1) // 2} pictures on which the numbers "
        f"were chosen, and {unseen:.3f} on the others."
    )


def audit_table(part: Row) -> str:
    lines = ["| without truth | speaks of | marks | agrees (Dice) | kappa | at the edge | both sides |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, row in part["audit"].items():
        flags = f"{row['touches_skull']:.0%} | {row['bilateral']:.0%}"
        text = f"{row['coverage']:.0%} | {row['share']:.1%} | {row['agreement']:.2f} | {row['kappa']:.2f} | {flags}"
        lines.append(f"| {name} | {text} |")
    return "\n".join(lines)


def measure(data: str, jobs: int, most: int) -> Row:
    """All that there is data for."""
    report: Row = {}
    cases = cases_of(data)[: most or None]
    if cases:
        found = list(looked_at("unetr3d", volume, cases, jobs, "volumes"))
        by_case = {one["case"]: {name: round(row["dice"], 4) for name, row in one["rows"].items()} for one in found}
        report["volumes"] = summarise(found) | {"dice_by_case": by_case}
    pairs = masked_pictures(data)[: most or None]
    if pairs:
        found = list(looked_at("pseudo2d", picture, pairs, jobs, "pictures"))
        for one in found:
            for row in one["rows"].values():
                row.pop("marked")
        report["pictures"] = summarise(found)
        # The numbers were chosen on every second file in alphabetical order.
        names = sorted(found, key=lambda one: os.path.basename(one["case"]))
        dice = [[one["rows"]["fused: majority"]["dice"] for one in names[half::2]] for half in (0, 1)]
        report["pictures_by_half"] = [round(float(np.mean(half)), 4) for half in dice if half]
    normals = normal_pictures(data)[: most or None]
    if normals:
        report["normals"] = false_positives(list(looked_at("pseudo2d", picture, normals, jobs, "normals")))
    for key, folder in (("volumes", "brats"), ("pictures", "figshare_masked"), ("normals", "mri44")):
        if key not in report:
            print(f"labelers: {os.path.join(data, folder)} is not there: left out", file=sys.stderr)
    return report


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.labelers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with brats, figshare_masked, mri44")
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--page", default="", help="Markdown page whose marked part is replaced")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--most", type=int, default=0, help="of each kind; 0: all")
    given = parser.parse_args(words)
    try:
        text = read_page(given.page, "labelers") if given.page else ""
        report = measure(given.data, given.jobs, given.most)
        if not report:
            raise ValueError(f"{given.data} holds no data to look at. Check --data.")
    except (ValueError, CaseError) as error:
        print(f"labelers: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"labelers: {error.filename}: {error.strerror}. Check the path.", file=sys.stderr)
        return 1
    Path(given.out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    tables = page(report)
    if given.page:
        Path(given.page).write_text(fill(text, "labelers", tables), encoding="utf-8")
    print(tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
