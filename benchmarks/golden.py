"""python -m benchmarks.golden: what the shipped weights answer on a phantom, recorded, and compared with this machine.

    python -m benchmarks.golden            # write tests/golden/unetr3d.json and pseudo2d.json
    python -m benchmarks.golden --check    # write nothing; a line per difference, and exit status 1 if there is one

Recorded is the answer in float32: the masks of `run inferring --amp False`, exactly, and figures of the network's
output on the first scan. Compared is what `run inferring` writes here with its default settings, and the network's
output here in float32 and in default precision (bfloat16 where the processor has it). tests/test_golden.py does so too.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from autoconf.output import to_json
from autoconf.phantom import phantom
from autoconf.score.metrics import overlap

from .machine import ROOT
from .task import BenchmarkError, last_line, open_config

BUNDLES, RECORDED = ROOT / "bundles", ROOT / "tests" / "golden"
# Heads of 2.8 mm voxels, so that resampling is part of the answer. This one has 100 ml of tumour and needs two windows.
PHANTOMS: dict[str, dict[str, Any]] = {
    "unetr3d": {"cases": 1, "size": 64, "seed": 5},
    "pseudo2d": {"cases": 1, "size": 64, "seed": 0, "slices": True},
}
CLASS = "Glioblastoma T1C+"  # of the pictures, those of one class are enough
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
POSITIONS = 10  # voxels inside the mask whose values are kept, and as many outside

# What may differ, and why.
PHANTOM = 1e-4  # of the mean and std of an input: other sines and JPEG decoders move single voxels by one grey level
MASK = 0.99  # Dice; bfloat16 alone costs 0.0005, one wrong convolution 0.5
# Of the output's standard deviation: its mean, std and quantiles; its extremes and single voxels, where rounding does
# not average out. float32 on SSE, AVX2 and AVX-512, one thread or two: 5e-6 and 1e-6. bfloat16: 0.008 and 0.02 (0.07
# for the worst of all voxels). One wrong convolution in UNETR: 0.7.
LOGITS = {"float32": (1e-4, 1e-3), "default": (0.02, 0.08)}
Found = dict[str, Any]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.golden", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; compare with what is recorded")
    parser.add_argument("--logits", nargs=3, metavar=("BUNDLE", "SCANS", "OUT"), help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.logits:
        logits(*given.logits)
        return 0
    try:
        lines = [line for bundle in PHANTOMS for line in (check if given.check else record)(bundle)]
    except BenchmarkError as error:
        lines = [str(error)]
    print(*lines, sep="\n", end="\n" * bool(lines), file=sys.stderr)
    return 1 if lines else 0


def record(bundle: str) -> list[str]:
    """Write down the answer in float32."""
    with tempfile.TemporaryDirectory() as home:
        scans = make_phantom(bundle, Path(home))
        run_inferring(bundle, scans, Path(home) / "masks", amp=False)
        masks = {name: packed(mask) for name, mask in read_masks(Path(home) / "masks").items()}
        output = logits_apart(bundle, scans, Path(home) / "logits.npz")["float32"]
        content = {**told(bundle, scans), "masks": masks, "logits": figures(output, positions(output))}
    RECORDED.mkdir(exist_ok=True)
    path_of(bundle).write_text(to_json(content), encoding="utf-8")
    return []


def check(bundle: str) -> list[str]:
    """Lines that say how this machine's answer differs from the recorded one."""
    with tempfile.TemporaryDirectory() as home:
        scans = make_phantom(bundle, Path(home))
        run_inferring(bundle, scans, Path(home) / "masks")
        outputs = logits_apart(bundle, scans, Path(home) / "logits.npz")
        found = {**told(bundle, scans), "masks": read_masks(Path(home) / "masks"), "logits": outputs}
    return differences(bundle, found)


# The phantom, and how the bundle is asked about it


def make_phantom(bundle: str, home: Path) -> Path:
    """Draw the phantom below `home`; returns the folder to give as --dataset_dir."""
    with contextlib.redirect_stdout(None):
        phantom(str(home / "phantom"), **PHANTOMS[bundle])
    return home / "phantom" / (CLASS if bundle == "pseudo2d" else "")


