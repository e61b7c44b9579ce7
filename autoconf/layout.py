"""The verb `layout`: a data folder as a datastore for MONAI Label, which keeps one file per scan and lists one folder.

OUT/<case>_flair.nii.gz                         what a viewer lists and shows
OUT/modalities/<case>_{t1,t1ce,t2}.nii.gz       where the bundle finds the other modalities
OUT/labels/final/<case>_flair.nii.gz            the whole tumour as 0 and 1, with --labels
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np

from autoconf.data.brats import MODALITIES, SCHEMES, CaseError, nothing_found
from autoconf.data.convert import as_readable, to_nifti
from autoconf.data.labels import Scheme, check_scheme, choose_schemes
from autoconf.data.layouts import find_scans
from autoconf.data.scans import LayoutScans, Scan
from autoconf.data.volumes import check_same_grid, read_channels, read_grid, read_volume
from autoconf.errors import AutoconfError, DataError
from autoconf.output import check_out, progress

ENDS = dict(zip(MODALITIES, SCHEMES["BraTS 2018-2021"], strict=False))
TOP = "flair"  # the contrast in which the whole tumour is seen best
BELOW = "modalities"


def layout(
    data: str, out: str, labels: bool = False, link: bool = False, layout: str = "auto", scheme: str = "auto"
) -> None:
    """Turn a data folder into a datastore for MONAI Label: FLAIR on top, the other modalities in `modalities`.

    A scan without all four modalities is left out, and said.

    data: folder of scans, as `inspect` reads it (BraTS 2018 to 2024, Decathlon, nnU-Net, BIDS, image_*.npy).
    out: new or empty folder, not inside data.
    labels: also the masks, as final labels that a training takes: the whole tumour, 0 and 1.
    link: hard links in place of copies of the images, on the same disk: who replaces an image in a viewer then replaces
      it in data too. Labels are always copies.
    layout: auto, decathlon, nnunet, bids, brats or npy, where a folder could be read in two ways.
    scheme: what mask values mean, as `inspect --labels`.
    """
    check_scheme(scheme, "--scheme")
    try:
        found = _recognise(data, layout)
    except CaseError as error:
        raise AutoconfError(str(error)) from error
    check_out(out, outside=data)
    if os.path.isdir(out) and os.listdir(out):
        raise AutoconfError(f"{out} is not empty. Give --out a new folder: labels that lie there could be lost.")
    complete = [scan for scan in found.scans if not scan.missing]
    if not complete:
        raise AutoconfError(f"{data}: none of the {len(found.scans)} scans has all of {', '.join(MODALITIES)}.")
    partial = Path(out.rstrip("/") + ".partial")
    if partial.exists():
        raise AutoconfError(f"{partial} is left over from another run. Remove it.")
    try:
        marked = _write_all(complete, found, partial, labels, link, scheme)
        if os.path.isdir(out):
            os.rmdir(out)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for scan in found.scans:
        if scan.missing:
            print(f"left out {scan.case}: no {' and no '.join(scan.missing)}")
    print(f"layout: {len(complete)} scans in {out}, {marked} of them with a final label")
    print("next: label/start.sh bundles/unetr3d " + (f"'{out}'" if " " in out else out))


def _recognise(data: str, layout: str) -> LayoutScans:
    recognised = find_scans(data, layout)
    if not recognised:
        raise AutoconfError(nothing_found(data))
    if len(recognised) > 1:
        names = "|".join(found.layout for found in recognised)
        raise AutoconfError(f"{data}: can be read in several ways. Say which: --layout {names}.")
    return recognised[0]


def _write_all(scans: Sequence[Scan], found: LayoutScans, out: Path, labels: bool, link: bool, scheme: str) -> int:
    """Returns how many labels were written."""
    (out / BELOW).mkdir(parents=True)
    (out / "labels" / "final").mkdir(parents=True)
    converted, marked = out / ".converted", 0
    scans = [to_nifti(scan, str(converted)) if scan.convert else scan for scan in scans]
    # All masks of a family say together what its values mean: they must lie there before the first is written.
    values = [np.unique(read_volume(scan.label).data) if labels and scan.label else () for scan in scans]
    rows = [{"labels": [int(value) for value in some]} for some in values]
    schemes = choose_schemes(scans, rows, found, scheme, "--scheme") if labels else {}
    for scan in progress(scans, len(scans), "scans"):
        _write_images(scan, out, link)
        if labels and scan.label:
            _write_label(scan, out, schemes[scan.family])
            marked += 1
        shutil.rmtree(converted / scan.case, ignore_errors=True)
    shutil.rmtree(converted, ignore_errors=True)
    return marked


def _write_images(scan: Scan, out: Path, link: bool) -> None:
    targets = [(out if m == TOP else out / BELOW) / f"{scan.case}{ENDS[m]}.nii.gz" for m in MODALITIES]
    if scan.channels:
        path = str(scan.image[0])
        for volume, target in zip(read_channels(path, scan.channels), targets, strict=True):
            nibabel.save(nibabel.Nifti1Image(as_readable(volume.data), volume.affine), target)
        return
    first = read_grid(str(scan.image[0]))
    for source, target in zip(map(str, scan.image), targets, strict=True):
        check_same_grid(read_grid(source), first)
        if not source.lower().endswith(".gz"):  # the server's names end with .nii.gz alike
            nibabel.save(nibabel.load(source), target)
        elif not link:
            shutil.copyfile(source, target)
        else:
            try:
                os.link(os.path.realpath(source), target)
            except OSError as error:
                reason = f"({error.strerror}). Leave --link out."
                raise AutoconfError(f"{source} cannot be linked to {target} {reason}") from None


def _write_label(scan: Scan, out: Path, scheme: Scheme) -> None:
    mask = read_volume(str(scan.label))
    check_same_grid(mask, read_grid(str(scan.image[0]), scan.channels))
    unknown = sorted(set(np.unique(mask.data).tolist()) - scheme.values) if scheme.meaning else []
    if unknown:
        raise DataError(
            "labels",
            f"{scan.label}: value {unknown[0]:g} is not in {scheme.name}. Say --scheme, or correct it.",
        )
    tumour = np.isin(mask.data, scheme.regions["wt"]).astype(np.uint8)
    target = out / "labels" / "final" / f"{scan.case}{ENDS[TOP]}.nii.gz"
    nibabel.save(nibabel.Nifti1Image(tumour, mask.affine), target)
