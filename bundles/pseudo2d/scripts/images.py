"""Find, read and write 2D images: which files belong to a run, and where their masks lie.

The mask of `folder/name.jpg` is `folder/name.jpg.png`: mirrored folders and the whole old name keep
`a.jpg`, `a.jpeg` and images of the same name in two classes apart.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Hashable, Iterator, Mapping

import numpy as np
import torch
from monai.transforms import MapTransform
from PIL import Image

from .errors import checked, refuse
from .files import whole_file

ALL = "all"  # in place of a fold's number: every image of `training` trains
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


def to_grey(image: Image.Image) -> Image.Image:
    """One channel, whatever the file holds; 16-bit and float greys keep their range."""
    return image.convert("F") if image.mode.startswith(("I", "F")) else image.convert("L")


def mask_name(case: str) -> str:
    """Path of the mask below its folder, for the image at path `case` below its own."""
    return f"{case}.png"


def training_items(
    datalist: str, dataset_dir: str, mask_dir: str, image_size: int = 224, fold: int | str = 0
) -> list[dict]:
    """{"image", "label", "case"} of the datalist's `training` section outside `fold`; with the fold "all", every one.

    The label is the mask in `mask_dir`; without a mask_dir, the one that the datalist names.
    """
    items, root = _section(datalist, dataset_dir, "training")
    items = [i for i in items if i.get("fold") != fold]
    return _with_masks(items, root, mask_dir, image_size, f"training outside fold {fold}")


def validation_items(
    datalist: str, dataset_dir: str, mask_dir: str, image_size: int = 224, fold: int | str = 0
) -> list[dict]:
    """The same of the `training` section inside `fold`; the `testing` section is never read here.

    With the fold "all" nothing is left to validate: fold 0 is shown, and said to have trained.
    """
    if fold == ALL:
        print("fold all: every image trains; the validation Dice is of training images and flatters", file=sys.stderr)
        fold = 0
    items, root = _section(datalist, dataset_dir, "training")
    items = [i for i in items if i.get("fold") == fold]
    return _with_masks(items, root, mask_dir, image_size, f"training in fold {fold}")


def evaluation_items(
    datalist: str, dataset_dir: str, mask_dir: str, image_size: int = 224, section: str = "testing", fold: int = 0
) -> list[dict]:
    """The same of `testing` (the default), or of `validation`, the training images inside `fold`."""
    if section == "validation":
        return validation_items(datalist, dataset_dir, mask_dir, image_size, fold)
    if section != "testing":
        refuse(f"section is {section!r}. It must be testing or validation.")
    items, root = _section(datalist, dataset_dir, section)
    return _with_masks(items, root, mask_dir, image_size, section)


def unlabelled_items(datalist: str = "", dataset_dir: str = "") -> list[dict]:
    """{"image", "case"} of every image of a datalist, or else of every image below `dataset_dir`."""
    if not datalist:
        return inference_items("", dataset_dir)
    items = []
    for section in ("training", "testing", "unlabelled"):
        found, root = _section(datalist, dataset_dir, section, may_be_empty=True)
        items += [{"image": os.path.join(root, i["image"]), "case": i["image"]} for i in found]
    if not items:
        refuse(f"{datalist} lists no image. `autoconf inspect` writes a datalist.")
    return _there(sorted(items, key=lambda item: item["case"]))


def inference_items(datalist: str = "", dataset_dir: str = "") -> list[dict]:
    """{"image", "case"} of a datalist's `testing` section, or else of every image below `dataset_dir`."""
    if datalist:
        items, root = _section(datalist, dataset_dir, "testing")
        items = [{"image": os.path.join(root, i["image"]), "case": i["image"]} for i in items]
    elif dataset_dir:
        items = folder_items(dataset_dir)
    else:
        refuse("nothing to read. Give --dataset_dir FOLDER of images, or --datalist FILE.")
    return _there(items)


def folder_items(folder: str) -> list[dict]:
    """{"image", "case"} of every image below a folder, sorted by path; hidden files are left out."""
    if not os.path.isdir(folder):
        refuse(f"{folder}: no such folder. Check --dataset_dir.")
    items = []
    for where, folders, names in os.walk(folder, followlinks=True, onerror=_unreadable):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX")
        for name in names:
            if name.lower().endswith(EXTENSIONS) and not name.startswith("."):
                path = os.path.join(where, name)
                items.append({"image": path, "case": os.path.relpath(path, folder).replace(os.sep, "/")})
    if not items:
        refuse(f"no images found in {folder}: looked for {' '.join(EXTENSIONS)}. Check --dataset_dir.")
    return sorted(items, key=lambda item: item["case"])


def _unreadable(error: OSError) -> None:
    """What os.walk would pass over in silence."""
    refuse(f"{error.filename} cannot be read ({error.strerror}). Check its permissions.")


