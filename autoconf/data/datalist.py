"""The datalist: which cases there are, where their files lie, and which train, validate and test them.

One reader, one writer, one refusal. `docs/datalist.schema.json` says the same for other programs; a bundle, which
stands alone, has a parser of its own. Tests hold the schema to what is written here and to what the bundles read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from autoconf.data.brats import MODALITIES, patient_of
from autoconf.data.split import TESTING
from autoconf.errors import AutoconfError
from autoconf.output import to_json

TRAINING, UNLABELLED = "training", "unlabelled"
SECTIONS = (TRAINING, TESTING, UNLABELLED)
VOLUMES, IMAGES = "volumes", "images"
NAME = "datalist.json"  # in the folder that `inspect` wrote
MADE_BY_PROGRAMS = ("soft", "ignore", "pseudo")  # keys of a case whose mask a program made

Regions = Mapping[str, tuple[int, ...]]  # wt, tc, et -> label values
Side = int | str | None  # the fold of a case; testing; None of an unlabelled one


@dataclass(frozen=True)
class Case:
    """One scan of a patient, or one 2D image. Paths are absolute.

    images: of a volume a path per modality of the list, None where it is missing, or one file if `stacked`; of an image
    itself. more: what other programs wrote beside it, kept as it is.
    """

    name: str
    patient: str
    images: tuple[str | None, ...]
    section: str = TRAINING
    fold: int | None = None  # of a training case: the fold that it validates
    label: str | None = None
    stacked: bool = False  # one file holds all modalities on its last axis
    regions: Regions | None = None  # its own, where they are not those of the list
    patient_side: Side = None  # of an unlabelled case: where the labelled ones of its patient are
    group: str = ""  # the class of an image
    collection: str = ""  # where it comes from
    visit: str = ""  # the date, or the number, of a patient's scan
    patient_from: str = ""  # how the patient is known: a table, a name, a folder
    scheme: str = ""  # of its label values, where cases differ
    label_from: str = ""  # who or what made its mask
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def side(self) -> Side:
        """Where the split has it: a fold, training where none is said, testing, or None of an unlabelled one."""
        return {TRAINING: TRAINING if self.fold is None else self.fold, TESTING: TESTING}.get(self.section)

    @property
    def files(self) -> list[str]:
        """Its images, each once, without the mask."""
        return list(dict.fromkeys(path for path in self.images if path))

    def without_truth(self) -> Case:
        """The same as a scan that nobody segmented: no mask, and nothing that was made of one."""
        more = {key: value for key, value in self.more.items() if key not in MADE_BY_PROGRAMS}
        return replace(self, label=None, regions=None, fold=None, label_from="", more=more)


@dataclass(frozen=True)
class Datalist:
    """Cases in the order of the file: training, testing, unlabelled. root: what relative paths in the file start from.

    modalities: of volumes, in the order of each case's `images`. meaning: label value -> name, as text.
    """

    name: str
    kind: str
    root: str
    cases: tuple[Case, ...]
    seed: int | None = None
    layout: str = ""
    modalities: tuple[str, ...] = ()
    meaning: Mapping[str, str] | None = None
    regions: Regions | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_3d(self) -> bool:
        return self.kind == VOLUMES

    @property
    def training(self) -> list[Case]:
        return self.section(TRAINING)

    @property
    def testing(self) -> list[Case]:
        return self.section(TESTING)

    @property
    def unlabelled(self) -> list[Case]:
        return self.section(UNLABELLED)

    @property
    def folds(self) -> list[int]:
        """Those that training cases have, in order."""
        return sorted({case.fold for case in self.training if case.fold is not None})

    def section(self, name: str) -> list[Case]:
        return [case for case in self.cases if case.section == name]

    def validating(self, fold: int = 0) -> list[Case]:
        """The training cases that this fold holds out."""
        return [case for case in self.training if case.fold == fold]

    def learning(self, fold: int = 0) -> list[Case]:
        """The training cases outside the fold."""
        return [case for case in self.training if case.fold != fold]

    def with_cases(self, cases: Iterable[Case]) -> Datalist:
        """The same list with other cases, sorted by section."""
        ordered = sorted(cases, key=lambda case: SECTIONS.index(case.section))
        return replace(self, cases=tuple(ordered))

    def regions_of(self, case: Case) -> Regions | None:
        """The label values of each region in the case's mask; None where nothing is said."""
        return case.regions or self.regions

    def file_of(self, case: Case, modality: str) -> tuple[str, int | None] | None:
        """The file that holds a modality, and which channel of it (None: the whole file); None if the case lacks it."""
        if modality not in self.modalities:
            return None
        place = self.modalities.index(modality)
        if case.stacked:
            return (case.images[0] or "", place)
        path = case.images[place]
        return (path, None) if path else None

    def plain(self) -> dict[str, Any]:
        """As JSON has it; paths below the root are relative to it, with "/" between folders."""
        content: dict[str, Any] = {"name": self.name, "kind": self.kind, "dataset_dir": self.root}
        content |= {"seed": self.seed} if self.seed is not None else {}
        content |= {"layout": self.layout} if self.layout else {}
        content |= {"modalities": list(self.modalities)} if self.modalities else {}
        content |= {"labels": dict(self.meaning)} if self.meaning is not None else {}
        content |= {"regions": _listed(self.regions)} if self.regions is not None else {}
        sections = {name: [self._plain(case) for case in self.section(name)] for name in SECTIONS}
        return content | dict(self.more) | sections

    def _plain(self, case: Case) -> dict[str, Any]:
        item: dict[str, Any] = {"case": case.name, "patient": case.patient}
        item |= {"fold": case.fold} if case.fold is not None else {}
        item |= {"class": case.group} if case.group else {}
        images = [self._relative(path) for path in case.images]
        item["image"] = images if self.is_3d and not case.stacked else images[0]
        item |= {"label": self._relative(case.label)} if case.label else {}
        item |= {"regions": _listed(case.regions)} if case.regions else {}
        item |= {"side": case.patient_side} if case.patient_side is not None else {}
        return item | {key: getattr(case, key) for key in TEXTS if getattr(case, key)} | dict(case.more)

    def _relative(self, path: str | None) -> str | None:
        if path is None:
            return None
        relative = os.path.relpath(path, self.root).replace(os.sep, "/")
        return path if relative.startswith("../") else relative

    def text(self) -> str:
        """The file's content."""
        return to_json(self.plain())


