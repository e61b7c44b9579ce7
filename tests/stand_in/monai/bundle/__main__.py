"""`python -m monai.bundle run training ...` as far as autoconf sees it: the same words, files and endings.

Also `evaluating`, `pseudo_labelling` and `inferring`.

The Dice of an epoch follows from the settings: highest at a learning rate of 1e-3 and a Dice weight of 0.7. A run keeps
its epochs in resume.pt and with `--resume True` goes on from there. Masks are the true ones. Settings that make a run
fail: dropout 0.5 fills the memory, dropout 0.6 is refused, dropout 0.7 is killed by a signal each time. A training that
begins with weights of another one is better by 0.2 / the number of its training cases.

STAND_IN_LOG      a file that gets a line for each thing done: `run training 2 PID FOLDER`, `begin 2`, `epoch 2 1`,
                  `end 2`, `masks 2`, and `TWO 2` if two trainings are in one folder at once; 2 is the fold
STAND_IN_SECONDS  how long an epoch takes
STAND_IN_FAIL     `PART LINE`: a run with PART in its output folder's path ends with that line
STAND_IN_MASKS    after how many masks `inferring` ends with an error
STAND_IN_LOSE     a fold whose evaluation writes no masks
"""

import csv
import fcntl
import json
import math
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import yaml


def main() -> None:
    run_id, words = sys.argv[2], sys.argv[3:]
    given = {key.removeprefix("--"): value for key, value in zip(words[::2], words[1::2], strict=True)}
    files, values = given.pop("config_file"), {}
    files = yaml.safe_load(files) if files.startswith("[") else [files]
    for file in files:
        values |= yaml.safe_load(Path(file).read_text()) or {}
    values |= given
    datalist = json.loads(Path(values["datalist"]).read_text())
    if datalist.get("testing") and run_id != "inferring":
        sys.exit("stand-in: the test list was shown")
    out = Path(values["output_dir"])
    out.mkdir(parents=True, exist_ok=True)
    note("run", run_id, values.get("fold", "-"), os.getpid(), out)
    part, _, line = os.environ.get("STAND_IN_FAIL", "").partition(" ")
    if part and part in str(out):
        sys.exit(line)
    if run_id == "inferring":
        inferring({"configs": files, "values": given | {"overlap": values["overlap"]}}, out, datalist)
        return
    {"training": training, "evaluating": evaluating, "pseudo_labelling": marking}[run_id](values, out, datalist)


def note(*words: object) -> None:
    with open(os.environ["STAND_IN_LOG"], "a", encoding="utf-8") as file:
        file.write(" ".join(map(str, words)) + "\n")


def dice_at(rate: float, weight: float, share: float = 1.0) -> float:
    top = 0.9 - 0.1 * math.log10(rate / 1e-3) ** 2 - 0.3 * (weight - 0.7) ** 2
    return top * (1 - 0.5 * math.exp(-3 * share))


def training(values: dict, out: Path, datalist: dict) -> None:
    fold, epochs = values["fold"], int(values["max_epochs"])
    lock = open(out / "lock", "w")  # noqa: SIM115 - held until this process ends, however it ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        note("TWO", fold)
    note("begin", fold)
    fail(float(values["dropout"]))
    settings = [float(values["learning_rate"]), float(values.get("dice_weight", 0.5))]
    gain = 0.0
    if "pretrained" in values:
        assert Path(values["pretrained"]).name == "model_final.pt" and Path(values["pretrained"]).exists()
        gain = 0.2 / sum(str(item["fold"]) != str(fold) for item in datalist["training"])
    goes_on = values.get("resume") == "True" and (out / "resume.pt").exists()
    rows = json.loads((out / "resume.pt").read_text()) if goes_on else []
    for epoch in range(len(rows) + 1, epochs + 1):
        time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0")))
        dice = dice_at(*settings, epoch / epochs) if epoch % int(values["val_interval"]) == 0 else ""
        rows.append([epoch, 10.0 * epoch, settings[0], 1 / epoch, dice])
        partial = out / "progress.csv.partial"
        with open(partial, "w", newline="") as file:
            csv.writer(file).writerows([["epoch", "seconds", "learning_rate", "loss", "validation_dice"], *rows])
        partial.replace(out / "progress.csv")
        partial = out / "resume.pt.partial"
        partial.write_text(json.dumps(rows))
        partial.replace(out / "resume.pt")
        note("epoch", fold, epoch)
    for name in ("model.pt", "model_final.pt"):
        (out / name).write_text(json.dumps([str(fold), *settings, gain]))
    note("end", fold)


