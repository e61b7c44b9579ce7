"""`autoconf score`: intervals, comparisons, references, regions, probabilities, missing predictions."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_volumes import assert_refused, autoconf, plain_affine, scan, store, tilted_affine, tumour, write_case
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from autoconf.errors import AutoconfError
from autoconf.inspect import inspect
from autoconf.score import score
from autoconf.score.compare import compare, holm, wilcoxon
from autoconf.score.metrics import LOWER_IS_BETTER, METRICS, overlap
from autoconf.score.probabilities import BINS, THRESHOLDS, band, calibrate, expected_error
from autoconf.score.references import Atlas, flair_threshold
from autoconf.score.summary import intervals, spreads, summarise


def row(case: str, value: float, patient: str = "", **more: Any) -> dict[str, Any]:
    """A row of scores.csv with one value in all ratios, and its complement in both distances."""
    scores = {name: 1 - value if name in LOWER_IS_BETTER else value for name in METRICS}
    flags = {"missing": 0, "both_empty": 0}
    return {"case": case, "patient": patient or case, "region": "wt"} | scores | flags | more


def rows(values: list[float], **more: Any) -> list[dict[str, Any]]:
    return [row(f"c{place}", value, **more) for place, value in enumerate(values)]


# --- intervals --------------------------------------------------------------------------------


def test_an_interval_of_a_mean_is_about_two_standard_errors_wide() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.1, (200, 1))
    low, high = intervals(values, [f"p{n}" for n in range(200)])
    error = values.std() / np.sqrt(200)
    assert low[0] == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high[0] == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_scans_of_one_patient_are_no_further_witnesses() -> None:
    values = np.repeat(np.random.default_rng(0).normal(0.8, 0.1, 12), 5)[:, None]
    as_patients = intervals(values, [f"p{n // 5}" for n in range(60)])
    as_scans = intervals(values, [f"p{n}" for n in range(60)])
    assert as_patients[1] - as_patients[0] > 1.8 * (as_scans[1] - as_scans[0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_an_interval_holds_the_mean_and_stays_within_the_values(values: list[float]) -> None:
    found = spreads(rows(values))["dice"]
    assert min(values) - 1e-6 <= found["low"] <= found["mean"] + 1e-6
    assert found["mean"] - 1e-6 <= found["high"] <= max(values) + 1e-6
    assert found["min"] <= found["q1"] <= found["median"] <= found["q3"] <= found["max"]


def test_no_case_is_left_out_of_a_mean() -> None:
    summary = summarise(rows([1.0, 0.0, 0.5]), [])
    assert summary["regions"]["wt"]["dice"]["mean"] == 0.5 and summary["regions"]["wt"]["hd95"]["mean"] == 0.5
    assert summary["worst"]["wt"] == ["c1", "c2", "c0"]


def test_30_patients_are_enough_not_to_be_warned() -> None:
    assert summarise(rows([0.5] * 30), [])["warnings"] == []
    assert "few patients (29)" in summarise(rows([0.5] * 29), [])["warnings"][0]
    assert "few patients (1)" in summarise(rows([0.5] * 30, patient="same"), [])["warnings"][0]


# --- references -------------------------------------------------------------------------------


def test_a_model_that_does_not_beat_a_reference_is_called_out() -> None:
    own = rows([0.8, 0.7, 0.9, 0.8])
    for theirs, said in (
        ([0, 0, 0, 0], "better than a FLAIR threshold: wt Dice +0.800"),
        ([0.9] * 4, "NOT BETTER than"),
        ([0.95, 0.1, 0.95, 0.9], "NOT BETTER beyond"),
    ):
        reference = [r | {"reference": "flair_threshold"} for r in rows(theirs)]
        assert summarise(own, reference)["verdicts"][0].startswith(said)


def test_one_patient_proves_nothing() -> None:
    said = summarise(rows([0.9]), [r | {"reference": "all_foreground"} for r in rows([0.1])])["verdicts"]
    assert said[0].startswith("better than tumour everywhere, but one patient")


def test_the_flair_threshold_finds_the_largest_bright_object_of_the_head() -> None:
    flair = np.zeros((40, 40, 40), np.int16)
    flair[4:36, 4:36, 4:36] = np.random.default_rng(0).integers(95, 106, (32, 32, 32))
    flair[10:20, 10:20, 10:20] = 200
    flair[28:31, 28:31, 28:31] = 200
    found = flair_threshold(flair, (1, 1, 1))
    assert found[11:19, 11:19, 11:19].all() and not found[25:].any() and found.sum() <= 1000
    assert not flair_threshold(np.zeros_like(flair), (1, 1, 1)).any()


@pytest.mark.parametrize("affine", [plain_affine(), tilted_affine()])
def test_the_atlas_lies_in_the_patients_own_directions(affine: np.ndarray) -> None:
    share = np.zeros((48, 48, 48), np.float32)
    share[24:, 36:] = 0.5  # right half, front quarter
    head = np.zeros((20, 24, 16), bool)
    head[2:12, 4:24] = True
    expected = np.zeros_like(head)
    expected[7:12, 19:24] = True
    stored = (lambda a: a) if affine[0, 0] else (lambda a: a[::-1].transpose(2, 0, 1))
    found = Atlas(share, 0.5).predict(stored(head), affine)
    assert np.array_equal(found, stored(expected))


def test_reference_rows_stand_in_the_files_of_a_run(tmp_path: Path) -> None:
    for number in range(6):
        write_case(tmp_path / "data", f"BraTS2021_{number:05d}", seed=number)
    inspect(str(tmp_path / "data"), str(tmp_path / "work"))
    datalist = json.loads((tmp_path / "work" / "datalist.json").read_text())
    (tmp_path / "pred").mkdir()
    case = datalist["testing"][0]["case"]
    store(tumour((1,)), tmp_path / "pred" / f"{case}.nii.gz")
    score(str(tmp_path / "pred"), str(tmp_path / "work" / "datalist.json"), str(tmp_path / "out"), jobs=1)
    found = {r["reference"]: float(r["dice"]) for r in read(tmp_path / "out" / "references.csv")}
    assert set(found) == {"all_background", "all_foreground", "flair_threshold", "training_atlas"}
    assert found["all_background"] == 0
    assert found["all_foreground"] == pytest.approx(
        2 * 8 / (12 + 200), abs=1e-6
    )  # FLAIR shows 5 x 8 x 5 voxels, 8 of 12 tumour
    assert found["training_atlas"] == pytest.approx(
        2 * 8 / (8 + 12)
    )  # all tumours lie alike; the rest is outside FLAIR


# --- comparisons ------------------------------------------------------------------------------


def test_a_clear_gain_is_better_and_its_reverse_is_worse() -> None:
    values = [0.5 + 0.01 * n for n in range(20)]
    found = compare(rows([v + 0.1 + 0.001 * n for n, v in enumerate(values)]), rows(values))["wt"]
    assert {f["verdict"] for f in found.values()} == {"better"}
    assert found["dice"]["difference"] == pytest.approx(0.1095) and found["hd95"]["difference"] == pytest.approx(
        -0.1095
    )
    assert (found["dice"]["wins"], found["dice"]["losses"], found["hd95"]["wins"]) == (20, 0, 20)
    turned = compare(rows(values), rows([v + 0.1 + 0.001 * n for n, v in enumerate(values)]))["wt"]
    assert {f["verdict"] for f in turned.values()} == {"worse"}


def test_noise_cannot_be_told_apart_and_equals_are_the_same() -> None:
    values = list(np.random.default_rng(1).uniform(0.5, 0.9, 20))
    shuffled = compare(rows(values), rows(values[::-1]))["wt"]["dice"]
    assert "cannot tell" in shuffled["verdict"] and shuffled["low"] < 0 < shuffled["high"]
    same = compare(rows(values), rows(values))["wt"]["dice"]
    assert (same["verdict"], same["p"], same["ties"]) == ("the same", 1, 20)


def test_three_patients_can_never_prove_a_gain() -> None:
    found = compare(rows([0.9, 0.8, 0.7]), rows([0.1, 0.2, 0.3]))["wt"]["dice"]
    assert found["low"] > 0 and "cannot tell" in found["verdict"]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p: list[float]) -> None:
    corrected = holm(p)
    assert all(p_ <= c <= 1 for p_, c in zip(p, corrected, strict=True))
    assert np.all(np.diff(np.asarray(corrected)[np.argsort(p, kind="stable")]) >= 0)
    assert min(corrected) == min(1, len(p) * min(p))


def test_wilcoxons_p_of_five_gains_is_2_to_the_power_of_minus_4() -> None:
    assert wilcoxon(np.array([0.1, 0.2, 0.3, 0.4, 0.5])) == pytest.approx(2 / 2**5)


# --- regions ----------------------------------------------------------------------------------


def read(path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def predicted(folder: Path, case: str, mask: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    store(mask, folder / f"{case}.nii.gz")
    return folder


def by_region(out: Path) -> dict[str, float]:
    return {r["region"]: float(r["dice"]) for r in read(out / "scores.csv")}


def test_labels_of_brats_2023_are_compared_region_by_region_with_older_ones(tmp_path: Path) -> None:
    write_case(tmp_path / "data", "X")  # 1, 2, 4
    as_2023 = np.where(tumour() == 4, 3, tumour())
    pred = predicted(tmp_path / "pred", "X", as_2023.astype(np.uint8))
    score(str(pred), str(tmp_path / "data"), str(tmp_path / "out"), jobs=1)
    assert by_region(tmp_path / "out") == {"wt": 1, "tc": 1, "et": 1}
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["predictions_read_as"] == "brats2023"
    swapped = np.array([0, 2, 1, 3], np.uint8)[as_2023]  # core called oedema
    score(str(predicted(pred, "X", swapped)), str(tmp_path / "data"), str(tmp_path / "out"), jobs=1)
    assert by_region(tmp_path / "out") == {"wt": 1, "tc": 0.5, "et": 1}


def test_a_prediction_in_the_truths_own_values_is_read_so(tmp_path: Path) -> None:
    write_case(tmp_path / "data", "X")
    score(str(predicted(tmp_path / "pred", "X", tumour())), str(tmp_path / "data"), str(tmp_path / "out"), jobs=1)
    assert by_region(tmp_path / "out") == {"wt": 1, "tc": 1, "et": 1}


def test_a_prediction_of_0_and_1_has_no_regions(tmp_path: Path) -> None:
    write_case(tmp_path / "data", "X")
    pred = predicted(tmp_path / "pred", "X", (tumour() > 0).astype(np.uint8))
    score(str(pred), str(tmp_path / "data"), str(tmp_path / "out"), jobs=1)
    assert by_region(tmp_path / "out") == {"wt": 1}
    with pytest.raises(AutoconfError, match="'tc' is not told apart by both sides, which have: wt"):
        score(str(pred), str(tmp_path / "data"), str(tmp_path / "out"), regions="wt,tc", jobs=1)


def test_a_region_that_is_asked_for_twice_is_scored_once(tmp_path: Path) -> None:
    write_case(tmp_path / "data", "X")
    predicted(tmp_path / "pred", "X", (tumour() > 0).astype(np.uint8))
    score(str(tmp_path / "pred"), str(tmp_path / "data"), str(tmp_path / "out"), regions="wt,wt", jobs=1)
    assert [row["region"] for row in read(tmp_path / "out" / "scores.csv")] == ["wt"]


def test_a_resection_cavity_is_no_tumour(tmp_path: Path) -> None:
    for number in (0, 1):
        case = f"BraTS-GLI-0000{number}-000"
        write_case(tmp_path / "data", case, naming="-", seed=number)
        store(tumour((1, 2, 3, 4)), tmp_path / "data" / case / f"{case}-seg.nii.gz")
        predicted(tmp_path / "pred", case, ((tumour((1, 2, 3, 4)) % 4) > 0).astype(np.uint8))
    score(str(tmp_path / "pred"), str(tmp_path / "data"), str(tmp_path / "out"), jobs=1)
    assert by_region(tmp_path / "out") == {"wt": 1}


# --- missing predictions, probabilities, processes --------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A datalist whose two testing cases are known: work/datalist.json, and a perfect prediction of the first."""
    for number in range(8):
        write_case(tmp_path / "data", f"BraTS2021_{number:05d}", seed=number)
    inspect(str(tmp_path / "data"), str(tmp_path / "work"), test=0.25)
    first = cases(tmp_path)[0]
    predicted(tmp_path / "pred", first, (tumour() > 0).astype(np.uint8))
    return tmp_path


