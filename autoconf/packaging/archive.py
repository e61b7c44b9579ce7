"""Zip archives of bundles: written so that the same files give the same bytes, read as if a stranger had made them."""

from __future__ import annotations

import errno
import hashlib
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from autoconf.errors import AutoconfError

EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that a zip file can hold
MOST_BYTES = 2_000_000_000  # of all files together
MOST_FILES = 2_000
MOST_LETTERS = 240  # of a name with its folders; what is longer cannot be written everywhere
MOST_DEEP = 12  # folders in each other
MOST_RATIO = 200  # of unpacked to packed bytes; text packs by 10 at most, a bomb by 1,000
FREE_BYTES = 10_000_000  # up to which the ratio does not matter
CHUNK = 1 << 20


def write(path: Path, top: str, files: Mapping[str, Path]) -> None:
    """A zip of `top/name` for every file; the same bytes for the same files, on any machine.

    files: name, with / between folders -> the file that holds its content. Nothing is compressed: another zlib would
    pack otherwise, and weights hardly shrink.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(f"{top}/{name}", EPOCH)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.create_system = 3  # unix, wherever it is written
            with archive.open(entry, "w") as target, open(files[name], "rb") as source:
                shutil.copyfileobj(source, target, CHUNK)


def digest(path: Path, kind: str = "sha256") -> str:
    """Of a file's content, in hexadecimal. kind: sha256, or sha1 for MONAI's model_info.json."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def unpack(path: Path, into: Path) -> Path:
    """All files of an archive below `into`, which is empty; returns the one folder that they lie in.

    Refuses, before or while it writes, with AutoconfError: what is no zip or is damaged, names that lead outside, names
    that are the same on some systems, links and devices, encryption, too many files, more bytes than MOST_BYTES, and a
    ratio that only a bomb has. Sizes are counted while reading; what the archive says of them is not believed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            top = _checked(path, entries)
            total = 0
            for entry in entries:
                total = _extract(archive, entry, into, total, path)
    except (FileExistsError, NotADirectoryError):
        raise AutoconfError(f"{path.name}: a file and a folder share a name. Do not trust this file.") from None
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError, OverflowError) as error:
        raise AutoconfError(f"{path.name}: is damaged, or no zip archive ({error}). Fetch it again.") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place before the file's beginning
            raise
        raise AutoconfError(f"{path.name}: is damaged, or no zip archive. Fetch it again.") from None
    return into / top


def _checked(path: Path, entries: list[zipfile.ZipInfo]) -> str:
    """The one folder that all entries lie in. Raises AutoconfError."""
    if len(entries) > MOST_FILES:
        raise AutoconfError(f"{path.name}: holds {len(entries)} files, more than {MOST_FILES}. This is no bundle.")
    seen: set[str] = set()
    tops: set[str] = set()
    for entry in entries:
        name, kind = entry.filename, stat.S_IFMT(entry.external_attr >> 16)
        parts = PurePosixPath(name).parts
        odd = "\\" in name or ":" in name or "\0" in name or any(ord(letter) < 32 for letter in name)
        if odd or name.startswith("/") or ".." in parts or not parts:
            raise AutoconfError(f"{path.name}: the name {name!r:.80} leads outside its folder. Do not trust this file.")
        if len(name.encode()) > MOST_LETTERS or len(parts) > MOST_DEEP:
            raise AutoconfError(f"{path.name}: the name {name!r:.80}... is too long or too deep. This is no bundle.")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # bzip2 and lzma grow at one read
            raise AutoconfError(f"{path.name}: {name!r:.80} is packed in an unusual way. Get a plain zip archive.")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise AutoconfError(f"{path.name}: {name!r:.80} is a link or a device. Do not trust this file.")
        if entry.flag_bits & 1:
            raise AutoconfError(f"{path.name}: {name!r:.80} is encrypted. Get an archive without a password.")
        if not entry.is_dir():
            same = unicodedata.normalize("NFKC", name).casefold()
            if same in seen:
                raise AutoconfError(f"{path.name}: {name!r:.80} is there twice. Do not trust this file.")
            seen.add(same)
            if len(parts) < 2:
                raise AutoconfError(f"{path.name}: {name!r:.80} lies in no folder. A bundle's files lie in one folder.")
        tops.add(parts[0])
    if len(tops) != 1:
        raise AutoconfError(f"{path.name}: holds {len(tops)} folders, not the one of a bundle.")
    return tops.pop()


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, into: Path, total: int, path: Path) -> int:
    """One file; returns how many bytes there are now. Raises AutoconfError."""
    target = into / entry.filename
    if entry.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return total
    target.parent.mkdir(parents=True, exist_ok=True)
    own = 0
    with archive.open(entry) as source, open(target, "xb") as file:
        while chunk := source.read(CHUNK):
            own, total = own + len(chunk), total + len(chunk)
            if total > MOST_BYTES or (own > FREE_BYTES and own > MOST_RATIO * max(1, entry.compress_size)):
                raise AutoconfError(
                    f"{path.name}: {entry.filename!r:.80} grows beyond {own / 1e6:,.0f} MB while unpacking, as a zip "
                    "bomb does. Do not trust this file."
                )
            file.write(chunk)
    return total
