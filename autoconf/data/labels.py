"""Which label values mean tumour: BraTS changed them several times, and other collections have their own order.

Regions, as BraTS scores them: wt whole tumour, tc tumour core (without oedema), et enhancing tumour.
Sources: B. Menze et al., IEEE TMI 34, 1993 (2015) and U. Baid et al., arXiv 2107.02314, for (1, 2, 4); the BraTS 2023
challenges, arXiv 2305.17033 (PED) and others, for (1, 2, 3); M. de Verdier et al., arXiv 2405.18368, for the resection
cavity; A. Kazerooni et al., arXiv 2404.15009, for the paediatric order of 2024; A. Simpson et al., arXiv 1902.09063.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from autoconf.data.scans import LayoutScans, Scan
from autoconf.errors import AutoconfError

REGIONS = ("wt", "tc", "et")


@dataclass(frozen=True)
class Scheme:
    """The meaning of a mask's values. `regions` has wt, and tc and et where the values tell them apart."""

    name: str
    meaning: dict[int, str]
    regions: dict[str, tuple[int, ...]]

    @property
    def values(self) -> set[int]:
        """Every value that a mask may hold, background included."""
        return {0, *self.meaning}


NECROSIS, OEDEMA, ENHANCING = "necrotic or non-enhancing core", "oedema", "enhancing tumour"
SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("brats2018-2021", {1: NECROSIS, 2: OEDEMA, 4: ENHANCING}, {"wt": (1, 2, 4), "tc": (1, 4), "et": (4,)}),
        Scheme("brats2023", {1: NECROSIS, 2: OEDEMA, 3: ENHANCING}, {"wt": (1, 2, 3), "tc": (1, 3), "et": (3,)}),
        # GLI and MET after surgery
        Scheme(
            "brats2024-post",
            {1: NECROSIS, 2: OEDEMA, 3: ENHANCING, 4: "resection cavity"},
            {"wt": (1, 2, 3), "tc": (1, 3), "et": (3,)},
        ),
        Scheme(
            "brats2024-ped",
            {1: ENHANCING, 2: "non-enhancing tumour", 3: "cyst", 4: OEDEMA},
            {"wt": (1, 2, 3, 4), "tc": (1, 2, 3), "et": (1,)},
        ),
        Scheme(
            "decathlon",
            {1: OEDEMA, 2: "non-enhancing tumour", 3: ENHANCING},
            {"wt": (1, 2, 3), "tc": (2, 3), "et": (3,)},
        ),
        Scheme("binary", {1: "tumour"}, {"wt": (1,)}),
    )
}
WRITTEN = SCHEMES["brats2023"]  # as the unetr3d bundle writes several regions
# The schemes that a collection may follow, the likelier first. A mask without enhancing tumour holds fewer values than
# its scheme has, so the values of a whole collection decide, not of one case.
FAMILIES = {
    "brats2018-2021": ("brats2018-2021",),
    "brats-gli": ("brats2023", "brats2024-post"),
    "brats-met": ("brats2023", "brats2024-post"),
    "brats-men": ("brats2023",),
    "brats-men-rt": ("binary",),
    "brats-ssa": ("brats2023",),
    "brats-ped": ("brats2023", "brats2024-ped"),
    "decathlon": ("decathlon",),
    "": ("binary", "brats2018-2021", "brats2023"),
}


def check_scheme(wanted: str, flag: str = "--labels") -> None:
    """Raises AutoconfError unless it is auto or a key of SCHEMES. flag: that names it."""
    if wanted not in ("auto", *SCHEMES):
        raise AutoconfError(f"{flag} {wanted}: no such scheme. There are: auto, {', '.join(SCHEMES)}.")


