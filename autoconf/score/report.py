"""The table that `autoconf score` prints."""

from __future__ import annotations

import os
from typing import Any

from autoconf.output import table
from autoconf.score.pairs import Pairs

MOST_ROWS = 25  # more cases than these are in scores.csv only


def print_scores(out: str, rows: list[dict[str, Any]], summary: dict[str, Any], pairs: Pairs, files: list[str]) -> None:
    """The cases, worst first, then the means, then everything that was not scored, then where the files lie."""
    worst = sorted(rows, key=lambda row: (row["dice"], row["case"]))
    sizes = [name for name in ("pred_ml", "true_ml", "pred_pixels", "true_pixels") if name in rows[0]]
    shown = [
        (row["case"], row["dice"], row["iou"], *(row[name] for name in sizes), _remark(row))
        for row in worst[:MOST_ROWS]
    ]
    print(table(shown, ("case", "Dice", "IoU", *(name.replace("_ml", " mL").replace("_", " ") for name in sizes), "")))
    if len(rows) > MOST_ROWS:
        print(f"... and {len(rows) - MOST_ROWS} better ones")
    print()
    print(table(_facts(summary, pairs)))
    label = "wrote  "
    print("\n" + "\n".join((label if i == 0 else " " * len(label)) + os.path.join(out, f) for i, f in enumerate(files)))


def _facts(summary: dict[str, Any], pairs: Pairs) -> list[tuple[str, str]]:
    background = summary["all_background"]
    part = f" of the {summary['split']} split" if "split" in summary else ""
    facts = [
        ("cases", f"{summary['n']}{part}"),
        ("Dice", _spread(summary, "dice") + f" ({summary['worst_case']})"),
        ("IoU", _spread(summary, "iou")),
        ("background", f"all-background prediction: mean Dice {background['mean_dice']:.3f}"),
    ]
    if summary["missing"]:
        facts.append(("missing", f"no prediction, scored as empty: {_some(summary['missing'])}"))
    if summary["both_empty"]:
        facts.append(("empty", f"{summary['both_empty']} without tumour in truth or prediction: Dice 1"))
    if pairs.without_pred:
        facts.append(("not scored", f"truth without prediction: {_some(pairs.without_pred)}"))
    if pairs.without_truth:
        facts.append(("not scored", f"prediction without truth: {_some(pairs.without_truth)}"))
    if "warning" in summary:
        facts.append(("warning", summary["warning"]))
    return facts


def _spread(summary: dict[str, Any], name: str) -> str:
    mean, median, lowest = (summary[f"{kind}_{name}"] for kind in ("mean", "median", "min"))
    return f"mean {mean:.3f}, median {median:.3f}, lowest {lowest:.3f}"


def _remark(row: dict[str, Any]) -> str:
    return "missing" if row["missing"] else "both empty" if row["both_empty"] else ""


def _some(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}" + (", ...)" if len(names) > 3 else ")")
