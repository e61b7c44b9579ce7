"""How each mask was made: provenance.json, beside the masks of `run inferring` and `run evaluating`.

    {"runs": [{"bundle", "version", "network", "weights", "device", "processor", "torch", "precision", "settings",
               "date"}],
     "masks": {case: {"run": its place in `runs`, "modalities": those that the scan has}}}

It names files without their folders, no user and no machine. Another run into the same folder replaces the entries of
the masks that it writes; the others keep theirs.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.inferers import Inferer

from .errors import ROOT
from .files import whole_file

FILE = "provenance.json"
PART = "provenance.rank{}.json"  # of another process than the first, until the run ends
FLAT = 0.01  # of a z-scored channel, whose deviation is 1: what rounding leaves of one that held a single value
COARSE = 8  # voxels: a channel that varies is nearly always seen to by every eighth voxel along each axis
SECONDS = 5.0  # between two writes, at most
SHARE = 50  # a fiftieth of the run's time at most goes into writing


class Account:
    """What provenance.json says of a run, for the handler below and for a server.

    network: its name, or its class. weights: the files that hold them, several of an ensemble. inferer: asked for its
    `report()` of the precision; None, or one without it: unknown. settings: what else decides how a mask looks.
    """

    def __init__(
        self,
        network: str,
        weights: Sequence[str],
        device: torch.device | str,
        inferer: Inferer | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.network = network.rpartition(".")[2]
        self.weights = weights
        self.device = device
        self.inferer = inferer
        self.settings = dict(settings or {})
        self.metadata = _metadata()
        self.modalities = _modalities(self.metadata)

    def record(
        self, date: str, weights: Sequence[str] | None = None, device: torch.device | str | None = None
    ) -> dict[str, Any]:
        """An entry of `runs`, as JSON would give it back. weights, device: others than the config's, of a server."""
        record = {
            "bundle": self.metadata.get("name", ROOT.name),
            "version": self.metadata.get("version"),
            "network": self.network,
            "weights": [named(path) for path in (self.weights if weights is None else weights)],
            "device": device_name(self.device if device is None else device),
            "processor": processor(),
            "torch": torch.__version__,
            "precision": self.precision(),
            "settings": self.settings,
            "date": date,
        }
        return json.loads(json.dumps(record, default=str))

    def precision(self) -> dict[str, str]:
        """What the last mask was computed in, and why."""
        report = getattr(self.inferer, "report", dict)()
        return report or {"used": "unknown", "why": "the inferer does not report it"}

    def seen(self, image: torch.Tensor) -> dict[str, list[str]]:
        """{"modalities": those present}, or nothing where the channels have no such names.

        image: (C, ...) as the network gets it. A channel of one value shows nothing: missing, or as good as missing.
        """
        if len(self.modalities) != len(image):
            return {}
        channels = image.as_subclass(torch.Tensor)
        return {"modalities": [name for name, c in zip(self.modalities, channels, strict=True) if varies(c)]}