TEXTS = ("collection", "visit", "patient_from", "scheme", "label_from")  # of a case, kept under their own names


def read_datalist(path: str, root: str = "") -> Datalist:
    """Read and check a datalist; no image is opened.

    root: where the data lie now, if not where the list says. Raises AutoconfError: no such file, or no datalist.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream)
        return parse(content, os.path.dirname(os.path.abspath(path)), root)
    except FileNotFoundError:
        raise AutoconfError(f"{path} is not there. {_cure(path)}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise AutoconfError(f"{path}: not a datalist ({why}). {_cure(path)}") from None


def _cure(path: str) -> str:
    return f"Make it with: python -m autoconf inspect DATA --out {os.path.dirname(path) or '.'}"


def parse(content: Any, folder: str, root: str = "") -> Datalist:
    """A datalist from what its JSON holds. folder: of the file. Raises ValueError, TypeError or KeyError for others."""
    kind = content["kind"]
    if kind not in (VOLUMES, IMAGES):
        raise ValueError(f"its kind is {kind!r:.60}, not {VOLUMES} or {IMAGES}")
    if "contrasts" in content:
        raise ValueError("its key `contrasts` is called `modalities` now")
    named = _text(content.get("dataset_dir") or "", "dataset_dir")
    root = os.path.abspath(root or named or folder)
    modalities = tuple(
        _text(name, "a contrast") for name in content.get("modalities") or (MODALITIES * (kind == VOLUMES))
    )
    if not isinstance(content[TRAINING], list):
        raise TypeError("its training is no list of cases")
    cases = [
        _case(item, section, kind, root, modalities) for section in SECTIONS for item in content.get(section) or []
    ]
    known = {"name", "kind", "dataset_dir", "seed", "layout", "modalities", "labels", "regions", *SECTIONS}
    return Datalist(
        name=_text(content.get("name") or "", "name"),
        kind=kind,
        root=root,
        cases=tuple(cases),
        seed=content.get("seed"),
        layout=_text(content.get("layout") or "", "layout"),
        modalities=modalities,
        meaning=content.get("labels"),
        regions=_regions(content.get("regions"), "regions"),
        more={key: value for key, value in content.items() if key not in known},
    )


KNOWN = ("case", "patient", "fold", "class", "image", "label", "regions", "side", *TEXTS)


def _case(item: Any, section: str, kind: str, root: str, modalities: tuple[str, ...]) -> Case:
    name = _text(item["case"], "the name of a case")
    of = f"of case {name!r:.60}"
    image = item["image"]
    listed = isinstance(image, list)
    if listed and (kind == IMAGES or len(image) != len(modalities) or not any(image)):
        raise ValueError(f"the image {of} is no path, and no list of {len(modalities)} paths")
    paths = [None if path is None else _text(path, f"a path {of}") for path in (image if listed else [image])]
    if not listed and paths[0] is None:
        raise ValueError(f"the image {of} is no path")
    fold, side = item.get("fold"), item.get("side")
    if fold is not None and type(fold) is not int:
        raise ValueError(f"the fold {of} is {fold!r:.60}, no whole number")
    if side is not None and type(side) is not int and side != TESTING:
        raise ValueError(f"the side {of} is {side!r:.60}, no fold and not {TESTING}")
    label = _text(item.get("label") or "", f"the label {of}")
    return Case(
        name=name,
        patient=_text(item.get("patient") or patient_of(name), f"the patient {of}"),
        images=tuple(os.path.join(root, path) if path is not None else None for path in paths),
        section=section,
        fold=fold,
        label=os.path.join(root, label) if label else None,
        stacked=kind == VOLUMES and not listed,
        regions=_regions(item.get("regions"), f"the regions {of}"),
        patient_side=side,
        group=_text(item.get("class") or "", f"the class {of}"),
        more={key: value for key, value in item.items() if key not in KNOWN},
        **{key: _text(item.get(key) or "", f"the {key} {of}") for key in TEXTS},
    )


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} is no text: {value!r:.60}")
    return value


def _regions(regions: Any, what: str) -> Regions | None:
    if regions is None:
        return None
    for name, values in regions.items():
        if not isinstance(values, list) or not values or not all(type(value) is int for value in values):
            raise ValueError(f"{what}: the label values of {name!r:.60} are no list of whole numbers")
    return {name: tuple(values) for name, values in regions.items()}


def _listed(regions: Regions | None) -> dict[str, list[int]]:
    return {name: list(values) for name, values in (regions or {}).items()}


def check_kind(where: str, kind: str, bundle: str, is_3d: bool) -> None:
    """Raise AutoconfError if a bundle for volumes is given images, or the other way round. kind: of the data."""
    if (kind == VOLUMES) is is_3d:
        return
    needs, give = ("volumes", "a folder of cases") if is_3d else ("2D images", "a folder of images")
    holds = "volumes" if kind == VOLUMES else "2D images"
    raise AutoconfError(f"{where} holds {holds}; bundle '{bundle}' needs {needs}. Inspect {give}.")
