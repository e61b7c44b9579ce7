"""Bad input: what lies on the disk, before anything is known of a scan."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import zipfile
from pathlib import Path

from helpers_bad_inputs import Kind, left_out, packed, put, refused, right, unpacked

UNREADABLE = left_out("unreadable", "Copy or download it again")
GONE = left_out("unreadable", "no such file. Put it back")
CUT = refused("is cut short or damaged. Copy or download it again")
NO_NIFTI = refused("cannot be read as NIfTI")
TRUNCATED = refused("truncated or not a NIfTI file")


def cut(share: float):
    def make(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return make


def flipped(place: int | None):
    """Flip one bit, of the middle or counted from the end."""

    def make(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2 if place is None else place] ^= 16
        path.write_bytes(content)

    return make


def content(text: bytes):
    return lambda path: path.write_bytes(text)


def cut_inside(path: Path) -> None:
    packed(path, unpacked(path)[:-100])


def header_only(path: Path) -> None:
    packed(path, unpacked(path)[:352])


def half_a_header(path: Path) -> None:
    packed(path, unpacked(path)[:200])


def as_zip(path: Path) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(path.stem, unpacked(path))
    path.write_bytes(made.getvalue())


def packed_twice(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes(), mtime=0))


def not_packed(path: Path) -> None:
    path.write_bytes(unpacked(path))


def packed_as_nii(path: Path) -> None:
    path.rename(path.with_suffix(""))


def two_members(path: Path) -> None:
    inside = unpacked(path)
    path.write_bytes(gzip.compress(inside[:1000]) + gzip.compress(inside[1000:]))


def padded(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(512))


def rubbish_after(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"rubbish" * 20)


def bomb(path: Path) -> None:
    """The scan, and after it half a gigabyte of zeros, which take half a megabyte on the disk."""
    zeros = gzip.compress(bytes(1 << 26), mtime=0)
    path.write_bytes(path.read_bytes() + 8 * zeros)


def magic(path: Path) -> None:
    put(path, 344, bytearray(b"abc\0"))


def size_of_header(path: Path) -> None:
    put(path, 0, bytearray(b"\x07\0\0\0"))


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nowhere.nii.gz")


def link_loop(path: Path) -> None:
    path.unlink()
    other = path.parent / "other.nii.gz"
    other.symlink_to(path)
    path.symlink_to(other)


def link(path: Path) -> None:
    """To a sound file outside the data."""
    there = path.parents[2] / "elsewhere.nii.gz"
    path.rename(there)
    path.symlink_to(there)


def folder_loop(home: Path) -> None:
    (home / "again").symlink_to(home)
    (home / "up").symlink_to(home.parent)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def twin(path: Path) -> None:
    shutil.copy(path, path.with_suffix(""))


KINDS = [
    Kind("gzip, its last 20 bytes lost", "scan", cut(0.9995), UNREADABLE, CUT, TRUNCATED),
    Kind("gzip, its second half lost", "scan", cut(0.5), UNREADABLE, CUT, TRUNCATED),
    Kind("gzip, a bit flipped in the middle", "scan", flipped(None), UNREADABLE, CUT, TRUNCATED),
    Kind("gzip, a bit flipped in its checksum", "scan", flipped(-6), UNREADABLE, CUT, TRUNCATED),
    Kind("gzip, a bit flipped in its length", "scan", flipped(-2), UNREADABLE, CUT, TRUNCATED),
    Kind("whole gzip of a scan cut short", "scan", cut_inside, UNREADABLE, CUT, TRUNCATED),
    Kind("whole gzip of a header alone", "scan", header_only, UNREADABLE, CUT, TRUNCATED),
    Kind("whole gzip of half a header", "scan", half_a_header, UNREADABLE, NO_NIFTI, TRUNCATED),
    Kind("an empty file", "scan", content(b""), UNREADABLE, NO_NIFTI, TRUNCATED),
    Kind("a web page of an error", "scan", content(b"404 Not Found"), UNREADABLE, NO_NIFTI, TRUNCATED),
    Kind("a zip archive named .nii.gz", "scan", as_zip, UNREADABLE, NO_NIFTI, TRUNCATED),
    Kind("packed by gzip twice", "scan", packed_twice, UNREADABLE, NO_NIFTI, TRUNCATED),
    Kind("not packed, but named .nii.gz", "scan", not_packed, UNREADABLE, NO_NIFTI, TRUNCATED),
    Kind("packed, but named .nii", "scan", packed_as_nii, UNREADABLE, NO_NIFTI),
    Kind("gzip of two members", "scan", two_members, right(), right(), right()),
    Kind("gzip padded with zeros", "scan", padded, right(), right()),
    Kind("gzip with rubbish after it", "scan", rubbish_after, UNREADABLE, CUT, TRUNCATED),
    Kind("gzip that unpacks to half a gigabyte more than its header says", "scan", bomb, right(), right(), right()),
    Kind("wrong magic", "scan", magic, UNREADABLE, NO_NIFTI, TRUNCATED),
    Kind("wrong length of the header", "scan", size_of_header, right(), right(), right()),
    Kind("a link to nowhere", "scan", dangling, GONE, refused("is not there")),
    Kind("a loop of links", "scan", link_loop, GONE, refused("is not there")),
    Kind("a link to a sound file", "scan", link, right(), right()),
    Kind(
        "folders linked in a loop",
        "case",
        folder_loop,
        right(),
        right(masks=[f"BraTS-GLI-0000{n}-000.nii.gz" for n in range(4)]),
    ),
    Kind("a folder named as a scan", "scan", folder, refused("no t2 image"), refused("no t2 image")),
    Kind("a named pipe", "scan", pipe, UNREADABLE, NO_NIFTI, TRUNCATED),
    Kind("one scan as .nii and as .nii.gz", "scan", twin, refused("are the same image. Remove one"), refused("same")),
]
