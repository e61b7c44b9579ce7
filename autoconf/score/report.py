"""The tables that `autoconf score` prints."""

from __future__ import annotations

import os
from typing import Any

from autoconf.output import table
from autoconf.score.metrics import LOWER_IS_BETTER, METRICS
from autoconf.score.pairs import Pairs

MOST_ROWS = 25  # more cases than these are in scores.csv only
SHOWN = ("dice", "iou", "hd95", "nsd", "lesion_dice", "lesion_f1")
Row = dict[str, Any]


def print_scores(out: str, rows: list[Row], summary: Row, pairs: Pairs, files: list[str]) -> None:
    """The cases, worst first, then the means, then everything that was not scored, then where the files lie."""
    for region in summary["regions"]:
        _print_region(region, [row for row in rows if row["region"] == region], summary)
    print(table(_facts(summary, pairs)))
    label = "wrote  "
    print("\n" + "\n".join((label if i == 0 else " " * len(label)) + os.path.join(out, f) for i, f in enumerate(files)))


def print_comparison(first: str, second: str, comparison: dict[str, Any]) -> None:
    """The paired differences, first minus second."""
    for region, metrics in comparison.items():
        print(f"\n{region}: {first} minus {second}")
        lines = [
            (
                METRICS[name],
                found["difference"],
                f"[{found['low']:+.3f}, {found['high']:+.3f}]",
                found["p_holm"],
                f"{found['wins']}/{found['losses']}/{found['ties']}",
                found["verdict"],
            )
            for name, found in metrics.items()
        ]
        print(table(lines, ("metric", "difference", "95 % interval", "p (Holm)", "won/lost/tied", "verdict")))


def _print_region(region: str, rows: list[Row], summary: Row) -> None:
    """Cases, means and reference rows of one region."""
    worst = sorted(rows, key=lambda row: (row["dice"], row["case"]))
    sizes = [name for name in ("pred_ml", "true_ml", "pred_pixels", "true_pixels") if name in rows[0]]
    shown = [
        (row["case"], *(row[name] for name in SHOWN), *(row[name] for name in sizes), _remark(row))
        for row in worst[:MOST_ROWS]
    ]
    heads = [_title(name, summary) for name in SHOWN] + [name.replace("_ml", " mL").replace("_", " ") for name in sizes]
    print(table(shown, (region, *heads, "")))
    if len(rows) > MOST_ROWS:
        print(f"... and {len(rows) - MOST_ROWS} better ones")
    spread = summary["regions"][region]
    lines = [
        (
            _title(name, summary),
            found["mean"],
            f"[{found['low']:.3f}, {found['high']:.3f}]",
            found["median"],
            f"{found['q1']:.3f} to {found['q3']:.3f}",
            *(theirs[name]["mean"] for theirs in summary["references"][region].values()),
        )
        for name, found in spread.items()
    ]
    names = [name.replace("_", " ") for name in summary["references"][region]]
    print()
    print(table(lines, (region, "mean", "95 % interval", "median", "quartiles", *names)))
    print()


def _title(name: str, summary: Row) -> str:
    """A metric's heading, with its unit where it has one."""
    return METRICS[name] + (f" {summary['units']['length']}" if name in LOWER_IS_BETTER else "")


def _facts(summary: Row, pairs: Pairs) -> list[tuple[str, str]]:
    part = f" of the {summary['split']} split" if "split" in summary else ""
    facts = [("cases", f"{summary['n']} of {summary['patients']} patients{part}")]
    facts += [("worst", f"{region}: {_some(cases)}") for region, cases in summary["worst"].items()]
    facts += [("" if place else "references", said) for place, said in enumerate(summary["verdicts"])]
    if "predictions_read_as" in summary:
        facts.append(("read as", f"predicted values are those of {summary['predictions_read_as']} (--pred-labels)"))
    if summary["missing"]:
        facts.append(("missing", f"no prediction, scored as empty: {_some(summary['missing'])}"))
    if summary["excluded"]:
        facts.append(("left out", f"no prediction, not scored (--allow-missing): {_some(summary['excluded'])}"))
    for region, count in summary["both_empty"].items():
        if count:
            facts.append(("empty", f"{count} without {region} in truth or prediction: every ratio is 1"))
    if pairs.without_pred:
        facts.append(("not scored", f"truth without prediction: {_some(pairs.without_pred)}"))
    if pairs.without_truth:
        facts.append(("not scored", f"prediction without truth: {_some(pairs.without_truth)}"))
    return facts + [("warning", said) for said in summary["warnings"]]


def _remark(row: Row) -> str:
    return "missing" if row["missing"] else "both empty" if row["both_empty"] else ""


def _some(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}" + (", ...)" if len(names) > 3 else ")")
