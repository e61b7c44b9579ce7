"""The datalist as the checks of the data read it: cases with their side of the split, and what was measured of them."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass
from typing import Any

from autoconf.data.brats import CONTRASTS
from autoconf.data.scans import Scan
from autoconf.data.split import TESTING
from autoconf.doctor.checks import Subject
from autoconf.errors import AutoconfError

UNLABELLED = "unlabelled"
SECTIONS = ("training", TESTING, UNLABELLED)


@dataclass(frozen=True)
class Listed:
    """One case of a datalist. Paths are absolute."""

    case: str
    patient: str
    side: int | str | None  # fold, testing, or None without a mask
    images: tuple[str | None, ...]  # a path per contrast of the list (None: missing), or one path
    label: str | None
    regions: dict[str, list[int]]  # region -> label values
    channels: tuple[int, ...] = ()  # of one file with all contrasts: where each of CONTRASTS lies

    @property
    def files(self) -> list[str]:
        """Its images, each once, without the mask."""
        return list(dict.fromkeys(path for path in self.images if path))


def read_list(subject: Subject) -> dict[str, Any]:
    """The datalist as JSON says it. Raises AutoconfError if it cannot be read."""
    try:
        with open(subject.datalist, encoding="utf-8") as stream:
            content = json.load(stream)
        if content["kind"] not in ("volumes", "images") or not isinstance(content["training"], list):
            raise ValueError(f"its kind is {content['kind']!r:.40}")
        return content
    except OSError as error:
        raise AutoconfError(f"{subject.datalist}: {error.strerror}. `autoconf inspect` makes one.") from None
    except (ValueError, KeyError, TypeError) as error:
        said = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise AutoconfError(f"{subject.datalist}: not a datalist ({said}). `autoconf inspect` makes one.") from None


def root_of(subject: Subject, content: dict[str, Any]) -> str:
    """The folder that the paths of the datalist, which holds `content`, begin in: its own where it names none."""
    return content.get("dataset_dir") or os.path.dirname(os.path.abspath(subject.datalist))


def read_cases(subject: Subject) -> list[Listed]:
    """All cases of the datalist, in its order: training, testing, unlabelled."""
    content = read_list(subject)
    root = root_of(subject, content)
    return [_listed(content, section, item, root) for section in SECTIONS for item in content.get(section, [])]


def _listed(content: dict[str, Any], section: str, item: dict[str, Any], root: str) -> Listed:
    image = item["image"]
    listed = image if isinstance(image, list) else [image]
    paths = tuple(os.path.join(root, path) if path else None for path in listed)
    side = {"training": item.get("fold", 1), TESTING: TESTING, UNLABELLED: None}[section]
    names, channels = content.get("contrasts", []), ()
    if content["kind"] == "volumes" and isinstance(image, list):
        paths = tuple(paths[names.index(contrast)] if contrast in names else None for contrast in CONTRASTS)
    elif content["kind"] == "volumes":
        channels = tuple(names.index(contrast) for contrast in CONTRASTS)
    label = os.path.join(root, item["label"]) if item.get("label") else None
    regions = item.get("regions") or content.get("regions") or {}
    return Listed(item["case"], item.get("patient") or item["case"], side, paths, label, regions, channels)


def measured(subject: Subject) -> list[Any]:
    """`inspect`'s Measured of every case, from its cache where the files are unchanged. Volumes only.

    Raises AutoconfError for a file that cannot be read.
    """
    return list(_measured(subject))


@functools.lru_cache(maxsize=2)
def _measured(subject: Subject) -> tuple[Any, ...]:
    from autoconf.data.cache import Cache
    from autoconf.data.measure import measure_cases

    folder = os.path.join(subject.work or subject.scratch, ".cache")
    if not os.path.isdir(folder):
        folder = os.path.join(subject.scratch, ".cache")
    return tuple(measure_cases([scan_of(listed) for listed in read_cases(subject)], Cache(folder)))


def scan_of(listed: Listed) -> Scan:
    """The case as `inspect` knows it."""
    images = listed.images * len(CONTRASTS) if listed.channels else listed.images
    return Scan(listed.case, listed.patient, images, listed.label, listed.channels)
