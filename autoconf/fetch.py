"""`autoconf fetch`: a bundle from elsewhere, with distrust."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import IO

from autoconf.errors import AutoconfError
from autoconf.output import check_out
from autoconf.packaging import archive
from autoconf.packaging.contents import NUMBER, About, as_numbers, read_about, split
from autoconf.packaging.listing import what_runs
from autoconf.packaging.probe import ANSWER, compare, probe
from autoconf.packaging.weights import check_all

HUB = "hub"
HUB_ADDRESS = "https://huggingface.co"  # unless HF_ENDPOINT names another
SECONDS = 60.0  # without an answer
MOST_LISTED = 10_000_000  # bytes of model_info.json
SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def fetch(name: str, source: str, sha256: str, into: str, replace: bool = False, check: bool = False) -> None:
    """Fetch a bundle's archive, check it, and unpack it; nothing of it is run.

    It is refused, and nothing of it is kept, if its hash is another one, if it is cut short, if a file would lie
    outside its folder, is a link, or grows like a bomb, or if weights do not load as plain tensors. Every expression of
    its configs, and whatever they name from outside MONAI, torch and ignite, is listed: a bundle is code, so read them
    and scripts/ before you run it, or trust who wrote it.

    name: of the bundle, unetr3d, or with its version, unetr3d_v0.1.0; with --source hub the repository, owner/unetr3d.
    source: address of the archive or of the folder that holds it, a folder or file here, or hub.
    sha256: the archive's, from somebody you trust (`pack` prints it, SHA256SUMS lists it).
    into: folder in which the bundle's folder will lie.
    replace: a bundle of another version that is there is kept as NAME_vOLD beside the new one.
    check: run its network on a test image, and compare with what was recorded when it was packed.
    """
    if not SHA256.fullmatch(sha256):
        raise AutoconfError(f"--sha256 {sha256:.20}: is no SHA-256, which has 64 hexadecimal digits.")
    check_out(into, flag="--into")
    os.makedirs(into, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=into) as scratch:
        path = Path(scratch) / "archive.zip"
        where = _download(name, source, path)
        found = archive.digest(path)
        if found != sha256.lower():
            raise AutoconfError(
                f"{where}: its SHA-256 is {found}, not {sha256.lower()}. It was changed, cut short, or is another "
                "version; nothing was kept."
            )
        (Path(scratch) / "unpacked").mkdir()
        folder = archive.unpack(path, Path(scratch) / "unpacked")
        about = _accepted(folder, name)
        target = Path(into) / about.name
        aside = _aside(target, about, folder, replace)
        if aside == target:
            print(f"{target} holds {about.stem} already, the same files")
        else:
            _move(folder, target, aside)
            _say(about, target, found, aside)
    if check:
        _check(target)


# --- where from ---------------------------------------------------------------------------------


def _download(name: str, source: str, path: Path) -> str:
    """Bring the archive to `path`; returns where it came from."""
    address = _hub_address(name) if source == HUB else ""
    if re.match(r"https?://", source):
        address = source if source.endswith(".zip") else _listed(name, source.rstrip("/"))
    if address:
        _get(address, path)
        return address
    if "://" in source:
        raise AutoconfError(
            f"--source {source}: only http, https, a folder, a file or hub. Download it yourself first."
        )
    if not os.path.isfile(source) and not os.path.isdir(source):
        raise AutoconfError(f"--source {source}: no such folder or file.")
    found = os.path.join(source, _newest(name, sorted(os.listdir(source)), source)) if os.path.isdir(source) else source
    shutil.copyfile(found, path)
    return found


def _listed(name: str, base: str) -> str:
    """The address of the newest version that model_info.json of that folder lists."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model_info.json"
        _get(f"{base}/model_info.json", path, MOST_LISTED)
        try:
            names = [f"{stem}.zip" for stem in json.loads(path.read_text(encoding="utf-8"))]
        except (ValueError, TypeError, RecursionError):
            raise AutoconfError(
                f"{base}/model_info.json: is no list of bundles. Give the archive's own address."
            ) from None
    return f"{base}/{urllib.parse.quote(_newest(name, names, base))}"


def _hub_address(name: str) -> str:
    """NAME is `owner/bundle` or `owner/bundle_v0.1.0`; the archive lies in that repository."""
    owner, _, bundle = name.rpartition("/")
    if not re.fullmatch(r"[\w.-]+", owner) or not re.fullmatch(r"[\w.-]+", bundle):
        raise AutoconfError(f"'{name}' is no repository of a hub. Write it as owner/bundle.")
    stem, version = split(bundle)
    base = f"{os.environ.get('HF_ENDPOINT', HUB_ADDRESS).rstrip('/')}/{owner}/{stem}/resolve/main"
    return f"{base}/{bundle}.zip" if version else _listed(stem, base)


