"""Numbers of `autoconf score` beside ones worked out by hand or in a slower, plainer way."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers_volumes import SPACING, scan, store, tumour, write_case
from hypothesis import given
from hypothesis import strategies as st

from autoconf.data.pairs import Pair
from autoconf.errors import AutoconfError
from autoconf.score import cases, summary
from autoconf.score.compare import ALPHA, _verdict, compare, holm, per_patient, wilcoxon
from autoconf.score.metrics import METRICS, overlap
from autoconf.score.probabilities import BAND_MM, BINS, THRESHOLDS, Calibration, band, calibrate
from autoconf.score.references import ATLAS, ATLAS_CASES, Atlas, flair_threshold, make_atlas, some_of
from autoconf.score.summary import better, calibration_summary, intervals, spreads, summarise

FEW = "few patients ({}): as many others could give a clearly different mean, and {}"


def row(case: str, value: float, patient: str = "") -> dict:
    """A row of scores.csv with one value in all metrics."""
    flags = {"region": "wt", "missing": 0, "both_empty": 0}
    return {"case": case, "patient": patient or case} | dict.fromkeys(METRICS, value) | flags


# Calibration


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1, 2, 5), (4, 0.9, 6)])
def test_the_band_is_all_within_10_mm_of_a_voxel(spacing: tuple[float, ...]) -> None:
    mask = np.zeros((30, 24, 9), bool)
    mask[[0, 14, 15, 29], [3, 12, 12, 23], [0, 4, 5, 8]] = True  # also at the edges
    places = np.argwhere(np.ones_like(mask)) * spacing
    apart = np.linalg.norm(places[:, None] - (np.argwhere(mask) * spacing)[None], axis=2).min(axis=1)
    assert np.array_equal(band(mask, spacing).ravel(), apart <= BAND_MM)


def test_a_case_is_counted_bin_by_bin_within_the_band_of_both_masks() -> None:
    random = np.random.default_rng(0)
    probability = random.choice([0, 0.05, 1 / 15, 0.4, 0.5, 0.93, 0.95, 1], (12, 10, 8)).astype(np.float32)
    pred, truth = np.zeros((2, 12, 10, 8), bool)
    pred[1, 1, 1] = truth[10, 8, 6] = truth[9, 8, 6] = True  # each with a band of its own
    spacing = (3.0, 4.0, 5.0)
    found = calibrate("a", probability, pred, truth, spacing)
    near = band(pred, spacing) | band(truth, spacing)
    assert not (band(pred, spacing) & band(truth, spacing)).any() and not near.all()
    bins = [[] for _ in range(BINS)]
    for p, t in zip(probability[near].astype(float), truth[near], strict=True):
        bins[min(int(p * BINS), BINS - 1)].append((p, t))
    assert found.voxels.tolist() == [len(part) for part in bins] and sum(map(len, bins)) == near.sum()
    assert found.confidence == pytest.approx([sum(p for p, _ in part) for part in bins])
    assert found.tumour.tolist() == [sum(int(t) for _, t in part) for part in bins] and found.tumour.sum() == 2
    assert found.tumour.dtype.kind == "i"
    around = [float(p) for p in probability[band(pred, spacing)]]
    bits = [0.0 if p in (0, 1) else -p * math.log2(p) - (1 - p) * math.log2(1 - p) for p in around]
    assert found.entropy == pytest.approx(sum(bits) / len(bits), abs=1e-9)
    assert found.dice == tuple(overlap(probability >= np.float32(t), truth).dice for t in THRESHOLDS)


def test_where_nothing_was_predicted_nothing_is_sure() -> None:
    probability, nothing = np.zeros((2, 4, 4, 4), np.float32)
    assert calibrate("a", probability, nothing > 0, probability > 0, (1, 1, 1)).entropy == 1


def calibration(case: str, best: float, entropy: float, voxels: int) -> Calibration:
    """Ten voxels of mean probability 0.3 of which four are tumour, and others of 0.89 that all are."""
    curve = [0.1] * len(THRESHOLDS)
    curve[3], curve[9] = best, 0.5
    counts, confidence, tumours = np.zeros((3, BINS))
    counts[[4, 13]], confidence[[4, 13]], tumours[[4, 13]] = (10, voxels), (3, 0.89 * voxels), (4, voxels)
    return Calibration(case, tuple(curve), counts.astype(int), confidence, tumours.astype(int), entropy)


def test_the_calibration_of_all_cases_together() -> None:
    found = [calibration(c, *more) for c, *more in (("a", 0.7, 0.3, 0), ("b", 0.9, 0.1, 5), ("c", 0.8, 0.2, 2))]
    found[2] = calibration("c", 0.8123456789, 0.2, 2)
    rows = [row("a", 0.5), row("b", 0.9), row("c", 0.8)]
    others = [r | {"region": "tc", "dice": 0.0} for r in rows]
    assert calibration_summary(found, rows + others) == {
        "cases": 3,
        "ece": round((3 + 7 * 0.11) / 37, 6),  # 30 voxels are 0.1 too low, 7 are 0.11 too low
        "best_threshold": 0.2,
        "dice_at_best_threshold": 0.804115,
        "dice_at_half": 0.5,
        "entropy_and_dice_spearman": -1.0,
        "bins": [
            {"probability": 0.3, "tumour": 0.4, "voxels": 30},
            {"probability": 0.89, "tumour": 1.0, "voxels": 7},
        ],
        "note": "a threshold chosen on these cases must not be reported on them",
    }


@pytest.mark.parametrize(
    ("entropies", "dices", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4], [0.9, 0.5, 0.8, 0.7], -0.4),
        ([0.1, 0.2, 0.3], [0.9, 0.5, 0.8], -0.5),
        ([0.1, 0.1, 0.3], [0.9, 0.5, 0.8], 0.0),
        ([0.1, 0.2, 0.3], [0.5, 0.5, 0.8], 0.866),
        ([0.1, 0.2], [0.9, 0.5], None),
        ([0.1, 0.1, 0.1], [0.9, 0.5, 0.8], None),
        ([0.1, 0.2, 0.3], [0.5, 0.5, 0.5], None),
    ],
)
def test_the_rank_correlation_of_entropy_and_dice(entropies: list, dices: list, expected: float | None) -> None:
    names = [f"c{place}" for place in range(len(dices))]
    found = [calibration(case, 0.9, entropy, 5) for case, entropy in zip(names, entropies, strict=True)]
    of_all = calibration_summary(found, [row(case, dice) for case, dice in zip(names, dices, strict=True)])
    assert of_all["entropy_and_dice_spearman"] == expected


def test_no_voxel_has_no_calibration_error() -> None:
    nothing = np.zeros((3, BINS), int)
    found = Calibration("a", (0.0,) * len(THRESHOLDS), nothing[0], nothing[1] * 1.0, nothing[2], 1.0)
    of_all = calibration_summary([found], [row("a", 0.0)])
    assert (of_all["ece"], of_all["bins"]) == (None, [])


# Sums over cases


def test_what_is_said_of_few_patients_and_of_missing_predictions() -> None:
    alone = summarise([row("a", 0.5, "p"), row("b", 0.6, "p") | {"missing": 1}], [])["warnings"]
    assert alone == [
        FEW.format(1, "one patient gives no interval at all"),
        "1 case(s) without a prediction are scored as empty masks",
    ]
    two = summarise([row("a", 0.5), row("b", 0.6)], [])["warnings"]
    assert two == [FEW.format(2, "an interval from so few is itself unsure")]


def test_the_spread_of_a_metric() -> None:
    found = spreads([row(f"c{n}", n / 12) for n in range(13)])["dice"]
    of_all = {"mean": 0.5, "median": 0.5, "q1": 0.25, "q3": 0.75, "min": 0.0, "max": 1.0}
    assert {name: found[name] for name in of_all} == of_all
    assert spreads([row("a", 1 / 3)])["dice"]["mean"] == 0.333333


def test_an_interval_is_that_of_the_middle_95_of_100_means() -> None:
    values = np.random.default_rng(5).uniform(size=25)
    drawn = np.random.default_rng(0).multinomial(25, np.full(25, 1 / 25), size=10_000)
    expected = np.percentile(drawn @ values / 25, [2.5, 97.5])
    assert [float(end[0]) for end in intervals(values[:, None], [f"p{n:02}" for n in range(25)])] == pytest.approx(
        expected
    )


def test_both_empty_is_counted_region_by_region() -> None:
    rows = [row("a", 1.0) | {"both_empty": 1}, row("b", 1.0) | {"both_empty": 1}, row("c", 0.5)]
    assert summarise(rows + [r | {"region": "tc", "both_empty": 0} for r in rows], [])["both_empty"] == {
        "wt": 2,
        "tc": 0,
    }


@pytest.mark.parametrize(
    ("own", "theirs", "said"),
    [
        ([0.5] * 4, [0.5] * 4, "NOT BETTER than tumour everywhere: wt Dice +0.000, 95 % interval [+0.000, +0.000]"),
        ([0.5, 0.5], [0.5, 0.4], "NOT BETTER beyond doubt than tumour everywhere: wt Dice +0.050"),
        ([0.5, 0.6], [0.4, 0.4], "better than tumour everywhere: wt Dice +0.150, 95 % interval [+0.100, +0.200]"),
    ],
)
def test_a_reference_is_beaten_only_by_more_than_nothing(own: list[float], theirs: list[float], said: str) -> None:
    rows, others = ([row(f"c{place}", value) for place, value in enumerate(values)] for values in (own, theirs))
    found = summarise(rows, [other | {"reference": "all_foreground"} for other in others])["verdicts"]
    assert len(found) == 1 and found[0].startswith(said)


def test_an_all_background_prediction_that_scores_is_a_bug() -> None:
    background = row("a", 0.5) | {"reference": "all_background"}
    with pytest.raises(AutoconfError, match="^a: an all-background prediction scores 0.5. Report this bug.$"):
        cases._check_background(background)
    for sound in ({"dice": 0.0, "iou": 0.0}, {"both_empty": 1}, {"reference": "all_foreground"}):
        cases._check_background(background | sound)


def test_one_patient_who_is_no_better_is_said_to_be_none() -> None:
    same = summarise([row("a", 0.5)], [row("a", 0.5) | {"reference": "all_background"}])["verdicts"]
    assert same[0].startswith("NOT BETTER than no tumour anywhere")
    assert not better("dice", 0.0) and not better("hd95", 0.0)


def test_many_patients_are_drawn_in_blocks_which_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values, patients = np.random.default_rng(0).uniform(size=(40, 2)), [f"p{n}" for n in range(40)]
    whole = intervals(values, patients)
    monkeypatch.setattr(summary, "BLOCK", 40 * 3000)
    assert np.array_equal(whole, intervals(values, patients))
    assert summary._blocks(10_000, 3000) == [3000, 3000, 3000, 1000]
    assert summary._blocks(3000, 3000) == [3000]


# Comparisons


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 3 x 0.01; 2 x 0.03, below which the last may not lie
        ([0.2, 0.2, 0.2], [0.6, 0.6, 0.6]),
        ([0.9, 0.001], [0.9, 0.002]),
        ([0.7, 0.8], [1.0, 1.0]),
        ([0.02], [0.02]),
    ],
)
def test_holm_steps_down(p: list[float], expected: list[float]) -> None:
    assert holm(p) == pytest.approx(expected)


def test_a_patient_counts_once_however_many_scans() -> None:
    assert per_patient(np.array([1.0, 2.0, 6.0, 4.0]), ["b", "a", "b", "a"]).tolist() == [3.0, 3.5]
    assert per_patient(np.array([1.0, 2.0]), ["b", "a"]).tolist() == [2.0, 1.0]


def test_a_comparison_holds_what_it_was_judged_by() -> None:
    """Eleven patients, one with two scans; one tie, of two scores that were rounded apart."""
    gains = [0.1 + place / 300 for place in range(10)] + [1e-6, -0.05]
    rows = [row(f"c{n}", 0.5 + gain, f"p{min(n, 10)}") for n, gain in enumerate(gains)]
    others = [row(f"c{n}", 0.5, f"p{min(n, 10)}") for n in range(12)]
    found = compare(rows, others)["wt"]["dice"]
    patients = np.array([*gains[:10], (gains[10] + gains[11]) / 2])
    low, high = intervals(np.array(gains)[:, None], [r["patient"] for r in rows])
    p = wilcoxon(patients)
    assert p == pytest.approx(2 * 2 / 2**11)  # of the 2^11 signs of the ranks, those with at most the least one lost
    assert found == {
        "difference": round(float(np.mean(gains)), 6),
        "low": round(float(low[0]), 6),
        "high": round(float(high[0]), 6),
        "p": round(p, 6),
        "p_holm": round(len(METRICS) * p, 6),
        "wins": 10,
        "losses": 1,
        "ties": 1,
        "verdict": "better",
    }


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1))
def test_only_an_interval_without_0_and_a_small_p_make_a_difference(one: float, other: float, p: float) -> None:
    low, high = sorted((one, other))
    said = _verdict("dice", (low + high) / 2, low, high, p)
    if low == high == 0:
        assert said == "the same"
    elif low > 0 and p < ALPHA:
        assert said == "better"
    elif high < 0 and p < ALPHA:
        assert said == "worse"
    else:
        assert said == "these data cannot tell the two apart"


def test_the_edges_of_a_difference() -> None:
    unsure = "these data cannot tell the two apart"
    assert _verdict("dice", 0.1, 0.0, 0.2, 0.01) == unsure
    assert _verdict("dice", -0.1, -0.2, 0.0, 0.01) == unsure
    assert _verdict("dice", 0.1, 0.05, 0.2, ALPHA) == unsure
    assert _verdict("hd95", 0.1, 0.05, 0.2, 0.01) == "worse"
    with pytest.raises(ValueError, match="^two sets of scores of the same cases$"):
        compare([row("a", 0.5)], [row("b", 0.5)])


# References


@pytest.mark.parametrize(("spacing", "thick"), [(1.0, 3), (0.5, 5), (0.4, 5), (3.0, 3)])
def test_what_is_thinner_than_2_mm_is_no_bright_object(spacing: float, thick: int) -> None:
    """A slab of so many voxels stays, one of one voxel less is opened away."""
    flair = np.random.default_rng(0).integers(95, 106, (24, 24, 24)).astype(np.int16)
    for voxels, stays in ((thick, True), (thick - 1, False)):
        slab = flair.copy()
        slab[10 : 10 + voxels, 6:16, 6:16] = 200
        assert flair_threshold(slab, (spacing, spacing, 3 * spacing)).any() == stays


def training(home: Path, number: int) -> Pair:
    case = f"BraTS2021_{number:05d}"
    write_case(home, case, seed=number)
    return Pair(case, None, str(home / case / f"{case}_seg.nii.gz"), str(home / case / f"{case}_flair.nii.gz"))


def test_an_atlas_is_the_mean_of_all_cases_that_have_a_head(tmp_path: Path) -> None:
    """Also those after one without FLAIR and one with an empty one; of a case whose labels are known, only those."""
    pairs = [training(tmp_path, number) for number in range(5)]
    whole = make_atlas(pairs[3:])
    store(np.zeros_like(scan(0)), Path(pairs[1].flair or ""))
    left_out = [Pair(pairs[0].case, None, pairs[0].truth), *pairs[1:2], *pairs[3:]]
    found = make_atlas(left_out)
    assert whole is not None and found is not None
    assert np.array_equal(found.share, whole.share) and found.share.dtype == np.float32
    known = replace(pairs[3], regions={"wt": (4,)})
    only = make_atlas([known, pairs[4]])
    expected = (make_atlas([known]), make_atlas(pairs[4:]))
    assert only is not None and None not in expected
    assert np.array_equal(only.share, (expected[0].share + expected[1].share) / 2)
    assert 0 < expected[0].share.sum() < expected[1].share.sum()


def test_label_1_too_is_tumour_and_0_is_none(tmp_path: Path) -> None:
    pair = training(tmp_path, 0)
    mask = (tumour() > 0).astype(np.uint8)
    store(mask, Path(pair.truth))
    found = make_atlas([pair])
    assert found is not None and 0 < found.share.mean() < 1
    store(np.zeros_like(mask), Path(pair.truth))
    assert make_atlas([pair]) is None and make_atlas([]) is None


def test_the_atlas_takes_the_threshold_that_suits_its_own_cases(tmp_path: Path) -> None:
    """Tumour in one half of all three heads, and in all of the first: a threshold above a third suits the other two."""
    pairs = [training(tmp_path, number) for number in range(3)]
    flair = np.zeros_like(scan(0))
    flair[:, :, :] = 100
    masks = np.zeros((3, *flair.shape), np.uint8)
    masks[:, : flair.shape[0] // 2] = 1
    masks[0, flair.shape[0] // 2 :] = 1
    for pair, mask in zip(pairs, masks, strict=True):
        store(flair, Path(pair.flair or ""))
        store(mask, Path(pair.truth))
    found = make_atlas(pairs)
    assert found is not None and set(np.unique(found.share)) == {np.float32(1 / 3), np.float32(1)}
    dice = {
        t: np.mean([overlap(found.share >= t, found.share >= s).dice for s in (0.1, 0.9, 0.9)]) for t in (0.05, 0.35)
    }
    assert dice[0.35] > dice[0.05]
    assert found.threshold == 0.35  # the first above a third


@pytest.mark.parametrize("length", [7, ATLAS, 100])
def test_a_head_is_stretched_to_the_atlas_and_back(tmp_path: Path, length: int) -> None:
    """The cell of a voxel holds its centre, the voxel of a cell that of the cell."""
    pair = training(tmp_path, 0)
    ramp = np.zeros((length, 8, 8), np.uint8)
    ramp[length // 3 :] = 1
    store(np.full(ramp.shape, 100, np.int16), Path(pair.flair or ""))
    store(ramp, Path(pair.truth))
    atlas = make_atlas([pair])
    assert atlas is not None
    centres = [min(int((cell + 0.5) * length / ATLAS), length - 1) for cell in range(ATLAS)]
    assert atlas.share[:, 0, 0].tolist() == [float(ramp[centre, 0, 0]) for centre in centres]
    share = np.zeros((ATLAS,) * 3, np.float32)
    share[ATLAS // 5 :] = 1
    back = Atlas(share, 0.5).predict(np.ones((length, 3, 3), bool), np.diag([*SPACING, 1.0]))
    cells = [int((voxel + 0.5) * ATLAS / length) for voxel in range(length)]
    assert back[:, 0, 0].tolist() == [cell >= ATLAS // 5 for cell in cells]


def test_of_many_training_cases_some_are_taken_from_first_to_last() -> None:
    pairs = [Pair(str(number), None, "") for number in range(3 * ATLAS_CASES)]
    found = [int(pair.case) for pair in some_of(pairs)]
    assert len(found) == ATLAS_CASES and (found[0], found[-1]) == (0, len(pairs) - 1)
    assert set(np.diff(found)) == {3, 4} or set(np.diff(found)) == {3}
    assert [pair.case for pair in some_of(pairs[:ATLAS_CASES])] == [str(n) for n in range(ATLAS_CASES)]
