"""Pseudo-masks without a label: Otsu's threshold, 5x5 opening and closing, the largest object; or label functions.

Source of the recipe: the 2D stage of the study "from pseudo-segmentation to transformer-based 3D
brain tumour segmentation"; threshold: N. Otsu, IEEE Trans. SMC 9(1), 62-66 (1979).
What it marks is the bright part of the picture, mostly head, not the tumour: it proves that data,
loss and metrics work, no more. docs/README.md gives the measured distance from real tumour masks.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from skimage.filters import threshold_otsu
from skimage.measure import label as components_of
from skimage.morphology import closing, footprint_rectangle, opening
from skimage.segmentation import find_boundaries
from tqdm import tqdm

from .errors import refuse
from .files import whole_file
from .fusion import Labelled, label, majority, present
from .images import mask_name, root_of, write_grey, write_mask
from .label_audit import Row, audit, write_csv
from .pictures import scan_of

MIN_SHARE = 0.005  # of the image: a smaller component is a speck, not an object
COLUMNS = ("image", "mask", "threshold", "foreground_fraction", "objects", "warnings")


@dataclass(frozen=True)
class PseudoMask:
    """A mask and how it came about."""

    mask: np.ndarray  # (H, W) bool
    threshold: float  # in the image's own units; NaN for a constant image
    objects: int  # of at least MIN_SHARE, before the largest was kept
    warnings: tuple[str, ...]
    others: Mapping[str, np.ndarray] = field(default_factory=dict)  # (H, W) in 0..1, by the folder they belong in


def pseudo_mask(image: np.ndarray, size: int = 5, join_gap: int = 45) -> PseudoMask:
    """Mark the largest bright object.

    image: (H, W) numbers, any unit. size: side in pixels of the square that opens and closes.
    join_gap: pixels. Pieces with a smaller gap between them are one object, so that a head is not
    torn apart at its dark skull and reduced to its brightest fragment; 0 keeps one connected piece.
    Returns an empty mask, with a warning, where the image is constant or nothing large enough is left.
    """
    if image.min() == image.max():
        return PseudoMask(np.zeros(image.shape, bool), float("nan"), 0, ("constant image",))
    threshold = float(threshold_otsu(image))
    square = footprint_rectangle((size, size))
    bright = closing(opening(image > threshold, square), square)
    # Two pieces touch once both have grown by half the gap.
    grown = distance_transform_edt(~bright) <= join_gap / 2
    objects = np.where(bright, components_of(grown, connectivity=1), 0)
    areas = np.bincount(objects.ravel())[1:]
    large = int((areas >= MIN_SHARE * image.size).sum())
    if not large:
        return PseudoMask(np.zeros(image.shape, bool), threshold, 0, ("nothing bright enough is large enough",))
    mask = objects == 1 + int(areas.argmax())
    return PseudoMask(mask, threshold, large, _warnings(mask, large))


def _warnings(mask: np.ndarray, objects: int) -> tuple[str, ...]:
    share = mask.mean()
    found = []
    if share > 0.9:
        found.append("covers over 90 % of the image")
    if objects > 1:
        found.append(f"{objects} large objects")
    return tuple(found)


class PseudoLabeller:
    """Write a mask for every item, a table and a picture, all or nothing.

    items: {"image", "case"}. read: image path item -> {"image": (1, H, W) tensor}, the picture scaled to
    the longer side. pad: {"image", "label"} of any size -> of the size that training reads.
    labelers, seeded, vote_rules, fusion, rules, unsure: as of `fusion.label`; no labelers: the study's Otsu.
    Files: OUTPUT_DIR/masks/<case>.png, OUTPUT_DIR/pseudo_labels.csv, OUTPUT_DIR/montage.png; with labelers also
    soft/<case>.png, ignore/<case>.png and audit.csv; with a datalist that lists unlabelled images datalist.json, where
    those name their masks as `pseudo_label`, `soft` and `ignore`.
    """

    def __init__(
        self,
        items: list[dict],
        read: Callable,
        pad: Callable,
        output_dir: str,
        join_gap: int = 45,
        labelers: Mapping[str, Callable | None] | None = None,
        seeded: Mapping[str, Callable | None] | None = None,
        vote_rules: Sequence[Callable | None] = (),
        fusion: Callable = majority,
        rules: Sequence[Callable | None] = (),
        unsure: Sequence[float] = (0.35, 0.65),
        datalist: str = "",
        dataset_dir: str = "",
    ) -> None:
        self.items = items
        self.read = read
        self.pad = pad
        self.output_dir = output_dir
        self.join_gap = join_gap
        self.how = {"labelers": present(labelers or {}), "seeded": present(seeded or {}), "fusion": fusion}
        self.how |= {"vote_rules": present(vote_rules), "rules": present(rules), "unsure": unsure}
        self.datalist, self.dataset_dir = datalist, dataset_dir
        self.audited: list[Row] = []

    def run(self) -> None:
        kinds = ("soft", "ignore", "masks") if self.how["labelers"] else ("masks",)
        partial = os.path.join(self.output_dir, "masks.partial")
        for kind in kinds:
            if os.path.exists(os.path.join(self.output_dir, kind)):
                there = os.path.join(self.output_dir, kind)
                refuse(f"{there} is there already. Remove it or choose another --output_dir.")
        masks = os.path.join(self.output_dir, "masks")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            rows, tiles = self._label_all(partial)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        with open(os.path.join(self.output_dir, "pseudo_labels.csv"), "w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([COLUMNS, *rows])
        montage(tiles).save(os.path.join(self.output_dir, "montage.png"))
        if self.audited:
            write_csv(self.audited, os.path.join(self.output_dir, "audit.csv"))
        self._write_datalist({row[0] for row in rows if float(row[3]) > 0}, kinds)
        for kind in kinds:  # the masks last: they say that all others are there
            os.replace(os.path.join(partial, kind), os.path.join(self.output_dir, kind))
        os.rmdir(partial)
        warned = sum(bool(row[-1]) for row in rows)
        print(f"pseudo_labelling: {len(rows)} masks in {masks}, {warned} with a warning (pseudo_labels.csv)")

    def _label_all(self, folder: str) -> tuple[list[tuple], list[np.ndarray]]:
        rows, tiles = [], []
        shown = set(np.linspace(0, len(self.items) - 1, num=min(48, len(self.items))).astype(int))
        for index, item in enumerate(tqdm(self.items, "pseudo_labelling", disable=not sys.stderr.isatty())):
            try:
                image = self.read(item)["image"]
            except Exception as error:  # noqa: BLE001 - whatever the decoder raises, the file is at fault
                refuse(f"{item['image']} is not a readable image ({_root_cause(error)}). Copy it again or remove it.")
            found = self._find(np.asarray(image)[0], item["case"])
            padded = self.pad({"image": image, "label": torch.from_numpy(found.mask[None].astype(np.float32))})
            picture, mask = np.asarray(padded["image"])[0], np.asarray(padded["label"])[0] > 0
            write_mask(mask, os.path.join(folder, "masks", mask_name(item["case"])))
            for kind, values in found.others.items():
                padded = self.pad({"image": image, "label": torch.from_numpy(values[None].astype(np.float32))})
                grey = np.rint(255 * np.asarray(padded["label"])[0]).astype(np.uint8)
                write_grey(grey, os.path.join(folder, kind, mask_name(item["case"])))
            share, warnings = f"{found.mask.mean():.4f}", "; ".join(found.warnings)
            rows.append(
                (item["case"], mask_name(item["case"]), f"{found.threshold:.4f}", share, found.objects, warnings)
            )
            if index in shown:
                tiles.append(outlined(picture, mask))
        return rows, tiles

    def _find(self, picture: np.ndarray, case: str) -> PseudoMask:
        if not self.how["labelers"]:
            return pseudo_mask(picture, join_gap=self.join_gap)
        scan = scan_of(picture)
        found = label(scan, **self.how)
        self.audited += audit(scan, found, case)
        return of_functions(found, self.audited[-1])

    def _write_datalist(self, found: set[str], kinds: Sequence[str]) -> None:
        """The datalist, whose unlabelled images name their masks; nothing where it lists none.

        The masks have the size that training reads, not their image's, so they are not called its `label`.
        """
        if not self.datalist:
            return
        with open(self.datalist, encoding="utf-8") as stream:
            content = json.load(stream)
        if not content.get("unlabelled"):
            return
        content["dataset_dir"] = os.path.abspath(root_of(content, self.datalist, self.dataset_dir))
        for item in content["unlabelled"]:
            if item["image"] in found and item.get("side") != "testing":
                for kind in kinds:
                    path = os.path.join(self.output_dir, kind, mask_name(item["image"]))
                    item["pseudo_label" if kind == "masks" else kind] = os.path.abspath(path)
        with whole_file(os.path.join(self.output_dir, "datalist.json"), "w") as stream:
            json.dump(content, stream, indent=1)


def of_functions(found: Labelled, fused: Row) -> PseudoMask:
    """What label functions found, as one pseudo-mask. fused: the audit's row of the fused mask."""
    said = {"nothing found": not found.hard.any(), "at the edge of the brain": fused["touches_skull"]}
    said |= {"on both sides alike": fused["bilateral"]}
    warnings = tuple(text for text, is_so in said.items() if is_so)
    others = {"soft": found.soft, "ignore": found.ignore}
    return PseudoMask(found.hard, float("nan"), int(fused["objects"]), warnings, others)


def outlined(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W) picture in 0..1 and its mask -> (H, W, 3) uint8 with the mask's border in orange."""
    rgb = np.repeat((np.clip(picture, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)
    rgb[find_boundaries(mask, mode="thick")] = (230, 159, 0)
    return rgb


def montage(tiles: list[np.ndarray], columns: int = 8) -> Image.Image:
    """Lay equal tiles out in rows; the last row is filled with black."""
    height, width, _ = tiles[0].shape
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height))
    for index, tile in enumerate(tiles):
        sheet.paste(Image.fromarray(tile), (index % columns * width, index // columns * height))
    return sheet


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).splitlines()[0] if str(error) else type(error).__name__
