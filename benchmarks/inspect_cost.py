"""What `autoconf inspect` costs on your own volumes: python benchmarks/inspect_cost.py DATA [--out results.json]

Four measurements, each in a fresh process, so that peak memory is its own; one case at a time; CPU and wall seconds
and peak memory include the start of Python and numpy in `total`, and leave it out in `work`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WHAT = {
    "decompress": "merely decompress with isal, into memory that is used again",
    "igzip": "merely decompress with isal's igzip.decompress, a file at a time",
    "gzip": "merely decompress with Python's gzip.decompress",
    "first": "measure, nothing cached, cache written",
    "second": "measure again, all cached",
}
REPEATS = 3  # the fastest is reported: what else the machine does can only add


def work(what: str, data: str, cache: str) -> dict[str, float]:
    """Do one thing in this process and say what it cost."""
    sys.path[0] = str(ROOT)  # in place of this folder, whose inspect.py would hide Python's own
    from isal import igzip

    from autoconf.data.brats import MODALITIES, find_cases
    from autoconf.data.cache import Cache
    from autoconf.data.counts import Intensities
    from autoconf.data.gz import CHUNK
    from autoconf.data.measure import measure_cases
    from autoconf.inspect.fingerprint import fingerprint

    cases = find_cases(data)
    files = [path for case in cases for path in (*case.image, case.label) if path]
    begun = time.process_time(), time.perf_counter()
    if what == "decompress":
        for path in files:
            with igzip.open(path) as file:
                while file.read1(CHUNK):
                    pass
    elif what in ("igzip", "gzip"):
        decompress = {"igzip": igzip, "gzip": gzip}[what].decompress
        for path in files:
            decompress(Path(path).read_bytes())
    else:
        intensities = {contrast: Intensities.none() for contrast in MODALITIES}
        found = []
        for measured in measure_cases(cases, Cache(cache)):
            measured.add_to(intensities)
            found.append(measured.row)
        fingerprint(found, intensities)
    cpu, wall = time.process_time() - begun[0], time.perf_counter() - begun[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"work_cpu_s": cpu, "work_wall_s": wall, "total_cpu_s": time.process_time(), "peak_mb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of BraTS cases, all .nii.gz")
    parser.add_argument("--out", help="JSON file to write")
    parser.add_argument("--work", choices=WHAT, help=argparse.SUPPRESS)
    parser.add_argument("--cache", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        print(json.dumps(work(given.work, given.data, given.cache)))
        return
    costs: dict[str, dict[str, float]] = {}
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as cache:
            for what in WHAT:
                words = [sys.executable, __file__, given.data, "--work", what, "--cache", os.path.join(cache, "cache")]
                cost = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
                if what not in costs or cost["work_cpu_s"] < costs[what]["work_cpu_s"]:
                    costs[what] = {name: round(value, 3) for name, value in cost.items()}
    print(f"{'':<66}{'CPU s':>8}{'wall s':>8}{'total':>8}{'MB':>6}")
    for what, cost in costs.items():
        print(
            f"{WHAT[what]:<66}" + "".join(f"{v:>{w}.2f}" for v, w in zip(cost.values(), (8, 8, 8), strict=False)),
            end="",
        )
        print(f"{cost['peak_mb']:>6.0f}")
    ratios = {
        f"first_to_{what}_{kind}": round(costs["first"][f"work_{kind}_s"] / costs[what][f"work_{kind}_s"], 2)
        for what in ("decompress", "igzip", "gzip")
        for kind in ("cpu", "wall")
    }
    print("\n".join(f"{name}: {value}" for name, value in ratios.items()))
    if given.out:
        machine = {"processor": platform.machine(), "cpus": os.cpu_count(), "python": platform.python_version()}
        report = {"what": WHAT, "repeats": REPEATS, "machine": machine, "costs": costs, "ratios": ratios}
        Path(given.out).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
