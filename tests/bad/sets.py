"""Names of files and folders, and data sets that lack what a data set needs."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

from bad.row import CASE, ENDS, Row, right, row
from bad.voxels import WITHOUT_MASK


def named(name: str, ending: str = ".nii.gz") -> Callable[[Path], None]:
    """Give a case's folder and files another name."""

    def make(home: Path) -> None:
        other = home.with_name(name)
        home.rename(other)
        for end in ENDS:
            (other / f"{CASE}-{end}.nii.gz").rename(other / f"{name}-{end}{ending}")

    return make


def a_name(name: str, what: str = "") -> Row:
    return row(f"a case called {what or name}", "case", named(name), *[right(name=name)] * 3)


def only(*kept: int) -> Callable[[Path], None]:
    """Remove the other cases."""

    def make(data: Path) -> None:
        for n in set(range(4)) - set(kept):
            shutil.rmtree(data / f"BraTS-GLI-0000{n}-000")

    return make


def of_one_patient(data: Path) -> None:
    for n in range(4):
        home = data / f"BraTS-GLI-0000{n}-000"
        for path in home.iterdir():
            path.rename(home / path.name.replace(home.name, f"BraTS-GLI-00000-00{n}"))
        home.rename(data / f"BraTS-GLI-00000-00{n}")


def without(pattern: str) -> Callable[[Path], None]:
    """Remove the files of that pattern."""

    def make(data: Path) -> None:
        for path in data.glob(pattern):
            path.unlink()

    return make


def a_copy(data: Path) -> None:
    shutil.copytree(data / CASE, data / "BraTS-GLI-00009-000")
    for path in (data / "BraTS-GLI-00009-000").iterdir():
        path.rename(path.with_name(path.name.replace(CASE, "BraTS-GLI-00009-000")))


def emptied(data: Path) -> None:
    shutil.rmtree(data)
    data.mkdir()


def a_file(data: Path) -> None:
    shutil.rmtree(data)
    data.write_text("a list of scans")


def other_files(data: Path) -> None:
    emptied(data)
    (data / "scan.dcm").write_bytes(bytes(200))


OLD = os.fsdecode(b"J\xe4ger")  # in Latin-1
NAMES = [
    a_name("Jäger 二号 🧠"),
    a_name(unicodedata.normalize("NFD", "Jäger"), "Jäger in decomposed letters"),
    a_name("a case  of ours", "with spaces"),
    *map(a_name, ("a+b", "_case", "-case", "--out")),
    a_name("BraTS-GLI-00002-" + "0" * 224, "by 240 letters"),  # with -t2w.nii.gz 251 of 255 bytes
    *map(a_name, ("$(id) `id` ;&|", "@image %label", "[a]*?{b}", "a.nii.gz.b.1", "2024_01", "null")),
    a_name("a'b\"c", "with a quote ' and \""),
    row(
        *("a case called by two lines", "case", named("a\nb")),
        *(right("5 volumes that fit no naming scheme", cases=3), "no cases found"),
    ),
    row("files that end in .NII.GZ", "case", named(CASE, ".NII.GZ"), right(), right()),
    row("a name in an old code page", "case", named(OLD), "Rename that file", right(name=OLD)),
]
NO_MASKS = right(warns="no-masks", **WITHOUT_MASK)
TWO = right(masks=[f"{CASE}.nii.gz", "BraTS-GLI-00003-000.nii.gz"])
TWICE = ["is there twice"] * 2
EMPTY = ["no cases found"] * 2
NOWHERE = ["no such folder. Check the path"] * 2
SETS = [
    row("one case", "data", only(2), "at least 3", right()),
    row("two cases", "data", only(2, 3), "at least 3", TWO),
    row("all cases of one patient", "data", of_one_patient, "at least 3"),
    row("no masks at all", "data", without("*/*-seg.nii.gz"), NO_MASKS),
    row("a case without FLAIR", "data", without(f"{CASE}/*-t2f.nii.gz"), "--missing drop", "no flair image"),
    row("the same case in two folders", "data", lambda d: shutil.copytree(d / CASE, d / "again" / CASE), *TWICE),
    row("a case copied under another name", "data", a_copy, right(warns="copy", cases=5)),
    row("an empty folder", "data", emptied, *EMPTY),
    row("a folder that is not there", "data", shutil.rmtree, *NOWHERE),
    row("a file in the folder's place", "data", a_file, *NOWHERE),
    row("a folder of other files", "data", other_files, *EMPTY),
]
