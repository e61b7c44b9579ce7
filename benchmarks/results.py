"""Write docs/evidence/results.md from the raw results of saved runs: no number on that page is written by hand.

python -m benchmarks.results            # from docs/evidence/results/*.json
python -m benchmarks.results --check    # exit status 1 if the page is not what the files say
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RAW, PAGE = ROOT / "docs" / "evidence" / "results", ROOT / "docs" / "evidence" / "results.md"
HEAD = """# Results

Written by `python -m benchmarks.results` from the files in [results/](results/README.md); beside each table is the
command that makes its numbers again. Brackets are 95 % intervals, by bootstrap over patients. Research data: expect
less elsewhere.
"""
MISSING = "Not measured yet."
PSEUDO_TRUTH = (
    "The truth here is the pseudo-mask, which is no tumour: the table of label functions below says how far such masks "
    "(study_otsu) are from real ones."
)
Content = dict[str, Any]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.results", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; say whether the page is what the files say"
    )
    given = parser.parse_args(words)
    text = page(RAW)
    if not given.check:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{PAGE} is not what {RAW} holds. Run `python -m benchmarks.results`.", file=sys.stderr)
    return 1


def page(raw: Path) -> str:
    """The whole page, of a folder of results."""
    parts = [HEAD]
    for title, name, section in SECTIONS:
        path = raw / name
        body = MISSING
        if path.exists():
            body = section(json.loads(path.read_text(encoding="utf-8"))) + f"\n\nRaw: [{name}](results/{name})"
        parts.append(f"## {title}\n\n{body}\n")
    return "\n".join(parts)


def pseudo2d_shipped(content: Content) -> str:
    rows = [_pseudo2d_row("shipped: every fold trains", content["shipped"])]
    rows += [_pseudo2d_row(name, run["test"]) for name, run in content["runs"].items() if "test" in run]
    minutes = next(run["curve"][-1]["seconds"] / 60 for run in content["runs"].values() if run["fold"] == "all")
    curves = [
        [name, run["curve"][-1]["epoch"], number(run["curve"][-1]["loss"]), number(_last_validation(run["curve"]))]
        for name, run in content["runs"].items()
        if run["fold"] != "all"
    ]
    images, settings = content["images"], content["settings"]
    said = (
        f"{images['training']} slices trained, {images['testing']} were tested; {settings['max_epochs']} epochs of "
        f"batch {settings['batch_size']}, {settings['steps']} steps, {minutes:.0f} minutes; "
        f"{content['machine']}. Intervals are over slices: no patient is known. {content['shipped']['below 0.9']} of "
        f"the tested slices score below 0.9, {content['shipped']['below 0.6']} of them below 0.6. "
        f"{PSEUDO_TRUTH}"
    )
    head = ["run", "Dice", "IoU", "median Dice", "5th percentile"]
    chosen = "What was tried, on the fold that validates; the test set chose nothing:"
    tried = table(["run", "epochs", "training loss", "last validation Dice"], curves)
    return "\n\n".join([said, table(head, rows), chosen, tried, f"`{content['command']}`"])


def _pseudo2d_row(name: str, found: Content) -> list[Any]:
    dice, iou = found["dice"], found["iou"]
    return [name, interval(dice), interval(iou), number(dice["median"]), number(dice["p5"])]


def _last_validation(curve: list[Content]) -> float:
    return float([row["validation_dice"] for row in curve if "validation_dice" in row][-1])


def pseudo2d(content: Content) -> str:
    rows, settings = [], content["settings"]
    for run in content["runs"]:
        test = run["test"]
        low = f"{test['p5_dice']:.3f}"
        rows.append([run["epochs"], number(test["dice"]), number(test["iou"]), number(test["median_dice"]), low])
    said = (
        f"{content['images']['training']} slices trained, {content['runs'][0]['test']['n']} were tested, copies of a "
        f"slice on one side; {content['machine'].split(';')[0]}; batch {settings['batch_size']}, learning rate "
        f"{settings['learning_rate']}."
    )
    command = "`inspect SLICES`, then `run pseudo_labelling`, `run training`, `run evaluating`: README.md"
    return f"{said}\n\n{table(['epochs', 'Dice', 'IoU', 'median Dice', '5th percentile'], rows)}\n\n{command}"


def crossval_gpu(content: Content) -> str:
    rows = []
    for name in ("default (smallest_object 500)", "mirrored, smallest_object 500", "smallest_object 0"):
        scores = content[name]["wt"]
        keys = ("dice", "iou", "hd95", "lesion_dice")
        rows.append([name, content[name]["n"], *(interval(scores[key], key == "hd95") for key in keys)])
    head = ["inference", "cases", "Dice", "IoU", "HD95 mm", "lesion-wise Dice"]
    short = content["short runs (140 s for ten runs, some 480 steps each), Dice at 1 mm, approximate"]
    control = [[name, number(found["mean"])] for name, found in short.items()]
    steps = content["steps"]["all"]["steps"]
    said = f"{content['what']}. {steps} steps; {content['machine']}. {sentence(content['differs'])}."
    control_text = "Runs of some 480 steps, with `Transplant` (mix2) and without (base2): no difference that counts."
    return "\n\n".join(
        [sentence(said), table(head, rows), f"`{content['command']}`", control_text, table(["run", "Dice"], control)]
    )


def crossval_cpu(content: Content) -> str:
    scores = content["wt"]
    keys = ("dice", "iou", "hd95", "lesion_dice")
    row = [content["n"], *(interval(scores[key], key == "hd95") for key in keys)]
    head = ["cases", "Dice", "IoU", "HD95 mm", "lesion-wise Dice"]
    return f"{sentence(content['plan'])}. {content['machine']}.\n\n{table(head, [row])}\n\n`{content['command']}`"


def tuning(content: Content) -> str:
    found = content["confirmed"]
    trials = content["trials"]
    best = trials[content["best"]]
    settings = ", ".join(f"{key} {value:.3g}" for key, value in best["settings"].items())
    row = [
        *(len(trials), content["epochs_per_trial"], settings, number(found["default"]), number(found["tuned"])),
        f"{found['difference']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]",
    ]
    head = ["trials", "epochs each", "best", "planned Dice", "tuned Dice", "difference"]
    return f"{table(head, [row])}\n\n{found['verdict']} The commands are in [tuning.md](../how-to/tuning.md)."


def efficiency(content: Content) -> str:
    order = [content["reference"]] * bool(content["reference"]) + content["points"]
    rows = [[of["patients"], of["start"], len(of["seeds"]), of["scored_cases"], bounds(of, "dice")] for of in order]
    head = ["labelled patients", "start", "seeds", "cases scored", "Dice"]
    compared = [
        [of["patients"], of["start"], bounds(of, "difference", "+"), f"{of['p_holm']:.2g}"]
        for of in content["differences"]
    ]
    steps = " or ".join(map(str, sorted(set(content["steps"].values()))))
    said = f"{content['data']} {steps} steps a training. {content['machine']}."
    if content.get("missing"):
        said += f" Missing: {content['missing']}."
    heads = ["labelled patients", "start", "Dice minus scratch", "p (Holm)"]
    command = f"`{content['command']}`; read in [efficiency.md](../how-to/efficiency.md)"
    return "\n\n".join([said, table(head, rows), table(heads, compared), command])


def robustness(content: Content) -> str:
    rows = []
    for name, strengths in content["rows"].items():
        if name == "unchanged":
            rows.append([name, "", interval(strengths["dice"]), ""])
            continue
        for strength, found in strengths.items():
            rows.append([name, strength, interval(found["dice"]), bounds(found["change"], "mean", "+")])
    said = (
        f"The shipped weights on {len(content['cases'])} changed scans. They are training cases: read the change, not "
        f"the Dice. {content['machine']['processor']}."
    )
    options = f"--data BRATS --cases {len(content['cases'])} --out docs/evidence/results/robustness.json"
    command = f"`python -m benchmarks.robustness {options}`"
    head = ["change", "strength", "Dice", "Dice minus unchanged"]
    return "\n\n".join([said, table(head, rows), f"{command}; read in [robustness.md](robustness.md)"])


def labelers(content: Content) -> str:
    parts = []
    for key, what in (("volumes", "volumes"), ("pictures", "pictures")):
        rows = [[name, interval(row["dice"])] for name, row in content[key]["rows"].items()]
        parts.append(f"{content[key]['n']} {what}:\n\n" + table(["label function or fusion", "Dice"], rows))
    command = "`python -m benchmarks.labelers --data DATA --out docs/evidence/results/labelers.json`"
    return "\n\n".join([*parts, f"{command}; read in [labelers.md](../how-to/labelers.md)"])


def memory(content: Content) -> str:
    rows = [
        [row["network"], "x".join(map(str, row["patch"])), f"{row['predicted'] / 1e9:.2f}", f"{row['real'] / 1e9:.2f}"]
        for row in content["rows"]
    ]
    head = ["network", "patch", "planned GB", "measured GB"]
    return f"{content['machine']}, one crop, bfloat16.\n\n{table(head, rows)}\n\n`{content['command']}`"


SECTIONS: list[tuple[str, str, Callable[[Content], str]]] = [
    ("unetr3d: the shipped recipe, on a GPU", "crossval_22_cases_gpu.json", crossval_gpu),
    ("unetr3d: a short training, on a CPU", "crossval_22_cases_cpu.json", crossval_cpu),
    ("unetr3d: the study's search", "tune_study_22_cases_cpu.json", tuning),
    ("unetr3d: a search over five keys", "tune_tpe_22_cases_cpu.json", tuning),
    ("unetr3d: Dice against the number of labels", "efficiency_22_cases.json", efficiency),
    ("unetr3d: scans of other kinds", "robustness.json", robustness),
    ("pseudo2d: the shipped weights, on a GPU", "pseudo2d_mri44_gpu.json", pseudo2d_shipped),
    ("pseudo2d: on a CPU", "pseudo2d_mri44_cpu.json", pseudo2d),
    ("Labels without a label", "labelers.json", labelers),
    ("Memory of a training step, on a GPU", "memory_cuda.json", memory),
]


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def number(value: float) -> str:
    return f"{value:.3f}"


def interval(score: Content, millimetres: bool = False) -> str:
    """A mean with its interval: 3 digits, or of millimetres one."""
    digits = 1 if millimetres else 3
    return f"{score['mean']:.{digits}f} [{score['low']:.{digits}f}, {score['high']:.{digits}f}]"


def bounds(found: Content, key: str, sign: str = "") -> str:
    """A number with the interval beside it."""
    return f"{found[key]:{sign}.3f} [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