def cases(home: Path) -> list[str]:
    return sorted(item["case"] for item in json.loads((home / "work" / "datalist.json").read_text())["testing"])


def scored(home: Path, **options: Any) -> dict[str, Any]:
    score(str(home / "pred"), str(home / "work" / "datalist.json"), str(home / "out"), **{"jobs": 1} | options)
    return json.loads((home / "out" / "summary.json").read_text())


def test_a_missing_prediction_costs_unless_it_is_allowed(run: Path) -> None:
    first, second = cases(run)
    strict, lax = scored(run), scored(run, allow_missing=True)
    assert (strict["n"], strict["missing"], strict["regions"]["wt"]["dice"]["mean"]) == (2, [second], 0.5)
    assert "without a prediction" in strict["warnings"][1]
    assert (lax["n"], lax["excluded"], lax["regions"]["wt"]["dice"]["mean"]) == (1, [second], 1)


def test_two_processes_write_what_one_does(run: Path) -> None:
    scored(run)
    alone = {path.name: path.read_bytes() for path in (run / "out").iterdir()}
    scored(run, jobs=2)
    assert {path.name: path.read_bytes() for path in (run / "out").iterdir()} == alone


def test_another_folder_is_compared_on_the_same_cases(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case in cases(run):
        predicted(run / "other", case, (tumour((0, 1)) > 0).astype(np.uint8))
    scored(run, compare=str(run / "other"))
    found = json.loads((run / "out" / "comparison.json").read_text())
    assert found["n"] == 2
    dice = found["regions"]["wt"]["dice"]
    assert (dice["wins"], dice["losses"]) == (1, 1) and "cannot tell" in dice["verdict"]
    assert "won/lost/tied" in capsys.readouterr().out


def test_probabilities_beside_the_masks_are_looked_at(run: Path) -> None:
    for case, level in zip(cases(run), (0.9, 0.6), strict=True):
        predicted(run / "pred", case, (tumour() > 0).astype(np.uint8))
        store(np.float32(level) * (tumour() > 0), run / "pred" / f"{case}_probability.nii.gz")
    scored(run)
    curve = {float(r["threshold"]): float(r["dice"]) for r in read(run / "out" / "threshold_curve.csv")}
    assert (curve[0.5], curve[0.75], curve[0.95]) == (1, 0.5, 0)
    assert [r["case"] for r in read(run / "out" / "triage.csv")] == cases(run)[::-1]  # the less sure one first
    assert json.loads((run / "out" / "calibration.json").read_text())["cases"] == 2


def test_a_probability_map_that_is_none_is_refused(run: Path) -> None:
    case = cases(run)[0]
    store(scan(0), run / "pred" / f"{case}_probability.nii.gz")
    with pytest.raises(AutoconfError, match="outside 0 to 1"):
        scored(run)
    assert not (run / "out").exists()


def test_why_a_probability_map_cannot_be_read_is_said(run: Path) -> None:
    path = run / "pred" / f"{cases(run)[0]}_probability.nii.gz"
    store(np.full_like(scan(0), np.nan, np.float32), path)
    with pytest.raises(AutoconfError, match="holds NaN"):
        scored(run)
    path.write_bytes(b"no scan")
    with pytest.raises(AutoconfError, match="truncated or not a NIfTI"):
        scored(run)


def test_a_probability_map_of_integers_or_channels_is_thresholded(run: Path) -> None:
    first, second = cases(run)
    predicted(run / "pred", second, (tumour() > 0).astype(np.uint8))
    store((tumour() > 0).astype(np.uint8), run / "pred" / f"{first}_probability.nii.gz")
    channels = np.repeat((tumour() > 0)[..., None].astype(np.float32), 2, axis=-1)
    store(channels, run / "pred" / f"{second}_probability.nii.gz")
    scored(run)
    assert {float(r["dice"]) for r in read(run / "out" / "threshold_curve.csv")} == {1.0}


def test_a_network_that_is_right_as_often_as_it_says_has_no_calibration_error() -> None:
    truth = np.zeros((20, 20, 20), bool)
    truth[10, 10, 10] = True
    near = band(truth, (2, 2, 2))
    share = truth.sum() / near.sum()
    probability = np.full(truth.shape, share, np.float32)
    found = calibrate("a", probability, truth, truth, (2, 2, 2))
    assert found.ece == pytest.approx(0, abs=1e-6)
    sure = calibrate("a", np.ones_like(probability), truth, truth, (2, 2, 2))
    assert sure.ece == pytest.approx(1 - share) and sure.entropy == pytest.approx(0, abs=1e-9)
    assert expected_error(*np.zeros((3, BINS))) is None


def test_the_band_reaches_10_mm_along_every_axis() -> None:
    mask = np.zeros((41, 41, 41), bool)
    mask[20, 20, 20] = True
    near = band(mask, (1, 2, 5))
    assert [int(near.any(axis=tuple({0, 1, 2} - {axis})).sum()) for axis in range(3)] == [21, 11, 5]


def test_bad_words_are_one_line(run: Path) -> None:
    words = ("score", run / "pred", run / "work" / "datalist.json", "--out", run / "out")
    assert_refused(autoconf(*words, "--pred-labels", "brats"), "no such reading", "brats2023")
    assert_refused(autoconf(*words, "--regions", "wt,et"), "'et' is not told apart")
    assert_refused(autoconf(*words, "--compare", run / "nothing"), "no such folder")
    assert not (run / "out").exists()


LEVELS = st.sampled_from([np.float32(level) for level in (0, 0.04, 0.05, 0.3, 0.5, 0.51, 0.95, 1)])


@given(arrays.arrays(np.float32, (3, 4, 5), elements=LEVELS), st.integers(0, 60))
def test_the_threshold_curve_is_that_of_thresholding_again_and_again(values: np.ndarray, tumour_voxels: int) -> None:
    truth = (np.arange(60) < tumour_voxels).reshape(3, 4, 5)
    found = calibrate("a", values, truth, truth, (1, 1, 1)).dice
    again = [overlap(values >= np.float32(t), truth).dice for t in THRESHOLDS]
    assert found == pytest.approx(again)
