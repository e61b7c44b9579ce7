"""`python -m monai.bundle run training|evaluating ...` as crossval calls it: epochs that take a moment, perfect masks.

FOLDS_LOG    a file that gets a line for each thing done: `begin 2`, `epoch 2 1`, `end 2`, `masks 2`, `TWO 2`
FOLDS_PAUSE  seconds that an epoch takes
FOLDS_FAIL   a fold whose training ends with an error; FOLDS_LOSE: one whose evaluation writes no masks
"""

import csv
import fcntl
import json
import os
import shutil
import sys
import time
from pathlib import Path

EPOCHS = 3


def note(*words: object) -> None:
    with open(os.environ["FOLDS_LOG"], "a", encoding="utf-8") as file:
        file.write(" ".join(map(str, words)) + "\n")


def train(out: Path, fold: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    lock = open(out / "lock", "w")  # noqa: SIM115 - held until this process ends, however it ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        note("TWO", fold)
    note("begin", fold)
    if os.environ.get("FOLDS_FAIL") == fold:
        sys.exit("unetr3d: this fold cannot be trained.")
    table = out / "progress.csv"
    rows = list(csv.reader(table.open()))[1:] if table.exists() else []
    for epoch in range(len(rows) + 1, EPOCHS + 1):
        time.sleep(float(os.environ.get("FOLDS_PAUSE", "0")))
        rows.append([str(epoch), str(10.0 * epoch), "0.001", "0.5", "0.8"])
        with open(out / "partial", "w", newline="") as file:
            csv.writer(file).writerows([["epoch", "seconds", "learning_rate", "loss", "validation_dice"], *rows])
        os.replace(out / "partial", table)
        note("epoch", fold, epoch)
    (out / "model_final.pt").write_text(f"weights of fold {fold}")
    note("end", fold)


def evaluate(values: dict[str, str]) -> None:
    """The true masks as predictions."""
    datalist, fold = json.loads(Path(values["datalist"]).read_text()), values["fold"]
    assert Path(values["checkpoint"]).read_text() == f"weights of fold {fold}"
    for item in datalist["training"] if os.environ.get("FOLDS_LOSE") != fold else []:
        if str(item["fold"]) == fold:
            copy(item, datalist, Path(values["output_dir"]))
    note("masks", fold)


def copy(item: dict, datalist: dict, out: Path) -> None:
    if datalist["kind"] == "volumes":
        source, target = Path(datalist["dataset_dir"], item["label"]), out / f"{item['case']}.nii.gz"
    else:
        source = Path(os.environ["FOLDS_MASKS"], f"{item['case']}.png")
        target = out / "masks" / f"{item['case']}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


if __name__ == "__main__":
    given = dict(zip([word[2:] for word in sys.argv[3::2]], sys.argv[4::2], strict=True))
    note("read", given["datalist"])
    if sys.argv[2] == "training":
        train(Path(given["output_dir"]), given["fold"])
    else:
        assert given["section"] == "validation"
        evaluate(given)
