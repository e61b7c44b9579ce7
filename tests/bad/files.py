"""What lies on the disk, before anything is known of a scan."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

from bad.row import both, content, cut, left_out, packed, put, right, row, unpacked

UNREADABLE = left_out("unreadable", "Copy or download it again")
# What inspect, the bundle and score say of a file whose content is damaged, and of one that is not NIfTI.
DAMAGED = (UNREADABLE, "is cut short or damaged. Copy or download it again", "truncated or not a NIfTI file")
NO_NIFTI = (UNREADABLE, "cannot be read as NIfTI", "truncated or not a NIfTI file")
GONE = (left_out("unreadable", "no such file. Put it back"), "is not there. Check --dataset_dir")
NO_T2 = ("no t2 image beside", "no t2 image in")
RIGHT = (right(), right(), right())


def flipped(place: int | None):
    """Flip one bit, of the middle or counted from the end."""

    def make(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2 if place is None else place] ^= 16
        path.write_bytes(content)

    return make


def inside(*part: int | None):
    """A whole gzip file of a part of what it holds."""
    return lambda path: packed(path, unpacked(path)[slice(*part)])


def two_members(path: Path) -> None:
    inside = unpacked(path)
    path.write_bytes(gzip.compress(inside[:1000]) + gzip.compress(inside[1000:]))


def followed_by(more: bytes):
    return lambda path: path.write_bytes(path.read_bytes() + more)


def bomb(path: Path) -> None:
    """The scan, and after it half a gigabyte of zeros, which take half a megabyte on the disk."""
    followed_by(8 * gzip.compress(bytes(1 << 26), mtime=0))(path)


def linked(name: str):
    """A link in the file's place, to another one beside it."""

    def make(path: Path) -> None:
        path.unlink()
        path.symlink_to(path.parent / name)

    return make


def link_loop(path: Path) -> None:
    (path.parent / "other.nii.gz").symlink_to(path)
    linked("other.nii.gz")(path)


def link(path: Path) -> None:
    """To a sound file outside the data."""
    there = path.parents[2] / "elsewhere.nii.gz"
    path.rename(there)
    path.symlink_to(there)


def as_nii(path: Path) -> Path:
    """Not packed, and named so."""
    path.with_suffix("").write_bytes(unpacked(path))
    path.unlink()
    return path.with_suffix("")


def folder_loop(home: Path) -> None:
    (home / "again").symlink_to(home)
    (home / "up").symlink_to(home.parent)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


FOUR = right(masks=[f"BraTS-GLI-0000{n}-000.nii.gz" for n in range(4)])
SAME = "are the same image. Remove one"
ROWS = [
    row("gzip, its last 20 bytes lost", "scan", cut(0.9995), *DAMAGED),
    row("gzip, its second half lost", "scan", cut(0.5), *DAMAGED),
    row("gzip, a bit flipped in the middle", "scan", flipped(None), *DAMAGED),
    row("gzip, a bit flipped in its checksum", "scan", flipped(-6), *DAMAGED),
    row("gzip, a bit flipped in its length", "scan", flipped(-2), *DAMAGED),
    row("whole gzip of a scan cut short", "scan", inside(-100), *DAMAGED),
    row("whole gzip of a header alone", "scan", inside(352), *DAMAGED),
    row("whole gzip of half a header", "scan", inside(200), *NO_NIFTI),
    row("an empty file", "scan", content(""), *NO_NIFTI),
    row("a web page of an error", "scan", content("404 Not Found"), *NO_NIFTI),
    row("packed by gzip twice", "scan", lambda path: packed(path, path.read_bytes()), *NO_NIFTI),
    row("not packed, but named .nii.gz", "scan", lambda path: path.write_bytes(unpacked(path)), *NO_NIFTI),
    row("packed, but named .nii", "scan", lambda path: path.rename(path.with_suffix("")), *NO_NIFTI[:2]),
    row("a .nii file cut short", "scan", lambda path: cut(0.9)(as_nii(path)), *DAMAGED[:2]),
    row("gzip of two members", "scan", two_members, *RIGHT),
    row("gzip of two members, the second cut short", "scan", both(two_members, cut(0.9)), *DAMAGED),
    row("gzip padded with zeros", "scan", followed_by(bytes(512)), right(), right()),
    row("gzip with rubbish after it", "scan", followed_by(b"rubbish" * 20), *DAMAGED),
    row("gzip that unpacks to half a gigabyte more than its header says", "scan", bomb, *RIGHT),
    row("wrong magic", "scan", lambda path: put(path, 344, bytearray(b"abc\0")), *NO_NIFTI),
    row("wrong length of the header", "scan", lambda path: put(path, 0, bytearray(b"\x07\0\0\0")), *RIGHT),
    row("a link to nowhere", "scan", linked("nowhere.nii.gz"), *GONE),
    row("a loop of links", "scan", link_loop, *GONE),
    row("a link to a sound file", "scan", link, right(), right()),
    row("folders linked in a loop", "case", folder_loop, right(), FOUR),
    row("a folder named as a scan", "scan", folder, *NO_T2),
    row("a named pipe", "scan", pipe, *NO_NIFTI),
    row("one scan as .nii and as .nii.gz", "scan", lambda path: shutil.copy(path, path.with_suffix("")), SAME, SAME),
]
