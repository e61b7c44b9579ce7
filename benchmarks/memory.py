"""Predicted against real memory of a training step, for each network of unetr3d at three patches.

python benchmarks/memory.py                    # CPU: writes docs/evidence/results/memory_cpu.json, 2 minutes
python benchmarks/memory.py --device cuda      # GPU: writes docs/evidence/results/memory_cuda.json, prints CUDA of
                                               # autoconf/plan/memory.py
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from pathlib import Path

import monai
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from autoconf.bundle.settings import Bundle, read_bundle  # noqa: E402
from autoconf.output import by, table, to_json  # noqa: E402
from autoconf.plan.memory import build_network, count_step, kept_bytes  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ("unetr", "segresnet", "dynunet", "swin_unetr", "mednext")
# Sides that differ, and multiples of 32, so that every network takes them; on a CPU small enough for a few GB.
PATCHES = {
    "cpu": [(64, 64, 64), (64, 96, 64), (96, 96, 64)],
    "cuda": [(64, 96, 64), (96, 128, 96), (128, 128, 128)],
}
TOLERANCE = {"cpu": 0.02, "cuda": 0.10}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    device = parser.parse_args().device
    rows = []
    for network in NETWORKS:
        bundle = read_bundle(str(ROOT / "bundles" / "unetr3d"), network)
        for patch in PATCHES[device]:
            rows.append(compare(bundle, network, patch, device))
            print(f"{network} {by(patch)}: {rows[-1]['off']:+.2%}", flush=True)
    write(device, rows)
    columns = ["network", "patch", "predicted", "real", "off"]
    print(table([[r[c] if c != "patch" else by(r[c]) for c in columns] for r in rows], columns))
    if device == "cuda":
        print_correction(rows)
    worst = max(abs(row["off"]) for row in rows)
    print(f"worst {worst:.2%}; allowed {TOLERANCE[device]:.0%}")
    return int(worst > TOLERANCE[device])


def compare(bundle: Bundle, network: str, patch: tuple[int, int, int], device: str) -> dict:
    """One row: bytes as predicted and as they are, for one crop."""
    step = count_step(bundle.configs, bundle.channels, patch)
    row = {"network": network, "patch": list(patch), "fixed": step.fixed, "per_sample": step.per_sample}
    if device == "cpu":
        predicted: float = step.per_sample
        real = kept_bytes(build_network(bundle.configs, patch, "cpu"), (1, bundle.channels, *patch), "cpu")
    else:
        predicted, real = step.total(1, "cuda"), allocated(bundle, patch)
    return row | {"predicted": round(predicted), "real": real, "off": round(predicted / real - 1, 6)}


def allocated(bundle: Bundle, patch: tuple[int, int, int]) -> int:
    """Most bytes that PyTorch held on the GPU during the second training step, in which AdamW's moments are there."""
    network = build_network(bundle.configs, patch, "cuda")
    optimiser = torch.optim.AdamW(network.parameters())
    image = torch.randn(1, bundle.channels, *patch, device="cuda")
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        optimiser.zero_grad(set_to_none=False)
        with torch.autocast("cuda", torch.bfloat16):
            output = network(image)
        output.float().square().mean().backward()
        optimiser.step()
    peak = torch.cuda.max_memory_allocated()
    del network, optimiser, image, output
    torch.cuda.empty_cache()
    return peak


def print_correction(rows: list[dict]) -> None:
    """The line through each network's peaks: so much of the counted activations, and so much whatever the patch."""
    gpu = torch.cuda.get_device_name()
    for network in NETWORKS:
        own = [row for row in rows if row["network"] == network]
        real = np.array([row["real"] for row in own], float)
        counted = np.array([[row["per_sample"], 1.0] for row in own]) / real[:, None]  # each patch counts the same
        rest = np.array([row["real"] - row["fixed"] for row in own]) / real
        (activations, workspace), *_ = np.linalg.lstsq(counted, rest, rcond=None)
        print(f'"{network}": Correction({activations:.3f}, {workspace:.0f}, "bfloat16, measured on {gpu}"),')


def write(device: str, rows: list[dict]) -> None:
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {platform.machine()}, {os.cpu_count()} cores"
    what = {
        "cpu": "bytes kept for the backward pass, float32, one crop; predicted without values, real with them",
        "cuda": "torch.cuda.max_memory_allocated of a bfloat16 training step of one crop, against the corrected count",
    }
    content = {
        "date": datetime.date.today().isoformat(),
        "command": f"python benchmarks/memory.py --device {device}",
        "machine": name,
        "versions": {"torch": torch.__version__, "monai": monai.__version__},
        "what": what[device],
        "worst": max(abs(row["off"]) for row in rows),
        "rows": rows,
    }
    path = ROOT / "docs" / "evidence" / "results" / f"memory_{device}.json"
    path.write_text(to_json(content), encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8")) == content
    print(f"wrote  {path.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
