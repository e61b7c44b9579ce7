"""The points of the curve and their differences, written: curve.csv, result.json, curve.png."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from autoconf.experiments.efficiency.parts import PSEUDO_MASKS, CurveTask, points, pseudo_masks
from autoconf.experiments.efficiency.picture import draw_curve
from autoconf.experiments.efficiency.settings import SCRATCH, STARTS, LabelCurve
from autoconf.output import cases_of, table, to_csv, to_json, write_files
from autoconf.score.compare import ALPHA, holm, per_patient, wilcoxon
from autoconf.score.summary import intervals
from autoconf.workers.parts import Part

Dice = dict[str, float]  # case -> Dice


def write_curve(curve: LabelCurve) -> None:
    """Write all that is known of what was asked for, and print it."""
    done = [part for part in points(curve) if part.is_done]
    if not done:
        print("no point is done")
        return
    rows, found = [_row(part) for part in done] + _mark_rows(curve), gather(curve, done)
    files: dict[str, str | bytes] = {"curve.csv": to_csv(rows), "result.json": to_json(found)}
    write_files(str(curve.setup.home), files | {"curve.png": draw_curve(found, rows)})
    print()
    shown = [found["reference"]] * bool(found["reference"]) + found["points"]
    print(table([_shown(point) for point in shown], ["patients", "start", "seeds", "Dice", "95 % interval"]))
    print()
    for difference in found["differences"]:
        print(words(difference))
    if len(done) < len(points(curve)):
        print(f"{len(points(curve)) - len(done)} of {len(points(curve))} points are missing.")
    print(
        "\nwrote  "
        + "\n       ".join(str(curve.setup.home / name) for name in ("curve.csv", "result.json", "curve.png"))
    )


def gather(curve: LabelCurve, done: Sequence[Part[CurveTask]]) -> dict[str, Any]:
    """Every point with its interval, and start minus scratch at every size, case by case."""
    scores: dict[tuple[int, str], dict[int, Dice]] = {}
    for part in done:
        scores.setdefault((part.task.size, part.task.start), {})[part.task.seed] = part.result()["dice"]
    ordered = sorted(scores.items(), key=lambda item: (item[0][0], STARTS.index(item[0][1])))
    patients = {case.name: case.patient for case in curve.setup.data.training}
    found = [{"patients": size, "start": start} | spread(of, patients) for (size, start), of in ordered]
    differences: list[dict[str, Any]] = []
    for (size, start), own in ordered:
        theirs = scores.get((size, SCRATCH), {})
        if start != SCRATCH and own.keys() & theirs.keys():
            differences.append({"patients": size, "start": start} | paired(own, theirs, patients))
    for one, p in zip(differences, holm([one["p"] for one in differences]), strict=True):
        # With so few patients no data at all would make the smallest corrected p small enough.
        one |= {"p_holm": round(p, 6), "too_few": len(differences) * 2.0 ** (1 - one["scored_patients"]) >= ALPHA}
    by_seed = {seed: curve.fold(seed) for seed in sorted({part.task.seed for part in done})}
    about = {
        "bundle": curve.setup.bundle.name,
        "network": curve.setup.network,
        "epochs": curve.epochs,
        "folds": by_seed,
    }
    about |= {"steps": {seed: curve.steps(fold) for seed, fold in by_seed.items()}}
    return about | {"points": found, "differences": differences, "reference": _reference(curve, by_seed, patients)}


def _reference(curve: LabelCurve, seeds: Iterable[int], patients: dict[str, str]) -> dict[str, Any]:
    """The pseudo-masks themselves on the same cases, which need no label and no training; empty without them."""
    masks = _masks(curve)
    if not masks:
        return {}
    return {"start": PSEUDO_MASKS, "patients": 0} | spread(
        {seed: _of_fold(curve, masks, seed) for seed in seeds}, patients
    )


def spread(of: dict[int, Dice], patients: dict[str, str]) -> dict[str, Any]:
    """Mean Dice and its 95 % interval over patients. of: seed -> Dice; a case of several seeds counts with its mean."""
    means = _means(of)
    (low,), (high,) = intervals(np.array(list(means.values()))[:, None], [patients[case] for case in means])
    of_patients = {patients[case] for case in means}
    counts = {"seeds": sorted(of), "scored_cases": len(means), "scored_patients": len(of_patients)}
    return {"dice": _rounded(np.mean(list(means.values()))), "low": _rounded(low), "high": _rounded(high)} | counts


def paired(own: dict[int, Dice], theirs: dict[int, Dice], patients: dict[str, str]) -> dict[str, Any]:
    """own minus theirs of the seeds that both have, case by case, as autoconf/score/compare.py judges it."""
    seeds = sorted(own.keys() & theirs.keys())
    mine, other = (_means({seed: of[seed] for seed in seeds}) for of in (own, theirs))
    differences = np.array([mine[case] - other[case] for case in mine])
    named = [patients[case] for case in mine]
    (low,), (high,) = intervals(differences[:, None], named)
    p = wilcoxon(per_patient(differences, named))
    counts = {"seeds": seeds, "scored_cases": len(mine), "scored_patients": len(set(named))}
    numbers = {"difference": differences.mean(), "low": low, "high": high, "p": p}
    return {name: _rounded(number) for name, number in numbers.items()} | counts


def words(found: dict[str, Any]) -> str:
    """One line per comparison. Better or worse needs both witnesses (docs/decisions/0010)."""
    low, high, p, few = (found[key] for key in ("low", "high", "p_holm", "too_few"))
    line = f"{found['start']} minus {SCRATCH}, {found['patients']} patients: Dice {found['difference']:+.3f} "
    line += f"[{low:+.3f}, {high:+.3f}] over {cases_of(found['scored_cases'], found['scored_patients'])}, "
    line += f"seed{'s' if len(found['seeds']) > 1 else ''} {','.join(map(str, found['seeds']))}, p {p:.2g}. "
    if low <= 0 <= high:
        too_few = ", and these are too few patients to show one" if few else ""
        return f"{line}The interval spans 0: no difference shown{too_few}."
    if few:
        return line + "Too few patients to tell."
    if p >= ALPHA:
        return line + "Wilcoxon's test does not agree: no difference shown."
    return line + ("Better." if low > 0 else "Worse.")


def _masks(curve: LabelCurve) -> Dice:
    """Dice of each case's pseudo-mask; empty if there are none."""
    there = "pseudo" in curve.starts and pseudo_masks(curve).is_done
    return pseudo_masks(curve).result()["dice"] if there else {}


