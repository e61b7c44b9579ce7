"""Read a folder of 2D images, one sub-folder per class: names, sizes and exact duplicates."""

from __future__ import annotations

import hashlib
import os
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from autoconf.errors import AutoconfError
from autoconf.inspect.brats import walk_files

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Image:
    """One image of a class folder; `case` is its path below the root, which no other image shares."""

    case: str
    patient: str  # the first of the images with the same bytes: no patient is known, but copies stay together
    group: str  # the class, that is the first folder below the root
    size: tuple[int, int]  # height, width in pixels


def find_images(root: str) -> list[str]:
    """Paths below root ("/" between folders) of all images, sorted. Hidden files are left out."""
    paths = (os.path.relpath(os.path.join(folder, name), root) for folder, name in walk_files(root))
    return sorted(path.replace(os.sep, "/") for path in paths if path.lower().endswith(EXTENSIONS))


def read_images(root: str, cases: list[str]) -> Iterator[Image]:
    """Decode every image once, in order, and name its group of copies.

    cases: sorted paths below root. Raises AutoconfError for an image that lies in no class folder or that
    cannot be decoded to its last row.
    """
    first: dict[bytes, str] = {}
    for case in cases:
        if "/" not in case:
            raise AutoconfError(
                f"{os.path.join(root, case)}: lies in no class folder. Move it into a sub-folder named by its class."
            )
        size, digest = _decode(os.path.join(root, case))
        yield Image(case, first.setdefault(digest, case), case.split("/")[0], size)


def _decode(path: str) -> tuple[tuple[int, int], bytes]:
    """(height, width) of the image and the SHA-256 of its file."""
    import io

    from PIL import Image as Pillow

    with open(path, "rb") as file:
        content = file.read()
    try:
        with Pillow.open(io.BytesIO(content)) as image:
            image.load()  # decodes all rows, so a truncated file shows
            return (image.height, image.width), hashlib.sha256(content).digest()
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
        raise AutoconfError(f"{path}: not a readable image ({error}). Copy it again or remove it.") from error


def fingerprint(images: list[Image]) -> dict[str, Any]:
    """The dataset's fingerprint: classes, copies and sizes (height, width in pixels)."""
    return {
        "kind": "images",
        "n_images": len(images),
        "n_duplicates": sum(image.case != image.patient for image in images),
        "n_duplicates_across_classes": sum(image.group != image.patient.split("/")[0] for image in images),
        "median_size": [int(statistics.median(image.size[axis] for image in images)) for axis in (0, 1)],
        "classes": dict(sorted(Counter(image.group for image in images).items())),
        "cases": [{"case": image.case, "size": list(image.size)} for image in images],
    }
