"""`autoconf score`: the metrics, who is scored, what is refused, and what is written."""

import contextlib
import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from helpers_volumes import (
    SPACING,
    TUMOUR_VOXELS,
    assert_refused,
    autoconf,
    odd_copies,
    plain_affine,
    scan,
    store,
    tilted_affine,
    tumour,
    write_case,
    write_cases,
)
from PIL import Image

from autoconf.errors import AutoconfError
from autoconf.inspect import inspect
from autoconf.score import score
from autoconf.score.overlay import read_shown
from autoconf.score.pairs import find_pairs

CASES = [f"BraTS2021_{number:05d}" for number in range(4)]


# --- volumes ----------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_cases(tmp_path / "data")


def predict(folder: Path, case: str, mask: np.ndarray | None = None, affine: np.ndarray | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    store((tumour() > 0).astype(np.uint8) if mask is None else mask, folder / f"{case}.nii.gz", affine)
    return folder


def half() -> np.ndarray:
    """The true tumour without its lower slice: 6 of 12 voxels, Dice 2/3."""
    mask = (tumour() > 0).astype(np.uint8)
    mask[:, :, 2] = 0
    return mask


def run(pred: Path, truth: Path, out: Path, **options: Any) -> tuple[dict, dict[str, dict[str, str]]]:
    """summary.json, and the rows of scores.csv for the whole tumour, by case."""
    score(str(pred), str(truth), str(out), jobs=1, **options)
    with open(out / "scores.csv") as file:
        rows = {row["case"]: row for row in csv.DictReader(file) if row["region"] == "wt"}
    return json.loads((out / "summary.json").read_text()), rows


def mean_dice(summary: dict, region: str = "wt") -> float:
    return summary["regions"][region]["dice"]["mean"]


def test_a_folder_of_cases_scores_what_was_predicted(data: Path, tmp_path: Path) -> None:
    pred = predict(predict(tmp_path / "pred", CASES[0]), CASES[2], half())
    summary, rows = run(pred, data, tmp_path / "out")
    assert list(rows) == [CASES[0], CASES[2]]
    assert float(rows[CASES[0]]["dice"]) == 1
    assert float(rows[CASES[2]]["dice"]) == pytest.approx(2 / 3, abs=1e-6)
    assert float(rows[CASES[2]]["iou"]) == 0.5
    assert float(rows[CASES[2]]["pred_ml"]) == pytest.approx(TUMOUR_VOXELS / 2 * 0.003)
    assert float(rows[CASES[2]]["volume_error_ml"]) == pytest.approx(-TUMOUR_VOXELS / 2 * 0.003)
    assert (summary["n"], summary["patients"], summary["missing"]) == (2, 2, [])
    assert summary["worst"] == {"wt": [CASES[2], CASES[0]]}
    assert mean_dice(summary) == pytest.approx(5 / 6, abs=1e-6)
    assert summary["references"]["wt"]["all_background"]["dice"]["max"] == 0
    assert summary["regions"]["wt"]["iou"]["min"] == 0.5
    assert "few patients (2)" in summary["warnings"][0]
    assert (tmp_path / "out" / "overlay.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_not_scored_is_said(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict(tmp_path / "pred", CASES[0] + "_probability")  # beside its mask, as inference writes it on request
    predict(tmp_path / "pred", CASES[0] + "_soft")  # as pseudo_labelling writes them
    predict(tmp_path / "pred", CASES[0] + "_ignore")
    run(predict(predict(tmp_path / "pred", CASES[0]), "stranger"), data, tmp_path / "out")
    said = capsys.readouterr().out
    assert f"truth without prediction: 3 ({CASES[1]}" in said
    assert "prediction without truth: 1 (stranger)" in said


def test_a_missing_prediction_of_a_datalist_counts_as_empty(data: Path, tmp_path: Path) -> None:
    write_case(data, "BraTS2021_00004")
    inspect(str(data), str(tmp_path / "work"))
    datalist = json.loads((tmp_path / "work" / "datalist.json").read_text())
    training = [item["case"] for item in datalist["training"] if item["fold"] != 0]
    assert len(training) == 3
    pred = predict(tmp_path / "pred", training[0])
    summary, rows = run(pred, tmp_path / "work" / "datalist.json", tmp_path / "out", split="training")
    assert sorted(rows) == sorted(training)
    assert summary["missing"] == training[1:] and summary["split"] == "training"
    assert mean_dice(summary) == pytest.approx(1 / 3, abs=1e-6)


def test_each_split_of_a_datalist_has_its_own_cases(data: Path, tmp_path: Path) -> None:
    inspect(str(data), str(tmp_path / "work"))
    for case in CASES:
        predict(tmp_path / "pred", case)
    scored = []
    for split in ("testing", "validation", "training"):
        out = tmp_path / split
        scored += run(tmp_path / "pred", tmp_path / "work" / "datalist.json", out, split=split)[1]
    assert sorted(scored) == CASES
    with pytest.raises(AutoconfError, match="testing, validation, training"):
        score(str(tmp_path / "pred"), str(tmp_path / "work" / "datalist.json"), str(tmp_path / "out"), split="test")


def test_empty_masks_follow_the_written_policy(tmp_path: Path) -> None:
    empty, full = np.zeros_like(tumour()), tumour()
    for case, pred, truth in (("both", empty, empty), ("missed", empty, full), ("false", full, empty)):
        predict(tmp_path / "pred", case, pred)
        predict(tmp_path / "truth", case, truth)
    summary, rows = run(tmp_path / "pred", tmp_path / "truth", tmp_path / "out")
    assert {case: row["dice"] for case, row in rows.items()} == {"both": "1.0", "missed": "0.0", "false": "0.0"}
    assert summary["both_empty"] == {"wt": 1, "tc": 1, "et": 1} and mean_dice(summary) == pytest.approx(1 / 3, abs=1e-6)
    assert not (tmp_path / "out" / "overlay.png").exists()  # no image is known


def test_flat_folders_with_seg_names_are_a_truth_too(data: Path, tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    for case in CASES:
        shutil.copy(data / case / f"{case}_seg.nii.gz", tmp_path / "truth")
    summary, _ = run(predict(tmp_path / "pred", CASES[1]), tmp_path / "truth", tmp_path / "out")
    assert mean_dice(summary) == 1


def test_a_tilted_case_is_scored_and_drawn(tmp_path: Path) -> None:
    write_case(tmp_path / "data", "X", affine=tilted_affine())
    summary, rows = run(predict(tmp_path / "pred", "X", affine=tilted_affine()), tmp_path / "data", tmp_path / "out")
    assert mean_dice(summary) == 1
    assert float(rows["X"]["true_ml"]) == pytest.approx(TUMOUR_VOXELS * 0.003, abs=1e-4)
    assert (tmp_path / "out" / "overlay.png").exists()


@pytest.mark.parametrize("affine", [plain_affine(), tilted_affine()], ids=["plain", "tilted"])
def test_a_scan_of_long_integers_is_drawn_too(affine: np.ndarray, tmp_path: Path) -> None:
    home = write_case(tmp_path / "data", "X", affine=affine)
    flair = nibabel.load(home / "X_flair.nii.gz")
    long = np.asanyarray(flair.dataobj).astype(np.int64)
    nibabel.save(nibabel.Nifti1Image(long, affine, dtype=np.int64), home / "X_flair.nii.gz")
    run(predict(tmp_path / "pred", "X", affine=affine), tmp_path / "data", tmp_path / "out")
    assert (tmp_path / "out" / "overlay.png").exists()
    (pair,) = find_pairs(str(tmp_path / "pred"), str(tmp_path / "data"), "").scored
    image, truth, found, spacing = read_shown(replace(pair, read_as={"wt": (None, None)}), "wt")
    assert np.array_equal(image, scan(3)) and np.array_equal(truth, tumour() > 0) and np.array_equal(found, truth)
    assert spacing == pytest.approx(SPACING)


def test_bad_input_at_the_command_line_is_one_line(data: Path, tmp_path: Path) -> None:
    pred, out = predict(tmp_path / "pred", "stranger"), tmp_path / "out"
    assert_refused(autoconf("score", pred, data, "--out", out), "no prediction matches", "e.g. stranger", CASES[0])
    predict(pred, CASES[0])
    assert_refused(autoconf("score", pred, data, "--out", data / "x"), "inside the data folder")
    assert not out.exists()


def test_a_process_for_each_core_that_may_be_used(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Seen(Exception):
        pass

    def stop(pairs: object, other: object, options: Any) -> None:
        assert options.jobs == 2
        raise Seen

    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 5}, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("autoconf.score._score_both", stop)
    with pytest.raises(Seen):
        score(str(predict(tmp_path / "pred", CASES[0])), str(data), str(tmp_path / "out"))


# --- images -----------------------------------------------------------------------------------


def picture(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def square(top: int) -> np.ndarray:
    mask = np.zeros((12, 9))
    mask[top : top + 4, 2:6] = 255
    return mask


def test_mirrored_png_folders_are_scored_in_pixels(tmp_path: Path) -> None:
    for name, top in (("Glioma T1C+/a.png", 1), ("_NORMAL T2/a.png", 3)):
        picture(tmp_path / "pred" / name, square(top))
        picture(tmp_path / "truth" / name, square(1))
    summary, rows = run(tmp_path / "pred", tmp_path / "truth", tmp_path / "out")
    assert summary["kind"] == "images"
    assert {case: float(row["dice"]) for case, row in rows.items()} == {"Glioma T1C+/a.png": 1, "_NORMAL T2/a.png": 0.5}
    assert rows["_NORMAL T2/a.png"]["true_pixels"] == "16" and "true_ml" not in rows["_NORMAL T2/a.png"]


def test_an_area_is_counted_in_pixels_more_or_less_than_the_truths(tmp_path: Path) -> None:
    for name, rows_more in (("a.png", 2), ("b.png", -1)):
        mask = square(1)
        mask[1 : 5 + rows_more, 2:6] = 255
        mask[5 + rows_more :] = 0
        picture(tmp_path / "pred" / name, mask)
        picture(tmp_path / "truth" / name, square(1))
    _, rows = run(tmp_path / "pred", tmp_path / "truth", tmp_path / "out")
    found = {case: [row[f"{name}_pixels"] for name in ("area_error", "pred", "true")] for case, row in rows.items()}
    assert found == {"a.png": ["8", "24", "16"], "b.png": ["-4", "12", "16"]}


def test_an_image_that_is_no_mask_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "truth" / "a.png", square(1))
    picture(tmp_path / "pred" / "a.png", np.arange(108).reshape(12, 9))
    with pytest.raises(AutoconfError, match=r"a\.png: holds 108 grey values.*JPEG"):
        score(str(tmp_path / "pred"), str(tmp_path / "truth"), str(tmp_path / "out"))
    picture(tmp_path / "pred" / "a.png", square(1)[1:])
    with pytest.raises(AutoconfError, match=r"a\.png: is 11x9 pixels but .* is 12x9"):
        score(str(tmp_path / "pred"), str(tmp_path / "truth"), str(tmp_path / "out"))


def test_a_case_without_flair_is_scored_and_not_drawn(tmp_path: Path) -> None:
    write_cases(tmp_path / "data")
    for path in (tmp_path / "data").glob("*/*_flair.nii.gz"):
        path.unlink()
    inspect(str(tmp_path / "data"), str(tmp_path / "work"), missing="zero")
    path = tmp_path / "work" / "datalist.json"
    for item in json.loads(path.read_text())["testing"]:
        predict(tmp_path / "pred", item["case"])
    assert mean_dice(run(tmp_path / "pred", path, tmp_path / "out")[0]) == 1
    assert not (tmp_path / "out" / "overlay.png").exists()


def test_whatever_stands_in_a_datalist_it_is_understood_or_refused(tmp_path: Path) -> None:
    predict(tmp_path / "pred", "a")
    items = [{"case": "a", "image": ["a1", "a2", "a3", "a4"], "label": "a5"}]
    content = {"kind": "volumes", "dataset_dir": ".", "training": [items[0] | {"fold": 0}], "testing": items}
    for odd in odd_copies(content):
        (tmp_path / "list.json").write_text(json.dumps(odd))
        for split in ("testing", "validation"):
            with contextlib.suppress(AutoconfError):
                find_pairs(str(tmp_path / "pred"), str(tmp_path / "list.json"), split)


def test_moved_data_are_found_where_the_user_says(tmp_path: Path) -> None:
    write_cases(tmp_path / "data")
    inspect(str(tmp_path / "data"), str(tmp_path / "work"))
    path = tmp_path / "work" / "datalist.json"
    (tmp_path / "pred").mkdir()
    for item in json.loads(path.read_text())["testing"]:
        store(tumour((1,)), tmp_path / "pred" / f"{item['case']}.nii.gz")
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(AutoconfError, match="data"):
        score(str(tmp_path / "pred"), str(path), str(tmp_path / "out"))
    score(str(tmp_path / "pred"), str(path), str(tmp_path / "out"), dataset_dir=str(tmp_path / "elsewhere"))
    assert mean_dice(json.loads((tmp_path / "out" / "summary.json").read_text())) == 1