def run_inferring(bundle: str, scans: Path, out: Path, amp: bool | None = None) -> None:
    """`run inferring` on a CPU, in a process of its own. amp: None leaves the config's default."""
    config = BUNDLES / bundle / "configs" / "inference.yaml"
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "inferring", "--config_file", str(config)]
    command += ["--dataset_dir", str(scans), "--output_dir", str(out), "--device", "cpu"]
    _run([*command, *(["--amp", str(amp)] if amp is not None else [])])


def logits_apart(bundle: str, scans: Path, out: Path) -> dict[str, np.ndarray]:
    """What `logits` saves, in a process of its own: the scripts of all bundles have one name."""
    words = ["-m", "benchmarks.golden", "--logits", bundle, str(scans), str(out)]
    _run([sys.executable, "-W", "ignore", *words])
    return read_logits(out)


def logits(bundle: str, scans: str, out: str) -> None:
    """Save the network's output (C, ...) on the first scan, as `float32` and as `default`, the config's precision."""
    import torch

    parser = open_config(["inference.yaml"], {"dataset_dir": scans, "device": "cpu"}, BUNDLES / bundle)
    network = parser.get_parsed_content("network").eval()
    network.load_state_dict(torch.load(parser.get_parsed_content("checkpoint"), map_location="cpu", weights_only=True))
    image, inferer = parser.get_parsed_content("dataset")[0]["image"][None], parser.get_parsed_content("inferer")
    outputs = {}
    with torch.inference_mode():
        for precision, enabled in (("default", inferer.enabled), ("float32", False)):
            inferer.enabled = enabled
            outputs[precision] = np.asarray(inferer(image, network)[0])
    np.savez(out, **outputs)


def read_logits(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as saved:
        return dict(saved)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(last_line(done.stderr))
    return done.stdout


# What is written down


def told(bundle: str, scans: Path) -> Found:
    """What was asked: the phantom's files by their voxels, and the weights by their bytes."""
    voxels = {str(path.relative_to(scans)): np.asarray(array) for path, array in _inputs(scans)}
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in voxels.values()))
    return {
        "bundle": bundle,
        "phantom": {
            "arguments": PHANTOMS[bundle],
            "sha256": digest.hexdigest(),
            "means": {name: [_short(array.mean()), _short(array.std())] for name, array in voxels.items()},
        },
        "weights": hashlib.sha256((BUNDLES / bundle / "models" / "model.pt").read_bytes()).hexdigest(),
    }


def _inputs(scans: Path) -> Iterator[tuple[Path, Any]]:
    for path in sorted(scans.rglob("*")):
        if path.suffix == ".jpg":
            yield path, Image.open(path)
        elif path.name.endswith(".nii.gz") and not path.name.endswith("-seg.nii.gz"):
            yield path, nibabel.load(path).dataobj


