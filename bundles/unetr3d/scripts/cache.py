"""Cases that are preprocessed once, kept on disk, and mapped into memory by every run that needs them.

    CACHE/<recipe>/recipe.json                           what was done to the scans, in words
    CACHE/<recipe>/<case>/{image,label,tumour}.npy       float16 (C, H, W, D), uint8 (R, H, W, D), int32 voxel indices;
                                                         the image alone of a case without a label
    CACHE/files.json                                     content of the scans' files, as far as it is known

A case is found again by what its files hold (not by their names or dates) and by the transforms with all their
settings, the code of those that belong to this bundle, and the version of MONAI. Whatever differs lies elsewhere:
nothing can be stale. A case appears under its name in one step, whole, so that any number of runs may share the folder
and any of them may be killed. The folder can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from .draws import Draw, drawn_from
from .errors import refuse
from .recipe import describe, digest
from .siblings import Alone, whole_item
from .speed import keep_freed_memory

LAYOUT = 1  # of the folder; a change makes all preprocessed cases anew
KEYS = ("image", "label")
HALF_MAX = 6e4  # what float16 can hold; z-scored images stay below 100
MAPPED = 64  # cases at a time: each holds three files open, of 1,024 that many systems allow
DAY = 86400  # seconds
UNUSED_DAYS = 30  # after which a recipe's cases are deleted: they can be made again


class PreprocessedCases(Dataset):
    """The cases of a datalist after their deterministic transforms, each (C, H, W, D) in memory-mapped arrays.

    data: items as `scripts.datalist` makes them, or MONAI Label, with one file of each scan.
    transform: the `Compose` that preprocesses one.
    cache_dir: where they are kept. pick: what an index gives, made of the case's arrays (`image`, `label`, `tumour`)
    and its name (`case`); without it, the whole volumes as tensors.
    """

    def __init__(
        self,
        data: Sequence[dict],
        transform: Callable[[dict], dict],
        cache_dir: str,
        pick: Callable[[dict], dict] | None = None,
    ) -> None:
        try:
            self.data = [whole_item(item) for item in data]
        except Alone as error:
            refuse(str(error))
        self.pick = pick or whole
        self.folders = preprocess(self.data, transform, Path(cache_dir))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, asked: int | Draw) -> dict:
        index, seed = asked if isinstance(asked, Draw) else (asked, None)
        case = load(self.folders[index]) | {"case": self.data[index]["case"]}
        with contextlib.nullcontext() if seed is None else drawn_from(seed):
            return self.pick(case)


def whole(case: Mapping[str, Any]) -> dict[str, Any]:
    """The volumes of a case as tensors: image (C, H, W, D) float16, label (R, H, W, D) uint8 if any; and its name."""
    return {**{key: torch.from_numpy(np.array(case[key])) for key in KEYS if key in case}, "case": case["case"]}


def folder(cache_dir: str, datalist: str, output_dir: str) -> str:
    """Where preprocessed cases are kept: `cache_dir`, or beside the datalist, or in the output if that is not writable.

    Also in the output if there is no datalist, as where MONAI Label gives the cases.
    """
    beside = os.path.dirname(os.path.abspath(datalist)) if datalist else ""
    return cache_dir or os.path.join(beside if os.access(beside, os.W_OK) else output_dir, "preprocessed")


@functools.lru_cache(maxsize=MAPPED)
def load(folder: Path) -> dict[str, np.ndarray]:
    """Map a case's arrays into memory. What was read stays in the system's file cache while there is room."""
    return {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}


def preprocess(data: Sequence[dict], transform: Callable[[dict], dict], cache: Path) -> list[Path]:
    """Preprocess the cases that are not there yet; returns the folder of each.

    One thread per core works on a case of its own. Several runs that begin together take the cases in other orders,
    and leave out those that another has finished.
    """
    recipe = {"layout": LAYOUT, "monai": monai.__version__, "transforms": describe(transform)}
    folder = cache / digest(recipe)[:12]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "recipe.json").exists():
            _write(folder / "recipe.json", json.dumps(recipe, indent=1))
        with contextlib.suppress(OSError):  # of another user
            os.utime(folder)  # it is in use
        _tidy(cache)
        contents = _contents(data, cache / "files.json")
        folders = [folder / digest(content)[:20] for content in contents]
        missing = [i for i, place in enumerate(folders) if not place.is_dir()]
        random.SystemRandom().shuffle(missing)  # another order in each run, whatever its seed
        _preprocess_missing([(data[i], folders[i]) for i in missing], transform, len(data))
    except OSError as error:
        refuse(
            f"cannot keep preprocessed cases in {cache}: {error.strerror or error}. Choose another with --cache_dir."
        )
    return folders


def _preprocess_missing(jobs: list[tuple[dict, Path]], transform: Callable[[dict], dict], cases: int) -> None:
    if not jobs:
        return
    began = time.monotonic()
    keep_freed_memory()
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(os.cpu_count() or 1, initializer=torch.set_num_threads, initargs=(1,))
    try:
        done = pool.map(lambda job: _preprocess_one(*job, transform), jobs)
        for _ in tqdm(done, "preprocessing cases", len(jobs), disable=not sys.stderr.isatty(), leave=False):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # the workers' 1 holds for threads to come, and for MKL everywhere
    where = jobs[0][1].parent
    seconds = time.monotonic() - began
    print(f"preprocessed {len(jobs)} of {cases} cases in {seconds:.1f} s; kept in {where}", file=sys.stderr, flush=True)


def _preprocess_one(item: dict, place: Path, transform: Callable[[dict], dict]) -> None:
    if place.is_dir():  # another run was faster
        return
    ready = transform(dict(item))
    image = np.asarray(ready["image"])
    half = np.float16 if np.abs(image).max(initial=0) < HALF_MAX else np.float32
    arrays = {"image": image.astype(half)}
    if "label" in ready:
        label = np.asarray(ready["label"]).astype(np.uint8)
        arrays |= {"label": label, "tumour": tumour_indices(label)}
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=place.parent))
    try:
        for name, array in arrays.items():
            with open(partial / f"{name}.npy", "wb") as file:
                np.save(file, np.ascontiguousarray(array))
                file.flush()
                os.fsync(file.fileno())  # a crash of the machine shall not leave a case of zeros
        os.chmod(partial, 0o755)  # mkdtemp makes it for its owner alone
        os.rename(partial, place)
    except OSError:
        if not place.is_dir():  # else another run finished first, and its case is the same
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def tumour_indices(label: np.ndarray) -> np.ndarray:
    """Where the first region of (R, H, W, D) is: flat int32 (int64 for huge volumes) indices into (H, W, D)."""
    indices = np.flatnonzero(label[0])
    return indices.astype(np.int32) if label[0].size < 2**31 else indices


def _tidy(cache: Path) -> None:
    """Remove what a killed run left a day ago, and recipes that no run has used for a month.

    The folder may hold others' files, say the scans: a folder without a recipe is left, whatever its name.
    """
    now = time.time()
    recipes = [path for path in cache.glob("[0-9a-f]" * 12) if (path / "recipe.json").is_file()]
    for path in (*cache.glob(".partial-*"), *cache.glob("*/.partial-*"), *recipes):
        age = DAY if path.name.startswith(".") else UNUSED_DAYS * DAY
        try:
            if now - path.stat().st_mtime <= age:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        except OSError:  # another run tidied, or it is another user's
            pass


# What identifies a case


def _contents(data: Sequence[dict], known_file: Path) -> list[dict]:
    """For each item what its files hold, and all else of it that a transform may see, but for its name."""
    try:
        known = json.loads(known_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    known = known if isinstance(known, dict) else {}
    paths = list(dict.fromkeys(path for item in data for key in KEYS for path in _paths(item.get(key, []))))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = dict(
            zip(paths, pool.map(lambda path: _file(path, known.get(os.path.abspath(path))), paths), strict=True)
        )
    new = {os.path.abspath(path): entry for path, entry in found.items()}
    if any(known.get(path) != entry for path, entry in new.items()):
        with contextlib.suppress(OSError):  # a folder that one may only read: the files are read again next time
            _write(known_file, json.dumps(known | new))
    kept = [{key: value for key, value in item.items() if key not in (*KEYS, "case", "fold")} for item in data]
    files = [{key: [found[path][-1] for path in _paths(item[key])] for key in KEYS if key in item} for item in data]
    return [one | other for one, other in zip(kept, files, strict=True)]


def _file(path: str, known: Any) -> list:
    """[size, two times of change, digest of the content]; the digest is read anew only if one of the others differs.

    The time of content may be set at will, as archives do when they are unpacked, that of the entry (ctime) may not.
    """
    status = os.stat(path)
    stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    if isinstance(known, list) and known[:-1] == stamp and isinstance(known[-1], str):
        return known
    with open(path, "rb") as file:
        content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return [*stamp, content]


def _paths(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".partial-", delete=False, encoding="utf-8") as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