def _section(datalist: str, dataset_dir: str, section: str, may_be_empty: bool = False) -> tuple[list[dict], str]:
    """One section of the datalist and the folder that its paths start from."""
    if not datalist:
        refuse("no datalist. Make one with `python -m autoconf inspect DATA --out WORK`; give it as --datalist FILE.")
    try:
        with open(datalist, encoding="utf-8") as stream:
            content = checked(json.load(stream), "object", "it")
        items = checked(content.get(section, []) if may_be_empty else content[section], "list", section)
        for item in items:
            _check(item)
        root = root_of(content, datalist, dataset_dir)
    except OSError as error:
        refuse(f"cannot read datalist {datalist}: {error.strerror}.")
    except (ValueError, KeyError, RecursionError) as error:
        refuse(f"{datalist} is not a datalist of 2D images ({_what(error)}). `autoconf inspect` writes one.")
    if not items and not may_be_empty:
        refuse(f"{datalist}: its '{section}' list is empty.")
    return items, root


def root_of(content: dict, datalist: str, dataset_dir: str) -> str:
    """The folder that a datalist's paths start from: `dataset_dir`, or the one it names, or its own.

    Raises ValueError if what it names is no text.
    """
    named = content.get("dataset_dir")
    return dataset_dir or checked(os.path.dirname(datalist) if named is None else named, "text", "dataset_dir")


def _check(item: dict) -> None:
    """Raise ValueError or KeyError for an entry of the datalist that is no 2D image."""
    image = checked(checked(item, "object", "an entry")["image"], "text", "an image (a list is for volumes)")
    if os.path.isabs(image) or ".." in image.replace(os.sep, "/").split("/"):  # masks lie below a folder as images do
        raise ValueError(f"an image is no path below dataset_dir: {image!r:.200}")
    if item.get("fold") is not None:
        checked(item["fold"], "whole number", f"the fold of {image!r}")
    if item.get("label") is not None:
        checked(item["label"], "text", f"the label of {image!r}")


def _with_masks(items: list[dict], root: str, mask_dir: str, image_size: int, what: str) -> list[dict]:
    if not items:
        refuse(f"the datalist has no image for {what}. Choose another with --fold.")
    if not mask_dir and not all(isinstance(item.get("label"), str) for item in items):
        refuse("no mask_dir. Make masks with `run pseudo_labelling`, then give --mask_dir OUTPUT_DIR/masks.")
    found = []
    for item in items:
        mask = os.path.join(mask_dir, mask_name(item["image"])) if mask_dir else os.path.join(root, item["label"])
        found.append({"image": os.path.join(root, item["image"]), "label": mask, "case": item["image"]})
    return _there(found, (image_size, image_size) if mask_dir else None)


def _what(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _there(items: list[dict], mask_size: tuple[int, int] | None = None) -> list[dict]:
    """Refuse a list with a file that is missing or cannot be decoded to its last row (0.1 ms each).

    mask_size: (width, height) in pixels that the masks must have; None: that of their images.
    """
    for item in items:
        for key, cure in (("image", "Check --dataset_dir"), ("label", "Run pseudo_labelling, or check --mask_dir")):
            path = item.get(key)
            if path is None:
                continue
            try:
                with _bombs_refused(), Image.open(path) as image:
                    image.load()
                    size = image.size
            except FileNotFoundError:
                refuse(f"{path} is not there. {cure}.")
            except (OSError, SyntaxError, ValueError, *BOMBS) as error:
                refuse(f"{path} is not a readable image ({error}). Copy it again or remove it.")
            if key == "image":
                own = size
            elif size != (mask_size or own):
                held, wanted = ("x".join(map(str, s)) for s in (size, mask_size or own))
                cure = "Run pseudo_labelling with that --image_size" if mask_size else "Save it at its image's size"
                refuse(f"{path} is {held} pixels but must be {wanted}. {cure}.")
    return items


@contextlib.contextmanager
def _bombs_refused() -> Iterator[None]:
    """Inside, one of BOMBS is raised for an image of more than 89 million pixels, of which Pillow would only warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def write_mask(mask: np.ndarray, path: str) -> None:
    """Write a (H, W) binary array as a greyscale PNG of exactly 0 and 255, whole or not at all."""
    write_grey(np.where(mask, 255, 0).astype(np.uint8), path)


def write_grey(values: np.ndarray, path: str) -> None:
    """Write (H, W) uint8 as a greyscale PNG, whole or not at all."""
    with whole_file(path) as file:
        Image.fromarray(values).save(file, format="PNG")


class SaveMaskd(MapTransform):
    """Write a (1, H, W) binary mask to `output_dir`, named after the item's `case`; no case, no file."""

    def __init__(self, keys: str, output_dir: str) -> None:
        super().__init__(keys)
        self.output_dir = output_dir

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        for key in self.key_iterator(d):
            if "case" in d:
                mask = np.asarray(d[key].detach().cpu())[0] > 0
                write_mask(mask, os.path.join(self.output_dir, mask_name(d["case"])))
        return d
