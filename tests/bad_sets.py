"""Bad input: names of files and folders, and data sets that lack what a data set needs."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

from helpers_bad_inputs import CASE, ENDS, Kind, refused, right

OTHERS = [f"BraTS-GLI-0000{n}-000" for n in range(4) if n != 2]


def named(name: str, ending: str = ".nii.gz") -> Callable[[Path], None]:
    """Give a case's folder and files another name."""

    def make(home: Path) -> None:
        other = home.with_name(name)
        home.rename(other)
        for end in ENDS:
            (other / f"{CASE}-{end}.nii.gz").rename(other / f"{name}-{end}{ending}")

    return make


def a_name(what: str, name: str) -> Kind:
    return Kind(f"a case called {what}", "case", named(name), right(name=name), right(name=name), right(name=name))


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


def without_masks(data: Path) -> None:
    for path in data.glob("*/*-seg.nii.gz"):
        path.unlink()


def no_flair(data: Path) -> None:
    (data / CASE / f"{CASE}-t2f.nii.gz").unlink()


def twice(data: Path) -> None:
    shutil.copytree(data / CASE, data / "again" / CASE)


def a_copy(data: Path) -> None:
    shutil.copytree(data / CASE, data / "BraTS-GLI-00009-000")
    for path in (data / "BraTS-GLI-00009-000").iterdir():
        path.rename(path.with_name(path.name.replace(CASE, "BraTS-GLI-00009-000")))


def emptied(data: Path) -> None:
    shutil.rmtree(data)
    data.mkdir()


def removed(data: Path) -> None:
    shutil.rmtree(data)


def a_file(data: Path) -> None:
    shutil.rmtree(data)
    data.write_text("a list of scans")


def other_files(data: Path) -> None:
    emptied(data)
    (data / "scan.dcm").write_bytes(bytes(200))


LONG = "BraTS-GLI-00002-" + "0" * 224  # with -t2w.nii.gz 251 of 255 bytes
NAMES = [
    a_name("Jäger 二号 🧠", "Jäger 二号 🧠"),
    a_name("Jäger in decomposed letters", unicodedata.normalize("NFD", "Jäger")),
    a_name("with spaces", "a case  of ours"),
    a_name("a+b", "a+b"),
    a_name("_case", "_case"),
    a_name("-case", "-case"),
    a_name("--out", "--out"),
    a_name("by 240 letters", LONG),
    a_name("$(id) `id` ;&|", "$(id) `id` ;&|"),
    a_name("@image %label", "@image %label"),
    a_name("[a]*?{b}", "[a]*?{b}"),
    a_name("a.nii.gz.b.1", "a.nii.gz.b.1"),
    a_name("2024_01", "2024_01"),
    a_name("null", "null"),
    a_name("with a quote ' and \"", "a'b\"c"),
]
SETS = [
    Kind(
        *("a case called by two lines", "case", named("a\nb")),
        *(right("5 volumes that fit no naming scheme", cases=3), refused("no cases found")),
    ),
    Kind("files that end in .NII.GZ", "case", named(CASE, ".NII.GZ"), right(), right()),
    Kind(
        "a name in an old code page",
        "case",
        named(os.fsdecode(b"J\xe4ger")),
        refused("Rename that file"),
        right(name=os.fsdecode(b"J\xe4ger")),
    ),
    Kind("one case", "data", only(2), refused("at least 3"), right()),
    Kind(
        "two cases",
        "data",
        only(2, 3),
        refused("at least 3"),
        right(masks=[f"{CASE}.nii.gz", "BraTS-GLI-00003-000.nii.gz"]),
    ),
    Kind("all cases of one patient", "data", of_one_patient, refused("at least 3"), None),
    Kind(
        "no masks at all",
        "data",
        without_masks,
        right(warns="no-masks", labels=None, tumour_voxels=None, tumour_ml=None, label_voxels=None, outside_head=None),
        None,
    ),
    Kind("a case without FLAIR", "data", no_flair, refused("--missing drop"), refused("no flair image")),
    Kind("the same case in two folders", "data", twice, refused("is there twice"), refused("is there twice")),
    Kind("a case copied under another name", "data", a_copy, right(warns="copy", cases=5), None),
    Kind("an empty folder", "data", emptied, refused("no cases found"), refused("no cases found")),
    Kind("a folder that is not there", "data", removed, refused("no such folder"), refused("no such folder")),
    Kind("a file in the folder's place", "data", a_file, refused("no such folder"), refused("no such folder")),
    Kind("a folder of other files", "data", other_files, refused("no cases found"), refused("no cases found")),
]
KINDS = NAMES + SETS
