"""Read a folder of 2D images, in class folders or each with a mask: names, sizes and copies."""

from __future__ import annotations

import hashlib
import io
import os
import re
import statistics
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError
from PIL.Image import Resampling

from autoconf.data.brats import patient_of, walk_files
from autoconf.data.scans import SIDES
from autoconf.errors import DataError

BOMBS = (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning)
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
# Chosen by eye on 4,477 slices of 44 classes: all pairs within these bounds showed one patient, most of them one slice.
ALIKE_BITS = 12  # of 256
ALIKE = 0.99  # correlation of the thumbnails
_IMAGE_FOLDERS = {"images", "image", "imgs", "img"}
_MASK_FOLDERS = {"masks", "mask", "labels", "label", "segmentations", "annotations", "gt", "groundtruth"}
_SLICE = re.compile(r"(?P<case>BraTS.*\d)_\d+", re.IGNORECASE)  # <case>_<plane>
_MASK_NAME = re.compile(r"_(mask|seg|segmentation|label|gt)(_\d+)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Image:
    """One image as far as a split needs it; `case` is its path below the root, which no other image shares."""

    case: str
    group: str  # the class, that is the first folder below the root; "" for an image with a mask of its own
    side: str  # training, validation or testing, if the first folder says so; the class is then the next one
    size: tuple[int, int]  # height, width in pixels
    digest: bytes  # SHA-256 of the file
    fingerprint: np.ndarray  # (4,) uint64: for 16 x 16 places, whether the picture gets brighter to the right
    thumbnail: np.ndarray  # (1024,) float16: 32 x 32 pixels, zero mean, length 1
    foreground: float | None = None  # share of the mask that is not 0


def find_images(root: str) -> list[str]:
    """Paths below root ("/" between folders) of all images, sorted. Hidden files are left out."""
    paths = (os.path.relpath(os.path.join(folder, name), root) for folder, name in walk_files(root))
    return sorted(path.replace(os.sep, "/") for path in paths if path.lower().endswith(EXTENSIONS))


def is_mask(path: str) -> bool:
    """Whether a path's folder or name says that it is a mask."""
    folder, stem = os.path.split(os.path.splitext(path)[0])
    return bool(_MASK_FOLDERS & set(folder.lower().split("/")) or _MASK_NAME.search(stem))


def pair_up(cases: list[str]) -> dict[str, str]:
    """image -> mask, for masks in a sibling folder (images/1.png, masks/1.png) or beside (1.tif, 1_mask.tif).

    cases: paths with "/" between folders. Masks have the image's name, or its name and `_mask` (or _seg, _label, _gt).
    """
    stems: dict[tuple[str, str], str] = {}  # (folder and stem of the image that it would be the mask of) -> mask
    for path in cases:
        folder, stem = os.path.split(os.path.splitext(path)[0])
        bare = _MASK_NAME.sub("", stem)
        parts = folder.split("/")
        turned = ["" if part.lower() in _MASK_FOLDERS else part for part in parts]
        if turned != parts:
            stems["/".join(turned), bare] = path
        elif bare != stem:
            stems[folder, bare] = path
    masks = set(stems.values())
    pairs = {}
    for path in cases:
        folder, stem = os.path.split(os.path.splitext(path)[0])
        emptied = "/".join("" if part.lower() in _IMAGE_FOLDERS else part for part in folder.split("/"))
        mask = stems.get((emptied, stem)) or stems.get((folder, stem))
        if mask and path not in masks:
            pairs[path] = mask
    return pairs


def read_images(root: str, cases: list[str], masks: dict[str, str] | None = None) -> Iterator[Image | DataError]:
    """Decode every image once, in order; in the place of one that cannot be used, the error that says why.

    cases: sorted paths below root; masks: image -> mask, for those that have one. Not usable are a file that cannot be
    decoded to its last row, and an image whose mask has another size or more than two values.
    """
    for case in cases:
        try:
            yield _read_image(root, case, masks or {})
        except DataError as error:
            yield error


def _read_image(root: str, case: str, masks: dict[str, str]) -> Image:
    picture, digest = _decode(os.path.join(root, case))
    share = _foreground(os.path.join(root, masks[case]), picture.size) if case in masks else None
    side, group = _side_and_class(case)
    small = np.asarray(picture.resize((17, 16), Resampling.BOX), np.int16)
    thumbnail = np.asarray(picture.resize((32, 32), Resampling.BOX), np.float32).ravel()
    thumbnail -= thumbnail.mean()
    thumbnail /= max(float(np.linalg.norm(thumbnail)), 1e-6)
    brighter = np.packbits(small[:, 1:] > small[:, :-1]).view(np.uint64)
    return Image(
        case=case,
        group="" if masks else group,
        side=side,
        size=(picture.height, picture.width),
        digest=digest,
        fingerprint=brighter,
        thumbnail=thumbnail.astype(np.float16),
        foreground=share,
    )


def _side_and_class(case: str) -> tuple[str, str]:
    """("testing", "glioma") of Testing/glioma/1.jpg, ("", "glioma") of glioma/1.jpg."""
    folders = case.split("/")[:-1]
    side = SIDES.get(folders[0].lower(), "") if len(folders) > 1 else ""
    return side, (folders[1] if side else folders[0]) if folders else ""


def patient_of_image(case: str) -> str:
    """The patient where the name tells one (BraTS cases, as the phantom's slices have); else the image itself."""
    named = _SLICE.fullmatch(os.path.splitext(os.path.basename(case))[0])
    return patient_of(named["case"]) if named else case


def copies(images: list[Image]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Pairs (indices) of exact copies, and of images so alike that one patient, even one slice, shows in both.

    Exact: the same bytes; each is paired with the first of them. Alike: at most ALIKE_BITS of 256 places differ in
    whether the picture gets brighter to the right, and the thumbnails correlate by at least ALIKE.
    """
    first: dict[bytes, int] = {}
    exact = [(first.setdefault(image.digest, i), i) for i, image in enumerate(images)]
    exact = [pair for pair in exact if pair[0] != pair[1]]
    bits = np.array([image.fingerprint for image in images])
    small = np.array([image.thumbnail for image in images])
    alike = []
    for i in range(len(images) - 1):
        near = i + 1 + np.flatnonzero(np.bitwise_count(bits[i + 1 :] ^ bits[i]).sum(axis=1) <= ALIKE_BITS)
        near = near[small[near].astype(np.float32) @ small[i].astype(np.float32) >= ALIKE]
        alike += [(i, int(j)) for j in near if images[i].digest != images[j].digest]
    return exact, alike


def _decode(path: str) -> tuple[Pillow.Image, bytes]:
    """The image in grey and the SHA-256 of its file."""
    try:
        with open(path, "rb") as file:
            content = file.read()
        with bombs_refused(), Pillow.open(io.BytesIO(content)) as image:
            return _grey(image), hashlib.sha256(content).digest()
    except (OSError, SyntaxError, ValueError, *BOMBS) as error:
        no_image = isinstance(error, UnidentifiedImageError)  # whose own words name a place in memory
        what = "of no known format" if no_image else " ".join(str(error).split())[:80]
        raise DataError("unreadable", f"{path}: not a readable image ({what}). Copy it again or remove it.") from error


@contextmanager
def bombs_refused() -> Iterator[None]:
    """Inside, one of BOMBS is raised for an image of more than 89 million pixels, of which Pillow would only warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Pillow.DecompressionBombWarning)
        yield


def _grey(image: Pillow.Image) -> Pillow.Image:
    """8-bit grey; decodes all rows, so a truncated file shows. 16-bit and float images are scaled to their range."""
    if not image.mode.startswith(("I", "F")):
        return image.convert("L")
    values = np.asarray(image.convert("F"))
    low, high = float(values.min()), float(values.max())
    return Pillow.fromarray(((values - low) * (255 / max(high - low, 1e-6))).astype(np.uint8))


def _foreground(path: str, size: tuple[int, int]) -> float:
    """Share of a mask's pixels above 0."""
    mask, _ = _decode(path)
    if mask.size != size:
        (width, height), (wide, high) = size, mask.size
        raise DataError("grid", f"{path}: is {high}x{wide} but its image is {height}x{width}. Save both at one size.")
    values = np.asarray(mask)
    found = np.unique(values)
    if len(found) > 2 or (len(found) == 2 and found[0] != 0):
        raise DataError(
            "not-labels", f"{path}: holds {len(found)} grey values, so it is no mask. Save it as PNG with 0 and 255."
        )
    return float(np.count_nonzero(values)) / values.size


def fingerprint(images: list[Image], exact: list[tuple[int, int]], alike: list[tuple[int, int]]) -> dict[str, Any]:
    """The dataset's fingerprint: classes, copies and sizes (height, width in pixels)."""
    return {
        "kind": "images",
        "n_images": len(images),
        "n_duplicates": len(exact),
        "n_duplicates_across_classes": sum(images[a].group != images[b].group for a, b in exact),
        "n_near_duplicates": len({b for _, b in alike}),
        "median_size": [int(statistics.median(image.size[axis] for image in images)) for axis in (0, 1)],
        "classes": dict(sorted(Counter(image.group for image in images if image.group).items())),
        "cases": [{"case": image.case, "size": list(image.size)} for image in images],
    }