def fail(dropout: float) -> None:
    if dropout == 0.5:
        sys.exit(
            "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte"
        )
    if dropout == 0.6:
        sys.exit("unetr3d: the loss is nan in epoch 1. Lower --learning_rate, or look for odd values in the scans.")
    if dropout == 0.7:
        os.kill(os.getpid(), signal.SIGKILL)


def evaluating(values: dict, out: Path, datalist: dict) -> None:
    """The true masks as predictions, and a table of scores that follow from the settings of the training."""
    fold, rate, weight, gain = json.loads(Path(values["checkpoint"]).read_text())
    assert values["section"] == "validation" and str(values["fold"]) == fold
    items = [item for item in datalist["training"] if str(item["fold"]) == fold]
    with open(out / "dice_raw.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "class0", "mean"])
        for place, item in enumerate(items):
            dice = dice_at(rate, weight) + gain - 0.01 * (place % 3)
            writer.writerow([item["case"], dice, dice])
    for item in items if os.environ.get("STAND_IN_LOSE") != fold else []:
        if datalist["kind"] == "volumes":
            source, target = Path(datalist["dataset_dir"], item["label"]), out / f"{item['case']}.nii.gz"
        else:
            source, target = Path(values["mask_dir"], f"{item['case']}.png"), out / "masks" / f"{item['case']}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        if values.get("save_probability") == "True":
            save_probability(target)
    note("masks", fold)


def marking(_: dict, out: Path, datalist: dict) -> None:
    """Pseudo-masks: what is bright in the last contrast."""
    import nibabel
    import numpy as np

    for item in datalist["unlabelled"]:
        if "label" in item:
            sys.exit("stand-in: a label was shown")
        image = nibabel.load(Path(datalist["dataset_dir"], item["image"][-1]))
        values = np.asarray(image.dataobj)
        mask = (values > 0.7 * values.max()).astype(np.uint8)
        item["label"] = str(out / f"{item['case']}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(mask, image.affine), item["label"])
    (out / "datalist.json").write_text(json.dumps(datalist))
    (out / "pseudo_labels.csv").write_text("done")
    note("marked", len(datalist["unlabelled"]))


def inferring(run: dict, out: Path, datalist: dict) -> None:
    """A file and an entry of provenance.json for each scan; ends early after as many as STAND_IN_MASKS says."""
    told = {"runs": [], "masks": {}}
    if (out / "provenance.json").exists():
        told = json.loads((out / "provenance.json").read_text())
    run = {"configs": run["configs"], "values": run["values"], "cases": []}
    for key in ("datalist", "output_dir"):
        del run["values"][key]
    told["runs"].append(run)
    for item in datalist["testing"]:
        if len(run["cases"]) == int(os.environ.get("STAND_IN_MASKS", -1)):
            sys.exit("stand-in: stopped")
        (out / f"{item['case']}.nii.gz").write_text("a mask")
        run["cases"].append(item["case"])
        told["masks"][item["case"]] = {"run": len(told["runs"]) - 1}
        (out / "provenance.json").write_text(json.dumps(told))
        note("mask", item["case"])


def save_probability(mask: Path) -> None:
    """0.8 where there is tumour, 0.1 elsewhere."""
    import nibabel
    import numpy as np

    image = nibabel.load(mask)
    values = np.where(np.asarray(image.dataobj) > 0, 0.8, 0.1).astype(np.float32)
    path = str(mask).replace(".nii.gz", "_probability.nii.gz")
    nibabel.save(nibabel.Nifti1Image(values, image.affine), path)


if __name__ == "__main__":
    main()