class Provenance:
    """Write provenance.json: every few seconds, in the end, and when the run stops on the way.

    account: what it says of the run. output_dir: the folder of the masks. Items have a `case` and an `image`.
    What cannot be written is said in one line, and costs no mask.
    Of several processes each keeps a file of its own until the first gathers them all in the end; what a run that was
    killed left of those is taken over by the next one.
    """

    def __init__(self, account: Account, output_dir: str) -> None:
        self.account = account
        self.folder = Path(output_dir)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
        engine.add_event_handler(Events.COMPLETED, self._end)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._stopped)

    def _start(self, engine: Engine) -> None:
        self.several = dist.is_available() and dist.is_initialized()
        rank = dist.get_rank() if self.several else 0
        self.path = self.folder / (PART.format(rank) if rank else FILE)
        self.runs: list[dict] = []
        self.masks: dict[str, dict] = {}
        self.written, self.cost = time.monotonic(), 0.0
        self.failed = False
        if rank == 0:
            self._take_over([read(part) for part in self._parts()])
        date = [datetime.now(UTC).isoformat(timespec="seconds")]
        if self.several:
            dist.broadcast_object_list(date)  # also: nobody writes a part before old ones are gone
        self.run = self.account.record(date[0])

    def _iteration(self, engine: Engine) -> None:
        run = self.run | {"precision": self.account.precision()}
        if run not in self.runs:
            self.runs.append(run)
        for item in engine.state.batch:
            self.masks[item["case"]] = {"run": self.runs.index(run), **self.account.seen(item["image"])}
        if time.monotonic() - self.written >= min(SECONDS, SHARE * self.cost):
            self._write()

    def _end(self, engine: Engine) -> None:
        if not self.several:
            self._write()
            return
        all_of_them: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(all_of_them, self._mine())
        if dist.get_rank() == 0:
            self._take_over(all_of_them)

    def _stopped(self, engine: Engine, error: BaseException) -> None:
        if hasattr(self, "run"):
            self._write()
        raise error

    def _mine(self) -> dict[str, Any]:
        return {"runs": self.runs, "masks": self.masks}

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob(PART.format("*")))

    def _take_over(self, others: Sequence[dict]) -> None:
        """Write what other processes know of, too, and remove what they wrote of it themselves."""
        self._write(others)
        for part in self._parts() if not self.failed else ():
            part.unlink(missing_ok=True)

    def _write(self, others: Sequence[dict] = ()) -> None:
        """Nothing where no mask was made: no file either."""
        began = time.monotonic()
        if not self.masks and not others:
            return
        try:
            content = functools.reduce(merged, [*others, self._mine()], read(self.path))
            with whole_file(self.path, "w") as file:
                json.dump(content, file, indent=1)
        except OSError as error:
            if not self.failed:
                print(f"{ROOT.name}: {self.path} cannot be written ({error.strerror}).", file=sys.stderr)
            self.failed = True
        self.written = time.monotonic()
        self.cost = self.written - began


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Both; of a mask that both know, what the new one says. Runs without a mask are dropped, equal ones become one."""
    runs = {("old", place): run for place, run in enumerate(old["runs"])}
    runs |= {("new", place): run for place, run in enumerate(new["runs"])}
    masks = {case: (("old", mask["run"]), mask) for case, mask in old["masks"].items()}
    masks |= {case: (("new", mask["run"]), mask) for case, mask in new["masks"].items()}
    needed = {of for of, _ in masks.values()}
    kept: list[dict] = []
    for of in (of for of in runs if of in needed):
        if runs[of] not in kept:
            kept.append(runs[of])
    places = {of: kept.index(runs[of]) for of in needed}
    return {"runs": kept, "masks": {case: {**mask, "run": places[of]} for case, (of, mask) in masks.items()}}


def read(path: Path) -> dict[str, Any]:
    """What a file holds; nothing if there is none, or none that this program wrote: it is replaced, after a line."""
    empty: dict[str, Any] = {"runs": [], "masks": {}}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        places = range(len(content["runs"]))
        good = all(isinstance(run, dict) for run in content["runs"])
        if good and all(type(m["run"]) is int and m["run"] in places for m in content["masks"].values()):
            return {key: content[key] for key in empty}
    except FileNotFoundError:
        return empty
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    print(f"{ROOT.name}: {path} is no account of masks, and is replaced.", file=sys.stderr)
    return empty


def varies(values: torch.Tensor) -> bool:
    """Whether a z-scored channel holds more than one value. Looks at a few first, at all only where those are equal."""
    few = values[(slice(None, None, COARSE),) * values.ndim]
    return any(not _spread(some) <= FLAT for some in (few, values))  # NaN is a value, too


def _spread(values: torch.Tensor) -> float:
    low, high = torch.aminmax(values)
    return float(high - low)


def named(path: str) -> dict[str, str | None]:
    """A file of weights: its name and its SHA-256, None where it is gone."""
    try:
        about = os.stat(path)
        digest = _digest(path, about.st_mtime_ns, about.st_size)
    except OSError:
        digest = None
    return {"file": os.path.basename(path), "sha256": digest}


@functools.lru_cache(maxsize=64)
def _digest(path: str, changed: int, size: int) -> str:
    """Computed once for each content; a server asks for every image."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def device_name(device: torch.device | str) -> str:
    """`cpu`, or the GPU's name."""
    device = torch.device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@functools.cache
def processor() -> str:
    """The model's name where Linux says it, else the kind of machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _metadata() -> dict[str, Any]:
    try:
        return dict(json.loads((ROOT / "configs" / "metadata.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _modalities(metadata: dict[str, Any]) -> list[str]:
    """The names of the network's input channels, if it has several."""
    try:
        names = list(metadata["network_data_format"]["inputs"]["image"]["channel_def"].values())
    except (KeyError, TypeError, AttributeError):
        return []
    return names if len(names) > 1 else []
