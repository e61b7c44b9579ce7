"""Pseudo-masks of volumes: label functions, a fusion and rules at about 2 mm, written on each scan's own grid."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor, decollate_batch
from monai.data.utils import affine_to_spacing
from scipy import ndimage
from tqdm import tqdm

from .brats import MODALITIES
from .datalist import root_of
from .errors import refuse
from .files import whole_file
from .fusion import Labelled, label, present
from .label_audit import Row, audit, write_csv
from .label_scan import Scan, make_scan

SCALE = 1 / 128  # of a step of the soft mask in its file: exact in every float, and 0.8 % is finer than it is sure
ENDS = {"label": "", "soft": "_soft", "ignore": "_ignore"}  # key of a datalist's item -> end of the file's name


class VolumeLabeller:
    """Write a mask, a soft mask and an ignore mask for every scan, a table, and the datalist with all of them.

    loader: batches of one {"image": (1, C, H, W, D), "case"}; prepare: the transforms that made it, whose inverse leads
    back to the scan's grid. labelers, seeded, fusion, rules, vote_rules, unsure: as of `fusion.label`, without None.
    datalist, section: which items get the masks; a `label` that is there stays.
    Files in OUTPUT_DIR: <case>.nii.gz (0 and 1), <case>_soft.nii.gz (0 to 1), <case>_ignore.nii.gz, pseudo_labels.csv;
    with a datalist also datalist.json.
    """

    def __init__(
        self,
        loader: Iterable[dict],
        prepare: Callable,
        labelers: Mapping[str, Callable | None],
        fusion: Callable,
        output_dir: str,
        vote_rules: Sequence[Callable | None] = (),
        rules: Sequence[Callable | None] = (),
        seeded: Mapping[str, Callable | None] | None = None,
        unsure: Sequence[float] = (0.35, 0.65),
        smooth_mm: float = 1.0,
        datalist: str = "",
        dataset_dir: str = "",
        section: str = "unlabelled",
    ) -> None:
        self.loader, self.prepare = loader, prepare
        self.how = {"labelers": present(labelers), "seeded": present(seeded or {}), "fusion": fusion}
        self.how |= {"vote_rules": present(vote_rules), "rules": present(rules), "unsure": unsure}
        self.smooth_mm, self.output_dir = smooth_mm, output_dir
        self.datalist, self.dataset_dir, self.section = datalist, dataset_dir, section

    def run(self) -> None:
        table = os.path.join(self.output_dir, "pseudo_labels.csv")
        if os.path.exists(table):
            refuse(f"{table} is there already. Remove it or choose another --output_dir.")
        if not self.how["labelers"]:
            refuse("no label function is left. Leave at least one in `labelers`.")
        os.makedirs(self.output_dir, exist_ok=True)
        rows: list[Row] = []
        written = {}
        quiet = not sys.stderr.isatty()
        begun = time.perf_counter()
        shown = tqdm(self.loader, "pseudo_labelling", disable=quiet)
        for number, batch in enumerate(shown, start=1):
            item = decollate_batch(batch)[0]
            scan = scan_of(item["image"], self.smooth_mm)
            found = label(scan, **self.how)
            rows += audit(scan, found, item["case"])
            files = write(item["case"], self._on_grid(item["image"], found), self.output_dir)
            if found.hard.any():
                written[item["case"]] = files
            if quiet:
                volume = found.hard.sum() * np.prod(scan.spacing) / 1000
                seconds = time.perf_counter() - begun
                done = f"{number}/{len(self.loader)}"  # type: ignore[arg-type]
                print(f"pseudo_labelling: {done} {item['case']}: {volume:.0f} mL, {seconds:.0f} s", flush=True)
        self._write_datalist(written)
        write_csv(rows, table)  # the last file: it says that all others are there
        print(summary(rows, self.output_dir))

    def _on_grid(self, image: MetaTensor, found: Labelled) -> MetaTensor:
        """(3, H, W, D) float32 on the scan's own grid: hard and ignore as shares, soft."""
        three = np.stack([found.hard, found.soft, found.ignore]).astype(np.float32)
        like = MetaTensor(torch.from_numpy(three), meta=image.meta, applied_operations=image.applied_operations)
        return self.prepare.inverse({"image": like})["image"]  # type: ignore[attr-defined]

    def _write_datalist(self, written: dict[str, dict[str, str]]) -> None:
        """The datalist, whose items of the section have masks now; nothing where a folder was labelled."""
        if not self.datalist:
            return
        with open(self.datalist, encoding="utf-8") as stream:
            content = json.load(stream)
        content["dataset_dir"] = os.path.abspath(root_of(content, self.datalist, self.dataset_dir))
        content[self.section] = [with_masks(item, written.get(item["case"])) for item in content[self.section]]
        with whole_file(os.path.join(self.output_dir, "datalist.json"), "w") as stream:
            json.dump(content, stream, indent=1)


def with_masks(item: dict, files: dict[str, str] | None) -> dict:
    """An item of a datalist with its masks; a case in which nothing was found, or that has a true mask, as it was.

    The mask knows the whole tumour only, as 1.
    """
    if files is None or item.get("label"):
        return item
    return item | files | {"regions": {"wt": [1]}, "pseudo": True}


def scan_of(image: MetaTensor, smooth_mm: float) -> Scan:
    """(C, H, W, D) in the order of MODALITIES, skull-stripped, axes R, A, S -> a Scan; its brain is what is not 0.

    A millimetre or two at the edge, where resampling mixed the brain with what lies outside, is no brain.
    """
    spacing = tuple(float(s) for s in affine_to_spacing(image.affine))
    arrays = image.numpy().astype(np.float32, copy=False)
    head = ndimage.binary_fill_holes(np.abs(arrays).max(axis=0) > 0)
    brain = ndimage.binary_erosion(head, border_value=0)
    return make_scan(dict(zip(MODALITIES, arrays, strict=True)), spacing, brain, smooth_mm)


def write(case: str, three: MetaTensor, folder: str) -> dict[str, str]:
    """Write the three masks of a case, each whole or not at all; returns their absolute paths."""
    hard, soft, ignore = three.numpy()
    affine = np.asarray(three.affine, np.float64)
    arrays = {"label": hard >= 0.5, "soft": np.rint(np.clip(soft, 0, 1) / SCALE), "ignore": ignore >= 0.5}
    paths = {}
    for key, array in arrays.items():
        image = nibabel.Nifti1Image(array.astype(np.uint8), affine)
        if key == "soft":
            image.header.set_slope_inter(SCALE, 0)
        paths[key] = os.path.abspath(os.path.join(folder, f"{case}{ENDS[key]}.nii.gz"))
        partial = os.path.join(folder, f".{case}{ENDS[key]}.partial.nii.gz")
        nibabel.save(image, partial)
        os.replace(partial, paths[key])
    return paths


def summary(rows: Sequence[Row], folder: str) -> str:
    """One line on all cases."""
    fused = [row for row in rows if row["who"] == "fused"]
    counts = {
        "where nothing was found": sum(row["share"] == 0 for row in fused),
        "at the edge of the brain": sum(bool(row["touches_skull"]) for row in fused),
        "on both sides alike": sum(bool(row["bilateral"]) for row in fused),
    }
    odd = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"pseudo_labelling: {len(fused)} cases in {folder}" + (f"; look at: {odd}" if odd else "")