def choose_scheme(family: str, found: Sequence[set[int]], wanted: str = "auto", flag: str = "--labels") -> Scheme:
    """The scheme of a collection, from the values in each of its masks: the one that allows most masks.

    family: a key of FAMILIES. wanted: a key of SCHEMES, which is taken whatever the family, or auto; flag: that names
    it, for errors. A mask that the chosen scheme does not allow is the caller's to refuse. Raises AutoconfError if
    fewer than half are allowed.
    """
    check_scheme(wanted, flag)
    if wanted != "auto":
        return SCHEMES[wanted]
    allowed = {name: sum(values <= SCHEMES[name].values for values in found) for name in FAMILIES[family]}
    best = max(allowed, key=lambda name: allowed[name])  # of equals the first
    if 2 * allowed[best] < len(found):
        listed = ", ".join(map(str, sorted(set().union(*found))))
        raise AutoconfError(
            f"the masks hold the values {listed}, which no label scheme of {family or 'such data'} has. "
            f"Say what they mean: {flag} {'|'.join(SCHEMES)}."
        )
    return SCHEMES[best]


def scheme_of_names(names: dict[str, list[int]]) -> Scheme:
    """A scheme from a dataset.json's label names, which say more than their values.

    names: name -> values, without the background. Regions ("whole tumor", "tumor core") are taken as they are;
    single tissues are sorted by their names: a cavity is no tumour, oedema is no core, and "enhancing" without
    "non" is enhancing. Raises AutoconfError if nothing is tumour.
    """
    names = {_FULL_NAMES.get(name.upper(), name): values for name, values in names.items()}
    plain = {re.sub(r"[^a-z]", "", name.lower()).replace("tumour", "tumor"): v for name, v in names.items()}
    said = {region: plain.get(name) for region, name in _REGION_NAMES.items()}
    tissues = {name: values for name, values in plain.items() if name not in ("wholetumor", "tumorcore")}
    tumour = {name: values for name, values in tissues.items() if not re.search("cavity|resect|surger", name)}
    core = [values for name, values in tumour.items() if not re.search("edema|oedema|flair|snfh", name)]
    enhancing = [v for name, v in tumour.items() if "enhanc" in name and not re.search("non|necro", name)]
    regions = {
        "wt": _together([said["wt"]] if said["wt"] else tumour.values()),
        "tc": _together([said["tc"]] if said["tc"] else core if len(core) < len(tumour) else ()),
        "et": _together(enhancing),
    }
    if not regions["wt"]:
        raise AutoconfError(f"no tumour is named among its labels: {', '.join(names)}. Correct them.")
    meaning = {value: name for name, values in names.items() for value in values}
    return Scheme("dataset.json", meaning, {key: values for key, values in regions.items() if values})


_FULL_NAMES = {  # as the BraTS challenges abbreviate them
    "WT": "whole tumor",
    "TC": "tumor core",
    "ET": "enhancing tumor",
    "ED": "edema",
    "SNFH": "edema",
    "RC": "resection cavity",
}
_REGION_NAMES = {"wt": "wholetumor", "tc": "tumorcore"}


def _together(values: Iterable[Iterable[int]]) -> tuple[int, ...]:
    return tuple(sorted({value for some in values for value in some}))


def choose_schemes(
    scans: Sequence[Scan], rows: Sequence[dict[str, Any]], found: LayoutScans, wanted: str, flag: str = "--labels"
) -> dict[str, Scheme]:
    """The label scheme of each family of scans. What a dataset.json says wins, unless a scheme is wanted.

    rows: of each scan, with the values of its mask as `labels`. flag: that names the wanted scheme, for errors.
    """
    values: dict[str, list[set[int]]] = {scan.family: [] for scan in scans}
    for scan, row in zip(scans, rows, strict=True):
        if row["labels"]:
            values[scan.family].append(set(row["labels"]))
    if found.regions and wanted == "auto":
        said = Scheme("dataset.json", found.meaning or {}, {name: tuple(v) for name, v in found.regions.items()})
        return dict.fromkeys(values, said)
    return {family: choose_scheme(family, masks, wanted, flag) for family, masks in values.items()}
