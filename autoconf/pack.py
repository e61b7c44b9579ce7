"""`autoconf pack`: a bundle as one archive that others can fetch and check."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

from autoconf.bundle.overrides import read
from autoconf.bundle.settings import check_plan, read_bundle
from autoconf.errors import AutoconfError
from autoconf.output import check_out, write_files
from autoconf.packaging import archive, freeze
from autoconf.packaging.contents import METADATA, WEIGHTS, About, collect, read_about, split
from autoconf.packaging.probe import ANSWER, probe
from autoconf.packaging.weights import check

PLAN = os.path.join("docs", "plan.yaml")


def pack(bundle: str, out: str, plan: str = "", weights: str = "", source: str = "") -> None:
    """Make one archive of a bundle, with sums, that fetches and runs elsewhere.

    Files of a bundle alone get in (configs, scripts, pages, models/model.pt); all else is named and stays behind. The
    same files give the same bytes. Packed again after a change, a version is refused: raise it.

    bundle: folder of the bundle; it is not changed.
    out: folder for NAME_vVERSION.zip, model_info.json, SHA256SUMS, and with --source large_files.yml.
    plan: override file whose values are written into the configs, where its own values stood; docs/plan.yaml keeps it.
    weights: the model.pt of a training with that plan; without it the bundle's own.
    source: address that the files will have, such as https://host/folder; model_info.json and large_files.yml name it.
    """
    about = read_about(bundle)
    if source and (not re.match(r"https?://[^/]", source) or not source.isprintable() or " " in source):
        raise AutoconfError(f"--source {source!r:.80}: is no address, such as https://host/folder.")
    check_out(out, outside=bundle)
    kept, left = collect(bundle)
    for stranger in left:
        print(f"left behind: {stranger}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / about.name
        _copy(kept, folder, weights)
        if plan:
            _freeze(bundle, plan, folder)
        about = read_about(str(folder))
        has_weights = (folder / WEIGHTS).exists()
        _check(folder, about, has_weights)
        path = Path(out) / f"{about.stem}.zip"
        made = Path(scratch) / path.name
        names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        archive.write(made, about.name, {name.replace(os.sep, "/"): folder / name for name in names})
        sha256 = _publish(made, path, folder, about, source, has_weights)
    _say(path, sha256, has_weights, len(names))


def _copy(kept: dict[str, str], folder: Path, weights: str) -> None:
    for name, path in kept.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    if weights:
        if not os.path.isfile(weights):
            raise AutoconfError(f"--weights {weights}: no such file. Give the model.pt of a training.")
        (folder / WEIGHTS).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, folder / WEIGHTS)
    if (folder / WEIGHTS).exists():
        check(folder / WEIGHTS)


def _freeze(bundle: str, plan: str, folder: Path) -> None:
    """Write the plan's values into the copy. Raises AutoconfError for a plan that is not for this bundle."""
    to = read_bundle(bundle)
    _, choices = read(plan)
    own, named = to.config.get("network_name"), choices.get("network_name")
    if named is not None and named.value != own:
        raise AutoconfError(
            f"{plan} is for {named.value}; this bundle's own network is {own}, and only that is packed."
        )
    check_plan(to, choices)
    values = {key: choice.value for key, choice in choices.items() if key != "network_name"}
    for name, text in freeze.freeze(freeze.read_texts(str(folder)), values).items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    metadata = (folder / METADATA).read_bytes().decode("utf-8")  # with its own line ends
    (folder / METADATA).write_text(freeze.sized(metadata, values, to.is_3d), encoding="utf-8", newline="")
    shutil.copyfile(plan, folder / PLAN)


def _check(folder: Path, about: About, has_weights: bool) -> None:
    """Network, windows and metadata must agree; what the network answers is recorded beside them."""
    found = probe(str(folder))
    window, image = found.pop("window"), found["image"][2:]
    if window is not None and window != image:
        raise AutoconfError(
            f"{folder.name}: its windows are {window} but metadata.json says {image}. Correct one of them."
        )
    try:
        expected = about.raw["network_data_format"]["outputs"]["pred"]
        shape = [1, expected["num_channels"], *expected["spatial_shape"]]
    except (KeyError, TypeError):
        raise AutoconfError(
            f"{METADATA}: says nothing of network_data_format, outputs, pred. Write its num_channels and spatial_shape."
        ) from None
    if found["shape"] != shape:
        raise AutoconfError(f"{folder.name}: its network answers with {found['shape']}, metadata.json says {shape}.")
    if has_weights:
        if not all(map(math.isfinite, found["values"])):
            raise AutoconfError(f"{folder.name}: its network answers with what is no number. Train it again.")
        (folder / ANSWER).parent.mkdir(exist_ok=True)
        (folder / ANSWER).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8", newline="\n")
    else:
        (folder / ANSWER).unlink(missing_ok=True)


def _publish(made: Path, path: Path, folder: Path, about: About, source: str, has_weights: bool) -> str:
    """Move the archive to its place and write it into the lists beside it; one of other content is not replaced.

    Returns its SHA-256.
    """
    sha1, sha256 = archive.digest(made, "sha1"), archive.digest(made)
    if path.exists() and archive.digest(path) != sha256:
        raise AutoconfError(
            f"{path} is there with other content. Somebody may have fetched it: give this one a new version with "
            f"`python -m tools.bump BUNDLE patch --note ...`, or remove the file."
        )
    base = source.rstrip("/") + "/" if source else ""
    info = _read_info(path.with_name("model_info.json"))
    os.makedirs(path.parent, exist_ok=True)
    _place(made, path)
    info[about.stem] = {"checksum": sha1, "source": base + path.name, "sha256": sha256}
    files: dict[str, str | bytes] = {"model_info.json": json.dumps(dict(sorted(info.items())), indent=4) + "\n"}
    if base and has_weights:
        lone = path.with_name(f"{about.stem}_model.pt")
        _place(folder / WEIGHTS, lone)
        files["large_files.yml"] = _large_files(base + lone.name, archive.digest(lone))
    others = [*path.parent.glob("*.zip"), *path.parent.glob("*_model.pt")]
    sums = {other.name: archive.digest(other) for other in others if other.is_file() and other.name.isprintable()}
    files["SHA256SUMS"] = "".join(f"{value}  {name}\n" for name, value in sorted(sums.items()))
    write_files(str(path.parent), files)
    return sha256


def _place(made: Path, path: Path) -> None:
    """A copy at the path, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        shutil.copyfile(made, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _large_files(url: str, sha256: str) -> str:
    """For a repository that does not hold the weights themselves; `monai.bundle download_large_files` reads it."""
    entry = f"- path: {WEIGHTS}\n  url: {json.dumps(url)}\n  hash_val: {sha256}\n  hash_type: sha256\n"
    return "large_files:\n" + entry


def _read_info(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise AutoconfError(f"{path}: is damaged. Remove it; it is made again.")
    return content


def _say(path: Path, sha256: str, has_weights: bool, files: int) -> None:
    print(f"wrote  {path} ({path.stat().st_size / 1e6:.1f} MB, {files} files)")
    print(f"sha256 {sha256}")
    if not has_weights:
        print("It holds no weights: whoever fetches it must train first.")
    place = shlex.quote(str(path))
    print(f"next   python -m autoconf fetch {split(path.stem)[0]} --source {place} --sha256 SHA256 --into FOLDER")
