"""`python -m monai.bundle run training|evaluating ...` as far as a search sees it: the same words, files and endings.

The Dice of an epoch follows from the settings: highest at a learning rate of 1e-3 and a Dice weight of 0.7. A run keeps
its epoch in resume.pt and goes on from there. Each start adds a line to $STAND_IN_STARTS. Settings that make it fail:
dropout 0.5 fills the memory, dropout 0.6 is refused, dropout 0.7 is killed by a signal each time.
$STAND_IN_SECONDS: how long an epoch takes.
"""

import csv
import json
import math
import os
import signal
import sys
import time
from pathlib import Path

import yaml


def main() -> None:
    run_id, values, configured = sys.argv[2], {}, {}
    words = sys.argv[3:]
    for key, value in zip(words[::2], words[1::2], strict=True):
        values[key.removeprefix("--")] = value
    files = values.pop("config_file")
    for file in yaml.safe_load(files) if files.startswith("[") else [files]:
        configured |= yaml.safe_load(Path(file).read_text()) or {}
    values = configured | values
    datalist = json.loads(Path(values["datalist"]).read_text())
    if datalist.get("testing"):
        sys.exit("stand-in: the test list was shown to a search")
    with open(os.environ["STAND_IN_STARTS"], "a") as file:
        file.write(json.dumps([run_id, values["output_dir"], str(values["fold"]), os.getpid()]) + "\n")
    {"training": training, "evaluating": evaluating}[run_id](values, datalist)


def dice_at(values: dict, share: float = 1.0) -> float:
    rate, weight = float(values["learning_rate"]), float(values["dice_weight"])
    top = 0.9 - 0.1 * math.log10(rate / 1e-3) ** 2 - 0.3 * (weight - 0.7) ** 2
    return top * (1 - 0.5 * math.exp(-3 * share))


def training(values: dict, datalist: dict) -> None:
    out = Path(values["output_dir"])
    out.mkdir(parents=True, exist_ok=True)
    fail(float(values["dropout"]))
    rows, epochs = [], int(values["max_epochs"])
    if (out / "resume.pt").exists():
        rows = json.loads((out / "resume.pt").read_text())
    for epoch in range(len(rows) + 1, epochs + 1):
        time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0")))
        dice = dice_at(values, epoch / epochs) if epoch % int(values["val_interval"]) == 0 else ""
        rows.append([epoch, epoch * 1.5, values["learning_rate"], 1 / epoch, dice])
        partial = out / "progress.csv.partial"
        with open(partial, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", "seconds", "learning_rate", "loss", "validation_dice"])
            writer.writerows(rows)
        partial.replace(out / "progress.csv")
        partial = out / "resume.pt.partial"
        partial.write_text(json.dumps(rows))
        partial.replace(out / "resume.pt")
    for name in ("model.pt", "model_final.pt"):
        (out / name).write_text(json.dumps([float(values["learning_rate"]), float(values["dice_weight"])]))


def fail(dropout: float) -> None:
    if dropout == 0.5:
        sys.exit(
            "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte"
        )
    if dropout == 0.6:
        sys.exit("unetr3d: the loss is nan in epoch 1. Lower --learning_rate, or look for odd values in the scans.")
    if dropout == 0.7:
        os.kill(os.getpid(), signal.SIGKILL)


def evaluating(values: dict, datalist: dict) -> None:
    out = Path(values["output_dir"])
    out.mkdir(parents=True, exist_ok=True)
    rate, weight = json.loads(Path(values["checkpoint"]).read_text())
    assert values["section"] == "validation"
    cases = [item["case"] for item in datalist["training"] if item["fold"] == int(values["fold"])]
    with open(out / "dice_raw.csv", "w", newline="") as file:
        writer = csv.writer(file, delimiter=",")
        writer.writerow(["filename", "class0", "mean"])
        for place, case in enumerate(cases):
            dice = dice_at({"learning_rate": rate, "dice_weight": weight}) - 0.01 * (place % 3)
            writer.writerow([case, dice, dice])


if __name__ == "__main__":
    main()
