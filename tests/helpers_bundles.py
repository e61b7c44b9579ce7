"""The two bundles as tests see them: their paths, their scripts under names of their own, their command line."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from helpers_processes import ALONE, run_module

from autoconf.packaging.contents import collect

REPO = Path(__file__).resolve().parents[1]
BUNDLES = REPO / "bundles"
UNETR3D = BUNDLES / "unetr3d"
PSEUDO2D = BUNDLES / "pseudo2d"
NAMES = ("pseudo2d", "unetr3d")
# A UNETR that takes a tenth of the time, as an override file says it.
TINY = {f"network_def::{name}": value for name, value in (("feature_size", 4), ("hidden_size", 48), ("mlp_dim", 64))}
TINY |= {"network_def::num_heads": 4}
TINY_2D = {"network_def::channels": [4, 8, 16, 32, 64]}  # the same of a U-Net
STAND_IN = REPO / "tests" / "stand_in"  # on a PYTHONPATH, it takes MONAI's place


def scripts(bundle: str, module: str) -> ModuleType:
    """`scripts.MODULE` of a bundle, loaded as `BUNDLE_scripts.MODULE`.

    Every bundle calls its package `scripts`, so that two could not be imported in one process.
    """
    alias = f"{bundle}_scripts"
    if alias not in sys.modules:
        folder = str(BUNDLES / bundle / "scripts")
        spec = importlib.util.spec_from_file_location(
            alias, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
        )
        package = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        sys.modules[alias] = package
        spec.loader.exec_module(package)  # type: ignore[union-attr]
    return importlib.import_module(f"{alias}.{module}")


@contextlib.contextmanager
def as_scripts(bundle: str) -> Iterator[None]:
    """Inside, `scripts.x` means that bundle's, as it does to MONAI when a config is resolved."""
    folders = (BUNDLES / bundle / "scripts", BUNDLES / "shared" / "scripts")
    names = [path.stem for folder in folders for path in folder.glob("*.py") if path.stem != "__init__"]
    modules = {f"scripts.{name}": scripts(bundle, name) for name in names}
    modules["scripts"] = sys.modules[f"{bundle}_scripts"]
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


def copy_bundle(bundle: Path, copy: Path, *left: str) -> Path:
    """What `pack` hands out of a bundle, as a folder, without those of its folders that are `left`."""
    for name, path in collect(str(bundle))[0].items():
        if Path(name).parts[0] not in left:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy / name)
    return copy


def read_yaml(path: Path) -> dict[str, Any]:
    """A config as plain data."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def write_yaml(path: Path, content: dict[str, Any]) -> Path:
    """An override file."""
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def without(override: Path, out: Path, *keys: str) -> Path:
    """That override file less some keys, say those of a network that another one has not; written to `out`."""
    return write_yaml(out, {key: value for key, value in read_yaml(override).items() if key not in keys})


def run_bundle(
    bundle_dir: Path,
    run_id: str,
    config_files: list[str | Path],
    *words: object,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    expect: int = 0,
    launcher: tuple[str, ...] = (),
) -> subprocess.CompletedProcess[str]:
    """`python -m monai.bundle run RUN_ID --config_file ... WORDS`, as a user types it; checks the exit status.

    run_id: empty for the plain `run`. config_files: names in the bundle's `configs`, or paths.
    launcher: words between `python` and `-m monai.bundle`, say torchrun's.
    It is a fork of a process that has loaded MONAI, where it can be (helpers_processes.py).
    """
    files = [str(f) if os.path.sep in str(f) else str(bundle_dir / "configs" / f) for f in config_files]
    one_or_list = files[0] if len(files) == 1 else str(files)
    words = ("run", *([run_id] if run_id else []), "--config_file", one_or_list, *map(str, words))
    env = env or {}
    if launcher or "PYTHONPATH" in env:  # another program begins, or other modules take the place of what is loaded
        command = [sys.executable, "-W", "ignore", *launcher, "-m", "monai.bundle", *words]
        alone = {**os.environ, **ALONE, **env}
        done = subprocess.run(command, cwd=cwd, env=alone, capture_output=True, text=True, timeout=300)
    else:
        done = run_module("monai.bundle", words, cwd, env)
    assert done.returncode == expect, f"{words}\nexit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done


def scalars(folder: Path) -> dict[str, list[float]]:
    """tag -> values of a TensorBoard folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, list[float]] = {}
    for path in sorted(folder.glob("events*")):
        events = EventAccumulator(str(path)).Reload()
        for tag in events.Tags()["scalars"]:
            found.setdefault(tag, []).extend(event.value for event in events.Scalars(tag))
    return found


def assert_refused(done: subprocess.CompletedProcess[str], bundle: str, *said: str) -> None:
    """The run ended with one line that names the bundle and holds every text of `said`; no traceback."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    assert lines[-1].startswith(f"{bundle}: "), done.stderr
    for text in said:
        assert text in lines[-1]


def cut_short(path: Path, share: float) -> None:
    """Leave only the first part of a file, as a broken download does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def in_two_gzip_members(path: Path) -> None:
    """Pack a .gz anew in two members, as `cat a.gz b.gz` and parallel compressors do."""
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
