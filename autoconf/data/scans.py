"""What every layout of files is read into: one scan of one patient, and the names of its modalities."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from autoconf.data.brats import MODALITIES
from autoconf.data.problems import Problem

# Spellings of the four modalities, once case, blanks and punctuation are gone. A T1 with contrast agent is named in
# many ways; all of them say so with a C, CE, GD or POST.
_SPELLINGS = {
    "t1": "t1 t1w t1n t1pre t1native t1weighted",
    "t1c": "t1c t1ce t1gd t1gado t1post t1wce t1cew t1wgd t1wpost t1contrast cet1 t1km",
    "t2": "t2 t2w t2weighted",
    "flair": "flair t2f t2flair fl fla t2wflair",
}
_MODALITY = {spelling: modality for modality, spellings in _SPELLINGS.items() for spelling in spellings.split()}
SIDES = {  # what people call the folders of a split
    **dict.fromkeys(("train", "training", "tr"), "training"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "ts"), "testing"),
}


@dataclass(frozen=True)
class Scan:
    """One scan of one patient. Paths begin with the folder that was searched."""

    case: str  # unique in the data set
    patient: str
    image: tuple[str | None, ...]  # a path per entry of MODALITIES, None if it is missing; or one path in all places
    label: str | None = None
    channels: tuple[int, ...] = ()  # of one 4D file: where on its last axis each entry of MODALITIES lies
    family: str = ""  # which label values to expect: a key of labels.FAMILIES, or "" if the values alone decide
    side: str = ""  # what the layout itself says: training, validation, testing, or nothing
    convert: bool = False  # not NIfTI: written as NIfTI before anything reads it

    @property
    def missing(self) -> tuple[str, ...]:
        """The modalities that have no file."""
        return tuple(contrast for contrast, path in zip(MODALITIES, self.image, strict=True) if path is None)

    @property
    def files(self) -> list[str]:
        """Every file of the scan once, the label last."""
        return list(dict.fromkeys(path for path in (*self.image, self.label) if path))


@dataclass(frozen=True)
class LayoutScans:
    """What a layout recognised below a folder."""

    layout: str  # a key of layouts.LAYOUTS
    scans: list[Scan]
    notes: list[str] = field(default_factory=list)  # what a person should know, one line each
    regions: dict[str, list[int]] | None = None  # wt, tc, et -> label values, if the layout itself says so
    meaning: dict[int, str] | None = None  # label value -> name, likewise
    folds: dict[str, int] | None = None  # case -> fold, if the layout itself says so
    others: frozenset[str] = frozenset()  # files that it recognised and did not need
    problems: list[Problem] = field(default_factory=list)  # cases that cannot be among the scans, lone masks


def first_twice(names: Iterable[str]) -> str | None:
    """The first name that is there more than once, or None."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def is_metaimage(path: str | None) -> bool:
    """True for an .mha file, which neither nibabel nor the bundles read, so that its scan must be converted."""
    return (path or "").lower().endswith(".mha")


def modality_of(name: str) -> str | None:
    """The entry of MODALITIES that a person means by `name` (T1-weighted, t1gd, FLAIR, ...), or None."""
    return _MODALITY.get(re.sub(r"[^a-z0-9]", "", name.lower()))