def _of_fold(curve: LabelCurve, masks: Dice, seed: int) -> Dice:
    return {case.name: masks[case.name] for case in curve.setup.data.validating(curve.fold(seed))}


def _row(part: Part[CurveTask]) -> dict[str, Any]:
    result = part.result()
    known = {
        "size": part.task.size,
        "start": part.task.start,
        "seed": part.task.seed,
        "fold": result["fold"],
        "cases": result["cases"],
    }
    return known | {"steps": result["steps"], "scored": len(result["dice"]), "dice": _mean(result["dice"])}


def _mark_rows(curve: LabelCurve) -> list[dict[str, Any]]:
    masks = _masks(curve)
    rows = []
    for seed in range(1, curve.seeds + 1) if masks else ():
        dice = _of_fold(curve, masks, seed)
        row = {"size": 0, "start": PSEUDO_MASKS, "seed": seed, "fold": curve.fold(seed), "cases": 0, "steps": 0}
        rows.append(row | {"scored": len(dice), "dice": _mean(dice)})
    return rows


def _shown(point: dict[str, Any]) -> list[object]:
    seeds = ",".join(map(str, point["seeds"]))
    return [point["patients"], point["start"], seeds, point["dice"], f"[{point['low']:.3f}, {point['high']:.3f}]"]


def _means(of: dict[int, Dice]) -> Dice:
    kept: dict[str, list[float]] = {}
    for dice in of.values():
        for case, value in dice.items():
            kept.setdefault(case, []).append(value)
    return {case: float(np.mean(values)) for case, values in kept.items()}


def _mean(dice: Dice) -> float:
    return _rounded(np.mean(list(dice.values())))


def _rounded(number: Any) -> float:
    return round(float(number), 6)