def _newest(name: str, files: list[str], where: str) -> str:
    """Of archives NAME_v1.2.3.zip the one of the highest version, or the one whose version NAME says."""
    stem, version = split(name.rpartition("/")[2])
    pattern = re.compile(rf"{re.escape(stem)}_v({NUMBER}\.{NUMBER}\.{NUMBER})\.zip")
    found = {match[1]: file for file in files if (match := pattern.fullmatch(file)) and version in ("", match[1])}
    if not found:
        raise AutoconfError(f"{where}: holds no {name}_v....zip. Look at the name, or give the archive itself.")
    return found[max(found, key=as_numbers)]


def _get(address: str, path: Path, most: int = archive.MOST_BYTES) -> None:
    """Download a file. Raises AutoconfError for what fails, is cut short or too large."""
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as answer, open(path, "wb") as file:  # noqa: S310 - http alone
            promised = answer.headers.get("Content-Length")
            got = _copy(answer, file, address, most)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise AutoconfError(f"{address}: cannot be fetched ({reason}). Look at the address and the network.") from None
    if promised is not None and str(got) != promised.strip():
        raise AutoconfError(f"{address}: was cut short after {got} of {promised} bytes. Try again; nothing was kept.")


def _copy(source: IO[bytes], file: IO[bytes], address: str, most: int) -> int:
    got = 0
    while chunk := source.read(archive.CHUNK):
        got += len(chunk)
        if got > most:
            raise AutoconfError(f"{address}: is larger than {most / 1e6:,.0f} MB. This is no bundle.")
        file.write(chunk)
    return got


# --- what it is -----------------------------------------------------------------------------------


def _accepted(folder: Path, name: str) -> About:
    """Look at what was unpacked; returns what it says of itself. Raises AutoconfError."""
    about = read_about(str(folder))
    wanted, version = split(name.rpartition("/")[2])
    if about.name != wanted or folder.name != about.name or version not in ("", about.version):
        raise AutoconfError(
            f"the archive holds {about.stem} in the folder {folder.name!r:.60}, not {name}. Nothing was kept."
        )
    for line in check_all(folder):
        print(f"look at it before you run it: {line}")
    for line in what_runs(folder):
        print(f"it would run: {line}")
    return about


def _aside(target: Path, about: About, folder: Path, replace: bool) -> Path | None:
    """Where what lies at the target goes; None if nothing does, the target itself if it is this bundle already."""
    if not os.path.lexists(target):
        return None
    try:
        old = read_about(str(target))
    except AutoconfError:
        raise AutoconfError(f"{target} is there, and is no bundle. Give another --into.") from None
    if old.version == about.version and _same(target, folder):
        return target
    what = f"version {old.version}" if old.version != about.version else f"{old.stem} with other files"
    if not replace:
        raise AutoconfError(
            f"{target} holds {what}; it stays as it is. Give --replace to keep it beside {about.version}, or another "
            "--into."
        )
    aside = target.with_name(old.stem)
    if os.path.lexists(aside):
        raise AutoconfError(f"{target} holds {what}, and {aside}, where it would go, is there too. Move one of them.")
    return aside


def _same(target: Path, folder: Path) -> bool:
    """Whether every file of the archive is there with the same content; files that were added do not count."""
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return all(
        (target / name).is_file() and archive.digest(target / name) == archive.digest(folder / name) for name in names
    )


def _move(folder: Path, target: Path, aside: Path | None) -> None:
    """Two renames in one folder: there is always a whole bundle, old or new."""
    if aside is not None:
        os.rename(target, aside)
    try:
        os.rename(folder, target)
    except OSError:
        if aside is not None:
            os.rename(aside, target)
        raise


def _say(about: About, target: Path, sha256: str, aside: Path | None) -> None:
    scripts = len(list((target / "scripts").glob("**/*.py")))
    print(f"fetched {about.stem} to {target}, sha256 {sha256}")
    if aside is not None:
        print(f"        what was there is {aside} now")
    print(f"        its {scripts} files in scripts/ are code, and run when you use it")
    config = shlex.quote(str(target / "configs" / "inference.yaml"))
    print(f"next    python -m monai.bundle run inferring --config_file {config} ...")


def _check(target: Path) -> None:
    path = target / ANSWER
    if not path.exists():
        raise AutoconfError(f"{path} is not there: this bundle was packed without weights, or by another program.")
    try:
        difference = compare(json.loads(path.read_text(encoding="utf-8")), probe(str(target)), str(target))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise AutoconfError(f"{path}: is no record that pack wrote. Fetch it again, or ask who packed it.") from None
    print(f"checked its network answers as it did when it was packed (at most {difference:.1g} of a logit away)")
