"""`autoconf inspect`: from a data folder to a datalist with a fixed split and a fingerprint of the data.

brats.py        which files make a case          images.py       class folders of 2D images
volumes.py      one NIfTI file, checked          fingerprint.py  sizes and intensities of all volumes
gz.py           gzip, decompressed fast          counts.py       how often each value occurs
cache.py        what is known of unchanged files
split.py        who trains, validates, tests     report.py       the table on the screen
"""

from __future__ import annotations

import os
from typing import Any

from autoconf.errors import AutoconfError
from autoconf.inspect.brats import (
    CONTRASTS,
    Case,
    CaseError,
    find_cases,
    nothing_found,
    require_complete,
    walk_files,
)
from autoconf.inspect.images import find_images
from autoconf.inspect.split import TESTING, split
from autoconf.output import check_out, progress, to_json, write_files


def inspect(data: str, out: str, seed: int = 0, jobs: int = 1) -> None:
    """Read a data folder: check every file, split by patient, measure sizes and intensities.

    data: folder of BraTS cases (2018-2021 or 2023+ names, any nesting) or of 2D images, one sub-folder per class.
    out: folder for datalist.json and fingerprint.json; not inside data.
    seed: another seed gives another split.
    jobs: cases that are read at the same time, about 100 MB each; unchanged ones are not read again (out/.cache).
    """
    try:
        cases, images = find_cases(data), find_images(data)
        if not cases and not images:
            raise AutoconfError(f"{nothing_found(data)} There are no 2D images in it either.")
        if cases and images:
            raise AutoconfError(
                f"{data}: holds both {len(cases)} cases of volumes, e.g. {cases[0].case}, and {len(images)} images, "
                f"e.g. {images[0]}. Give the folder of one kind."
            )
        for case in cases:
            require_complete(case)
    except CaseError as error:
        raise AutoconfError(str(error)) from error
    check_out(out, outside=data)
    if cases:
        _inspect_volumes(data, cases, out, seed, jobs)
    else:
        _inspect_images(data, images, out, seed)


def _inspect_volumes(data: str, cases: list[Case], out: str, seed: int, jobs: int) -> None:
    from autoconf.inspect import fingerprint, report
    from autoconf.inspect.cache import Cache

    labelled = [case for case in cases if case.label]
    sides = split([case.patient for case in labelled], seed)
    intensities = {contrast: fingerprint.Intensities.none() for contrast in CONTRASTS}
    rows = []
    with Cache(os.path.join(out, ".cache")) as cache:
        found = fingerprint.measure_cases(cases, cache, jobs)
        for measured in progress(found, len(cases), "reading cases"):
            measured.add_to(intensities)
            rows.append(measured.row)

    items = [_volume_item(data, case) for case in cases]
    kept_apart = [item for item in items if "label" not in item]
    datalist = _head(data, "volumes", seed) | {"contrasts": list(CONTRASTS)} | _labels("whole tumour")
    datalist |= _sides([item for item in items if "label" in item], sides) | {"unlabelled": kept_apart}
    measured = fingerprint.fingerprint(rows, intensities)
    write_files(out, {"datalist.json": to_json(datalist), "fingerprint.json": to_json(measured)})
    report.print_volumes(data, cases, datalist, measured, unused=_unused_volumes(data, cases))
    plan = report.quoted(os.path.join(out, "plan.yaml"))
    command = f"python -m autoconf plan {report.quoted(out)} --bundle bundles/unetr3d --memory 8GB --out {plan}"
    report.print_next(out, command)


def _inspect_images(data: str, paths: list[str], out: str, seed: int) -> None:
    from autoconf.inspect import report
    from autoconf.inspect.images import fingerprint, read_images

    images = list(progress(read_images(data, paths), len(paths), "reading images"))
    items = [
        {"case": image.case, "patient": image.patient, "class": image.group, "image": image.case} for image in images
    ]
    datalist = _head(data, "images", seed) | _labels("foreground")
    datalist |= _sides(items, split([image.patient for image in images], seed)) | {"unlabelled": []}
    measured = fingerprint(images)
    write_files(out, {"datalist.json": to_json(datalist), "fingerprint.json": to_json(measured)})
    report.print_images(data, images, datalist, measured)
    command = "python -m monai.bundle run pseudo_labelling --config_file bundles/pseudo2d/configs/pseudo_label.yaml"
    folders = f"--datalist {report.quoted(os.path.join(out, 'datalist.json'))} --output_dir {report.quoted(out)}"
    report.print_next(out, f"{command} {folders}")


def _head(data: str, kind: str, seed: int) -> dict[str, Any]:
    folder = os.path.abspath(data)
    return {"name": os.path.basename(folder), "kind": kind, "dataset_dir": folder, "seed": seed}


def _labels(foreground: str) -> dict[str, Any]:
    return {"labels": {"0": "background", "1": foreground}}


def _volume_item(data: str, case: Case) -> dict[str, Any]:
    """The datalist's entry: paths relative to the data folder, "/" between folders."""
    item: dict[str, Any] = {"case": case.case, "patient": case.patient}
    item["image"] = [_relative(data, path) for path in case.image if path]
    return item | {"label": _relative(data, case.label)} if case.label else item


def _relative(data: str, path: str) -> str:
    return os.path.relpath(path, data).replace(os.sep, "/")


def _sides(items: list[dict[str, Any]], sides: list[int | str]) -> dict[str, Any]:
    """The datalist's `training`, each item with its fold, and `testing`."""
    training = [
        {"case": item["case"], "patient": item["patient"], "fold": side} | item
        for item, side in zip(items, sides, strict=True)
        if side != TESTING
    ]
    testing = [item for item, side in zip(items, sides, strict=True) if side == TESTING]
    return {"training": training, "testing": testing}


def _unused_volumes(data: str, cases: list[Case]) -> list[str]:
    """NIfTI files below data that belong to no case: not an error, but never passed over in silence."""
    used = {path for case in cases for path in (*case.image, case.label)}
    there = (os.path.join(folder, name) for folder, name in walk_files(data))
    return [path for path in there if path.lower().endswith((".nii", ".nii.gz")) and path not in used]