def read_masks(folder: Path) -> dict[str, np.ndarray]:
    """name -> boolean array of each mask below a folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".json"]
    read = {path: Image.open(path) if path.suffix == ".png" else nibabel.load(path).dataobj for path in paths}
    return {str(path.relative_to(folder)): np.asarray(mask) > 0 for path, mask in read.items()}


def packed(mask: np.ndarray) -> Found:
    """A boolean array as text, exactly: one bit a voxel in C order, zlib, base64; `unpacked` is the way back."""
    text = base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode()
    return {"shape": list(mask.shape), "voxels": int(mask.sum()), "bits": text}


def unpacked(found: Found) -> np.ndarray:
    bits = np.frombuffer(zlib.decompress(base64.b64decode(found["bits"])), np.uint8)
    return np.unpackbits(bits, count=int(np.prod(found["shape"]))).reshape(found["shape"]).astype(bool)


def positions(output: np.ndarray) -> list[list[int]]:
    """Indices into (C, ...) of voxels spread evenly over the mask, then over the rest."""
    chosen = []
    for part in (output > 0, output <= 0):
        flat = np.flatnonzero(part)
        chosen += list(flat[np.linspace(0, len(flat) - 1, POSITIONS + 2).astype(int)[1:-1]])
    return [list(map(int, index)) for index in np.transpose(np.unravel_index(chosen, output.shape))]


def figures(output: np.ndarray, places: list[list[int]]) -> Found:
    """What the output (C, ...) of a network looks like, with the values at some places."""
    per_region = [
        {name: _short(getattr(region, name)()) for name in ("mean", "std", "min", "max")}
        | {"quantiles": [_short(value) for value in np.quantile(region, QUANTILES)]}
        for region in output
    ]
    values = [_short(output[tuple(place)]) for place in places]
    return {"shape": list(output.shape), "regions": per_region, "positions": places, "values": values}


def _short(value: Any) -> float:
    return float(f"{float(value):.6g}")


def path_of(bundle: str) -> Path:
    return RECORDED / f"{bundle}.json"


# How the two answers differ


def differences(bundle: str, found: Found) -> list[str]:
    """A line for each thing that differs from what is recorded; no line if nothing does.

    found: what `told` returns, "masks" of `read_masks` and "logits" of `read_logits`, or one of both. Where the phantom
    or the weights differ the answer must, and is not compared.
    """
    recorded = json.loads(path_of(bundle).read_text(encoding="utf-8"))
    what = phantom_differs(recorded["phantom"], found["phantom"])
    if not what and recorded["weights"] != found["weights"]:
        what = f"the weights: models/model.pt has SHA-256 {found['weights'][:12]}, recorded {recorded['weights'][:12]}"
    whats = [what] if what else masks_differ(recorded["masks"], found.get("masks"))
    for precision, output in found.get("logits", {}).items() if not whats else ():
        whats += logits_differ(recorded["logits"], output, precision)
    name = path_of(bundle).relative_to(ROOT)
    return [f"{name}: {what}. If that is intended: python -m benchmarks.golden" for what in whats]


def phantom_differs(recorded: Found, found: Found) -> str:
    if recorded["sha256"] == found["sha256"]:
        return ""
    if recorded["means"].keys() != found["means"].keys():
        return f"the phantom: its files are {', '.join(found['means'])}, recorded {', '.join(recorded['means'])}"
    for name, was in recorded["means"].items():
        if not np.allclose(found["means"][name], was, rtol=PHANTOM):
            return f"the phantom: {name} has mean and std {found['means'][name]}, recorded {was}"
    return ""


def masks_differ(recorded: dict[str, Found], found: dict[str, np.ndarray] | None) -> list[str]:
    if found is None:
        return []
    if recorded.keys() != found.keys():
        return [f"the answer: masks {', '.join(found) or 'none'}, recorded {', '.join(recorded)}"]
    whats = []
    for name, mask in found.items():
        was = unpacked(recorded[name])
        dice = overlap(mask, was).dice if mask.shape == was.shape else 0.0
        if dice < MASK:
            seen, kept = ("x".join(map(str, array.shape)) for array in (mask, was))
            whats.append(
                f"the answer: {name} has Dice {dice:.4f} with the recorded mask, at least {MASK} allowed "
                f"({mask.sum()} voxels of {seen}, recorded {was.sum()} of {kept})"
            )
    return whats


def logits_differ(recorded: Found, output: np.ndarray, precision: str) -> list[str]:
    """The figure that is furthest off, if it is further than LOGITS allows."""
    if recorded["shape"] != list(output.shape):
        return [f"the answer: logits in {precision} have shape {list(output.shape)}, recorded {recorded['shape']}"]
    wholes, voxels = (share * recorded["regions"][0]["std"] for share in LOGITS[precision])
    pairs = [*_pairs(recorded, figures(output, recorded["positions"]), wholes, voxels)]
    off = [abs(now - was) / allowed for _, was, now, allowed in pairs]
    worst = int(np.argmax(np.nan_to_num(off, nan=np.inf)))
    if off[worst] <= 1:
        return []
    name, was, now, allowed = pairs[worst]
    return [f"the answer: logits in {precision}, {name} is {now:g}, recorded {was:g}; {allowed:.1g} apart is allowed"]


def _pairs(recorded: Found, found: Found, wholes: float, voxels: float) -> Iterator[tuple[str, float, float, float]]:
    """(name, recorded, found, how far it may be off) of each figure."""
    for i, (was, now) in enumerate(zip(recorded["regions"], found["regions"], strict=True)):
        for key, allowed in (("mean", wholes), ("std", wholes), ("min", voxels), ("max", voxels)):
            yield f"the {key} of region {i}", was[key], now[key], allowed
        for share, before, after in zip(QUANTILES, was["quantiles"], now["quantiles"], strict=True):
            yield f"quantile {share} of region {i}", before, after, wholes
    for place, before, after in zip(recorded["positions"], recorded["values"], found["values"], strict=True):
        yield f"voxel {place}", before, after, voxels


if __name__ == "__main__":
    sys.exit(main())
