"""The network's answer to one test image, and the sizes that a config, its network and its metadata claim.

`python -m autoconf.packaging.probe FOLDER` in a process of its own: every bundle's package is called `scripts`, and
what a bundle's configs name is run. Prints JSON.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from typing import Any

from autoconf.errors import AutoconfError

ANSWER = os.path.join("docs", "answer.json")  # what the network answered when it was packed

SEED = 0
VALUES = 16  # of the answer, evenly spread, that are recorded
TOLERANCE = 1e-3  # of a logit: other processors add in another order
DIGITS = 3  # after the point that are recorded, so that most processors record the same
SECONDS = 600


def probe(folder: str) -> dict[str, Any]:
    """What `ask` says, in a process of its own. Raises AutoconfError with the last line of what went wrong."""
    command = [sys.executable, "-W", "ignore", "-m", "autoconf.packaging.probe", os.path.abspath(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise AutoconfError(f"{folder}: its network did not answer within {SECONDS} s.") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise AutoconfError(f"{folder}: its network cannot be asked ({lines[-1][:200]}).")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def compare(recorded: dict[str, Any], found: dict[str, Any], folder: str) -> float:
    """The largest difference of an answer from the recorded one. Raises AutoconfError if it is too large."""
    if recorded.get("shape") != found["shape"] or len(recorded.get("values", [])) != len(found["values"]):
        raise AutoconfError(f"{folder}: its network answers with {found['shape']}, not {recorded.get('shape')}.")
    pairs = zip(recorded["values"], found["values"], strict=True)
    difference = max((abs(one - other) for one, other in pairs), key=lambda size: (math.isnan(size), size))
    if not difference <= TOLERANCE:
        raise AutoconfError(
            f"{folder}: its network's answer is {difference:.2g} away from the recorded one. These are other weights, "
            "or another version of a library changed it."
        )
    return difference


def ask(folder: str) -> dict[str, Any]:
    """As `probe`, in this process, which then has the bundle's folder among its modules."""
    import torch
    from monai.bundle import ConfigParser

    sys.path.insert(0, folder)
    parser = ConfigParser()
    parser.read_config(os.path.join(folder, "configs", "inference.yaml"))
    with open(os.path.join(folder, "configs", "metadata.json"), encoding="utf-8") as stream:
        given = json.load(stream)["network_data_format"]["inputs"]["image"]
    network = parser.get_parsed_content("network_def").eval()
    path = os.path.join(folder, "models", "model.pt")
    if os.path.exists(path):
        weights = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(weights.get("model", weights))
    shape = (1, given["num_channels"], *given["spatial_shape"])
    image = torch.randn(*shape, generator=torch.Generator().manual_seed(SEED))
    with torch.no_grad():
        answer = network(image).float()
    flat = answer.flatten()
    places = torch.linspace(0, len(flat) - 1, VALUES).long()
    inferer: Any = parser.get_parsed_content("inferer")
    window = getattr(getattr(inferer, "inferer", inferer), "roi_size", None)
    found = {"seed": SEED, "image": list(shape), "shape": list(answer.shape)}
    found["values"] = [round(value, DIGITS) + 0.0 for value in flat[places].tolist()]
    return found | {"window": None if window is None else [int(size) for size in window]}


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"  # several add in another order
    print(json.dumps(ask(sys.argv[1])))
