"""`autoconf score`: predicted masks against true ones, by a referee that shares no code with the training.

docs/scoring.md is the policy.

pairs.py      which prediction belongs to which truth   masks.py          what the values of a mask mean
cases.py      one case, and all in processes            metrics.py        the scores of two masks
surfaces.py   distances in mm                           lesions.py        lesion by lesion, as in BraTS 2023
references.py predictions that need no network          probabilities.py  thresholds, calibration, triage
summary.py    means, intervals, verdicts                compare.py        one model against another
report.py     the tables on the screen                  overlay.py        the picture
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoconf.data.pairs import FILE as PAIRS
from autoconf.data.pairs import Pair, pairs_text
from autoconf.errors import AutoconfError
from autoconf.output import check_out, progress, to_csv, to_json, write_files
from autoconf.pool import in_order, usable_cores
from autoconf.score.cases import Scored, ScoringTask, score_case, values_of
from autoconf.score.compare import compare
from autoconf.score.masks import Meaning, decide
from autoconf.score.overlay import draw
from autoconf.score.pairs import Pairs, find_pairs
from autoconf.score.probabilities import THRESHOLDS
from autoconf.score.references import make_atlas, some_of
from autoconf.score.report import print_comparison, print_scores
from autoconf.score.summary import calibration_summary, summarise

MOST_JOBS = 8


def score(
    pred: str,
    truth: str,
    out: str,
    split: str = "testing",
    compare: str = "",
    regions: str = "auto",
    labels: str = "auto",
    pred_labels: str = "auto",
    allow_missing: bool = False,
    dataset_dir: str = "",
    jobs: int = 0,
) -> None:
    """Score predicted masks against the truth, per case, with intervals over patients, beside trivial predictions.

    pred: folder of <case>.nii.gz masks, or of PNG masks; <case>_probability.nii.gz beside them are looked at too.
    truth: datalist.json, where every case of the split counts and a missing prediction scores as empty; or a folder
      of BraTS cases, of <case>.nii.gz masks, or of PNG masks with the same names, where only predicted cases count.
    out: folder for scores.csv, references.csv, summary.json and, where the images are known, overlay.png.
    split: the part of a datalist: testing, validation (fold 0), training (the other folds) or folds (all of these).
    compare: a folder of other predictions of the same cases: is PRED better? Writes comparison.json.
    regions: wt, or wt,tc,et, to score; auto: all that truth and prediction tell apart.
    labels: what true values mean, where the truth does not say (as in `inspect`): brats2023, binary, ...
    pred_labels: what predicted values mean: binary, brats2023 (1 core, 2 oedema, 3 enhancing), or as in the truth.
    allow_missing: leave out cases of a datalist that have no prediction, and count them.
    dataset_dir: where the datalist's data lie now, if they were moved.
    jobs: processes; 0: as many as there are cores, up to 8.

    docs/scoring.md explains each score.
    """
    pairs, excluded = find_pairs(pred, truth, split, dataset_dir), []
    if allow_missing:
        excluded = [pair.case for pair in pairs.scored if pair.pred is None]
        pairs = replace(pairs, scored=[pair for pair in pairs.scored if pair.pred is not None])
    check_out(out, outside=truth if os.path.isdir(truth) else None)
    options = _Options(regions, labels, pred_labels, jobs or min(usable_cores(), MOST_JOBS))
    other = find_pairs(compare, truth, split, dataset_dir) if compare else None
    scored, meaning, others = _score_both(pairs, other, options)
    rows = [row for one in scored for row in one.rows]
    summary = _summary(scored, pairs, meaning, excluded)
    summary = {"pred": os.path.abspath(pred), "truth": os.path.abspath(truth)} | summary
    summary |= {"split": split} if truth.lower().endswith(".json") else {}
    summary |= {"dataset_dir": dataset_dir} if dataset_dir else {}
    files: dict[str, str | bytes] = {"scores.csv": to_csv(rows), PAIRS: pairs_text(meaning.pairs)}
    files["references.csv"] = to_csv([row for one in scored for row in one.references])
    files |= _calibration_files(scored)
    if others is not None:
        comparison = _comparison(rows, others)
        files["comparison.json"] = to_json({"pred": pred, "other": compare} | comparison)
    files["summary.json"] = to_json(summary)
    picture = _overlay(meaning, rows)
    files |= {"overlay.png": picture} if picture else {}
    write_files(out, files)
    print_scores(out, rows, summary, pairs, list(files))
    if others is not None:
        print_comparison(pred, compare, comparison["regions"])


@dataclass(frozen=True)
class _Options:
    regions: str
    labels: str
    pred_labels: str
    jobs: int


def _score_both(
    pairs: Pairs, other: Pairs | None, options: _Options
) -> tuple[list[Scored], Meaning, list[dict[str, Any]] | None]:
    """The scores of the predictions, what their values mean, and the rows of the other predictions of the same cases.

    The others may be written in other values, but are scored on the same regions.
    """
    meaning = _meaning(pairs, options)
    task = ScoringTask(pairs.kind, meaning.regions, _atlas(pairs, meaning))
    scored = _run(task, meaning.pairs, options.jobs, "scoring cases")
    if other is None:
        return scored, meaning, None
    cases = {pair.case for pair in pairs.scored}
    common = [pair for pair in other.scored if pair.case in cases]
    if other.kind != pairs.kind or not common:
        raise AutoconfError("--compare: the two folders have no case in common. Give predictions of the same cases.")
    theirs = _meaning(replace(other, scored=common), replace(options, regions=",".join(meaning.regions)))
    task = ScoringTask(other.kind, theirs.regions, references=False)
    found = _run(task, theirs.pairs, options.jobs, "scoring the others")
    return scored, meaning, [row for one in found for row in one.rows]


def _meaning(pairs: Pairs, options: _Options) -> Meaning:
    """Read all masks once, so that a file that cannot be scored stops the run before the long work."""
    look = in_order(values_of, [(pairs.kind, pair) for pair in pairs.scored], options.jobs, None)
    values = list(progress(look, len(pairs.scored), "reading masks"))
    truths, predicted = [true for true, _ in values], [found for _, found in values]
    return decide(pairs.kind, pairs.scored, truths, predicted, options.labels, options.pred_labels, options.regions)


def _atlas(pairs: Pairs, meaning: Meaning) -> Any:
    """The mean mask of the training cases, unless they are what is scored."""
    if pairs.kind != "volumes" or "wt" not in meaning.regions:
        return None
    scored = {pair.case for pair in pairs.scored}
    training = some_of([pair for pair in pairs.training if pair.flair and pair.case not in scored])
    return make_atlas(progress(training, len(training), "reading training masks"))


def _run(task: ScoringTask, pairs: Sequence[Pair], jobs: int, what: str) -> list[Scored]:
    return list(progress(in_order(score_case, [(task, pair) for pair in pairs], jobs, None), len(pairs), what))


def _summary(scored: list[Scored], pairs: Pairs, meaning: Meaning, excluded: list[str]) -> dict[str, Any]:
    rows = [row for one in scored for row in one.rows]
    volumes = pairs.kind == "volumes"
    units = {"length": "mm", "size": "mL"} if volumes else {"length": "pixels", "size": "pixels"}
    head: dict[str, Any] = {"kind": pairs.kind, "units": units, "policy": "docs/scoring.md", "excluded": excluded}
    if meaning.predictions != "binary":
        head["predictions_read_as"] = meaning.predictions
    return head | summarise(rows, [row for one in scored for row in one.references])


def _comparison(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> dict[str, Any]:
    common = {row["case"] for row in others}
    return {"n": len(common), "regions": compare([row for row in rows if row["case"] in common], others)}


def _calibration_files(scored: list[Scored]) -> dict[str, str | bytes]:
    """What the saved probabilities say; nothing where there are none."""
    found = [one.calibration for one in scored if one.calibration]
    if not found:
        return {}
    curve = [
        {"threshold": threshold, "dice": round(sum(one.dice[place] for one in found) / len(found), 6)}
        for place, threshold in enumerate(THRESHOLDS)
    ]
    triage = [
        {"case": one.case, "entropy": round(one.entropy, 6), "ece": "" if one.ece is None else round(one.ece, 6)}
        for one in sorted(found, key=lambda one: -one.entropy)
    ]
    rows = [row for one in scored for row in one.rows]
    return {
        "threshold_curve.csv": to_csv(curve),
        "triage.csv": to_csv(triage),
        "calibration.json": to_json(calibration_summary(found, rows)),
    }


def _overlay(meaning: Meaning, rows: list[dict[str, Any]]) -> bytes | None:
    """The picture of the best, the median and the worst case that have an image; None where no image is known."""
    region = meaning.regions[0]
    dice = {row["case"]: row["dice"] for row in rows if row["region"] == region}
    shown = sorted((pair for pair in meaning.pairs if pair.flair), key=lambda pair: (-dice[pair.case], pair.case))
    if not shown:
        return None
    chosen = {len(shown) // 2: "median"}
    chosen |= {len(shown) - 1: "worst"} | {0: "best"}  # with one or two cases a place has several names
    return draw([(chosen[place], dice[shown[place].case], shown[place]) for place in sorted(chosen)], region)
