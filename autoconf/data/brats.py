"""Find BraTS cases in a folder tree: which four modalities and which mask belong to which case and patient.

Standard library only, and nothing of this project, so that a bundle can carry its own copy: the files
`autoconf/data/brats.py` and `bundles/unetr3d/scripts/brats.py` are the same, byte for byte (a test compares them).

Two naming schemes, as `.nii`, `.nii.gz` or `.mha` (which autoconf converts, and the bundle refuses to read), in any
nesting, also side by side in one tree:

    BraTS 2018-2021   <case>_t1   <case>_t1ce  <case>_t2   <case>_flair  <case>_seg
    BraTS 2023+       <case>-t1n  <case>-t1c   <case>-t2w  <case>-t2f    <case>-seg
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

MODALITIES = ("t1", "t1c", "t2", "flair")  # the order of a network's input channels
SCHEMES = {  # the ends of the file names: MODALITIES in order, then the mask
    "BraTS 2018-2021": ("_t1", "_t1ce", "_t2", "_flair", "_seg"),
    "BraTS 2023+": ("-t1n", "-t1c", "-t2w", "-t2f", "-seg"),
}
_ROLE = {end: role for ends in SCHEMES.values() for role, end in enumerate(ends)}
_LABEL = len(MODALITIES)  # the role after the modalities
_FILE = re.compile(
    "(?P<case>.+)(?P<end>" + "|".join(sorted(_ROLE, key=len, reverse=True)) + r")(\.nii(\.gz)?|\.mha)", re.IGNORECASE
)
_TIME_POINT = (  # names whose last group is the time point of a patient
    re.compile(r"(?P<patient>BraTS(-[A-Za-z]+)+-\d+)-\d+", re.IGNORECASE),  # BraTS-GLI-00000-000
    re.compile(r"(?P<patient>BraTS1[789]_[^_]+_[^_]+)_\d+", re.IGNORECASE),  # Brats18_CBICA_ABM_1
)


class CaseError(ValueError):
    """A folder that cannot be read as BraTS cases. The message is one line: what, where, what to do."""


@dataclass(frozen=True)
class BratsCase:
    """One scan of one patient. Paths begin with the root that was searched; None marks a file that is not there."""

    case: str
    patient: str
    image: tuple[str | None, ...]  # one path per entry of MODALITIES
    label: str | None


def find_cases(root: str) -> list[BratsCase]:
    """Every BraTS case below `root` (or `root` itself, if it is one case's folder), sorted by name.

    Follows links to folders, once each; ignores hidden files and `__MACOSX`. Returns [] where nothing fits.
    Raises CaseError if root is no folder, or if a case or one of its files is there twice.
    """
    found: dict[str, tuple[str, list[str | None]]] = {}  # case -> (folder, a path per role)
    for folder, name in walk_files(root):
        match = _FILE.fullmatch(name)
        if not match:
            continue
        case, role = match["case"], _ROLE[match["end"].lower()]
        first_folder, files = found.setdefault(case, (folder, [None] * (_LABEL + 1)))
        if first_folder != folder:
            raise CaseError(f"case '{case}' is there twice: in {first_folder} and in {folder}. Remove or rename one.")
        if files[role] is not None:
            raise CaseError(f"case '{case}': {files[role]} and {name} are the same image. Remove one.")
        files[role] = os.path.join(folder, name)
    return [
        BratsCase(case, patient_of(case), tuple(files[:_LABEL]), files[_LABEL])
        for case, (_, files) in sorted(found.items())
    ]


def walk_files(root: str) -> Iterator[tuple[str, str]]:
    """(folder, file name) of every file below root, in sorted order; hidden ones and `__MACOSX` left out.

    Links to folders are followed, each real folder once, so a link to a parent does no harm.
    """
    if not os.path.isdir(root):
        raise CaseError(f"{root}: no such folder. Check the path.")
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_raise):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        yield from ((folder, name) for name in sorted(files) if not name.startswith("."))


def patient_of(case: str) -> str:
    """The patient's name within a case's name: BraTS-GLI-00000-000 -> BraTS-GLI-00000; unknown forms stay whole."""
    for form in _TIME_POINT:
        match = form.fullmatch(case)
        if match:
            return match["patient"]
    return case


def scheme_of(case: BratsCase) -> str:
    """The key of SCHEMES that the case's files are named by."""
    stem, _ = _split_extension(next(path for path in (*case.image, case.label) if path))
    for scheme, ends in SCHEMES.items():
        if stem.lower().endswith(ends):
            return scheme
    raise CaseError(f"{stem}: not named as a BraTS file. Rename it as one of: {expected_names()}.")


def require_complete(case: BratsCase) -> None:
    """Raise CaseError, naming the file that is missing, unless all four modalities are there."""
    if None not in case.image:
        return
    known = next(path for path in (*case.image, case.label) if path)
    missing = case.image.index(None)
    name = case.case + SCHEMES[scheme_of(case)][missing] + _split_extension(known)[1]
    raise CaseError(
        f"case '{case.case}': no {MODALITIES[missing]} image in {os.path.dirname(known)}: looked for {name}. "
        "Add that file, or move the case out of the folder."
    )


def nothing_found(root: str) -> str:
    """The one-line message for a folder without cases: what was looked for and what is there instead."""
    names = [name for _, name in walk_files(root)]
    there = f"{len(names)} other files, e.g. {names[0]}" if names else "no files at all"
    looked_for = f"{expected_names()} (.nii, .nii.gz or .mha)"
    return f"no cases found in {root}: looked for {looked_for}, found {there}. Check the path."


def expected_names() -> str:
    """`<case>_t1/_t1ce/... or <case>-t1n/...`, for messages."""
    return " or ".join("<case>" + "/".join(ends) for ends in SCHEMES.values())


def _split_extension(path: str) -> tuple[str, str]:
    cut = len(path) - (7 if path.lower().endswith(".nii.gz") else 4)
    return path[:cut], path[cut:]


def _raise(error: OSError) -> None:
    raise error
