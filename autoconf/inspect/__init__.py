"""`autoconf inspect`: from a data folder to a datalist with a fixed split, a fingerprint and a list of problems.

autoconf/data reads, measures and splits. Here:
sets.py         the steps for volumes            fingerprint.py  sizes and intensities of all cases
datalist.py     what is written for the bundles  report.py       the tables on the screen
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from autoconf.data.brats import MODALITIES, CaseError, nothing_found, walk_files
from autoconf.data.cache import Cache
from autoconf.data.problems import LEFT_OUT, Problem, as_csv
from autoconf.data.scans import Found, Scan
from autoconf.data.split import FOLDS, TEST_SHARE, TESTING
from autoconf.errors import AutoconfError, DataError
from autoconf.inspect.datalist import of_images, of_volumes
from autoconf.inspect.sets import Options, Sides
from autoconf.output import check_out, progress, to_json, write_files

if TYPE_CHECKING:
    from autoconf.data.images import Image

IMAGE_LAYOUTS = ("classes", "pairs")


def inspect(
    data: str,
    out: str,
    layout: str = "auto",
    labels: str = "auto",
    missing: str = "error",
    strict: bool = False,
    folds: int = FOLDS,
    test: float = TEST_SHARE,
    seed: int = 0,
    jobs: int = 1,
) -> None:
    """Read a data folder: check every file, say what is wrong, split by patient, measure sizes and intensities.

    data: folder of scans (BraTS 2018 to 2024, Decathlon, nnU-Net, BIDS, image_*.npy) or of 2D images (a folder per
      class, or images with masks).
    out: folder for datalist.json, fingerprint.json and problems.csv; not inside data.
    layout: auto, decathlon, nnunet, bids, brats, npy, classes or pairs, where a folder could be read in two ways.
    labels: what mask values mean: auto, brats2018-2021, brats2023, brats2024-post, brats2024-ped, decathlon, binary.
    missing: a case without all four modalities stops (error), is left out (drop), or gets zeros in their place (zero).
    strict: stop at the first case that cannot be used, instead of leaving it out.
    folds: for cross-validation; fold 0 validates first. test: share of the cases that is kept for testing.
    seed: another seed gives another split.
    jobs: cases that are read at the same time, about 100 MB each; unchanged ones are not read again (out/.cache).
    """
    options = Options(labels, missing, strict, folds, test, seed, jobs)
    if not data.strip():
        raise AutoconfError("DATA is empty. Give the folder of scans or images.")
    try:
        found, images = _recognise(data, layout)
    except CaseError as error:
        raise AutoconfError(str(error)) from error
    check_out(out, outside=data)
    if found:
        with Cache(os.path.join(out, ".cache")) as cache:  # a run that is refused leaves nothing behind
            _inspect_volumes(data, found, out, options, cache)
    else:
        _inspect_images(data, images, out, layout, options)


def _recognise(data: str, layout: str) -> tuple[Found | None, list[str]]:
    """The one layout of volumes, or the paths of 2D images. Raises AutoconfError if that is not clear."""
    from autoconf.data.images import find_images
    from autoconf.data.layouts import LAYOUTS, find_scans

    recognised = find_scans(data, layout) if layout not in IMAGE_LAYOUTS else []
    images = find_images(data) if layout in ("auto", *IMAGE_LAYOUTS) else []
    scans = sum(len(found.scans) for found in recognised)
    if layout == "auto" and recognised and len(images) < scans:
        images = []  # a few pictures beside the scans: reported as unused
    ways = [f"{len(found.scans)} scans as {found.layout} (e.g. {found.scans[0].case})" for found in recognised]
    ways += [f"{len(images)} 2D images (e.g. {images[0]})"] if images else []
    if not ways and layout in LAYOUTS:
        raise AutoconfError(
            f"{data}: holds nothing of the layout {layout}: {LAYOUTS[layout]}. Leave --layout out, or check the path."
        )
    if not ways:
        raise AutoconfError(f"{nothing_found(data)} There are no 2D images in it either.{_deeper(data)}")
    if len(ways) > 1:
        names = "|".join([found.layout for found in recognised] + (["classes"] if images else []))
        raise AutoconfError(
            f"{data}: can be read in several ways: {'; '.join(ways)}. Say which: --layout {names}, or give the folder "
            "of one kind."
        )
    return (recognised[0] if recognised else None), images


def _deeper(data: str) -> str:
    """A sentence on the first data set below the folder: a dataset.json is looked for in the folder itself only."""
    folder = next((folder for folder, name in walk_files(data) if name == "dataset.json" and folder != data), None)
    return f" {folder} holds a dataset.json: give that folder." if folder else ""


def _inspect_volumes(data: str, found: Found, out: str, options: Options, cache: Cache) -> None:
    from autoconf.data import audit
    from autoconf.data.convert import forget_others
    from autoconf.data.labels import choose_schemes
    from autoconf.inspect import report, sets
    from autoconf.inspect.fingerprint import fingerprint as summarise

    problems = [Problem("layout", "", note) for note in found.notes] + found.problems
    scans, incomplete = sets.keep_complete(found.scans, options.missing)
    if not scans:
        raise AutoconfError(f"none of the {len(found.scans)} cases can be used: {incomplete[0].finding}")
    scans, measured, intensities, unusable = _measure(scans, out, options, cache)
    problems += incomplete + unusable + [_misnamed(scan) for scan in scans if _is_misnamed(scan)]
    rows = [one.row for one in measured]
    schemes = choose_schemes(scans, rows, found, options.labels)
    problems += audit.audit_labels(scans, rows, schemes)
    unfit = [problem for problem in problems if problem.severity == LEFT_OUT]
    out_of_it = {problem.case for problem in unfit}
    if options.strict and unfit:
        raise AutoconfError(f"{unfit[0].finding} ({len(out_of_it)} case(s) cannot be used; --strict)")

    used = [index for index, scan in enumerate(scans) if scan.case not in out_of_it]
    if not used:
        raise AutoconfError(f"none of the {len(found.scans)} cases can be used: {unfit[0].finding}")
    if len(used) < len(scans):  # the statistics anew without them, nearly all from the cache
        scans, measured, intensities, _ = _measure([scans[i] for i in used], out, options, cache)
    rows = [sets.count_tumour(one.row, schemes[s.family]) for one, s in zip(measured, scans, strict=True)]
    problems += [_empty(s) for s, row in zip(scans, rows, strict=True) if row["tumour_voxels"] == 0]
    problems += audit.audit_grids(scans, rows) + audit.audit_modalities(scans, measured)
    pairs, copies = audit.audit_copies(scans, measured)
    try:
        groups, sides = _sides_of(scans, rows, pairs, found, options)
    except AutoconfError as error:
        left_out = f" {len(out_of_it)} case(s) were left out, the first because {unfit[0].finding}" if unfit else ""
        raise AutoconfError(f"{error}{left_out}") from None
    problems += copies + audit.audit_sides([scan.case for scan in scans], groups, sides)

    of_scans = [schemes[scan.family] for scan in scans]
    datalist = of_volumes(data, found, options.seed, scans, rows, of_scans, sides, groups)
    fingerprint = summarise(rows, intensities)
    files = {"datalist.json": datalist.text(), "fingerprint.json": to_json(fingerprint)}
    write_files(out, files | {"problems.csv": as_csv(problems)})
    forget_others(os.path.join(out, "converted"), {scan.case for scan in found.scans if scan.convert})
    report.print_volumes(data, found, datalist, fingerprint, problems, unused=_unused_volumes(data, found))
    plan = report.quoted(os.path.join(out, "plan.yaml"))
    command = f"python -m autoconf plan {report.quoted(out)} --bundle bundles/unetr3d --memory 8GB --out {plan}"
    report.print_next(out, command if datalist.training else "")


def _measure(
    scans: list[Scan], out: str, options: Options, cache: Cache
) -> tuple[list[Scan], list[Any], dict, list[Any]]:
    """Convert what must be, then measure: the scans that can be read, what was measured of each, the intensities of all
    together, and the problems. Only rows and traits are kept of a case, so memory does not grow with the counts."""
    from autoconf.data.convert import to_nifti
    from autoconf.data.counts import Intensities
    from autoconf.data.measure import measure_cases

    problems: list[Problem] = []
    readable: list[Scan] = []
    converted = os.path.join(out, "converted")
    for scan in progress(scans, len(scans), "converting cases") if any(scan.convert for scan in scans) else scans:
        try:
            readable.append(to_nifti(scan, converted) if scan.convert else scan)
        except DataError as error:
            problems.append(Problem(error.kind, scan.case, str(error)))
    kept, measured = [], []
    intensities = {contrast: Intensities.none() for contrast in MODALITIES}
    outcomes = measure_cases(readable, cache, options.jobs, keep_going=True)
    for scan, one in zip(readable, progress(outcomes, len(readable), "reading cases"), strict=True):
        if isinstance(one, DataError):
            problems.append(Problem(one.kind, scan.case, str(one)))
        elif isinstance(one, AutoconfError):
            raise one
        else:
            one.add_to(intensities)
            kept.append(scan)
            measured.append(replace(one, brain={}, foreground={}))
    if not kept:
        raise AutoconfError(f"none of the {len(scans)} cases can be used: {problems[0].finding}")
    return kept, measured, intensities, problems


def _sides_of(
    scans: list[Scan], rows: list[Any], pairs: list[tuple[int, int]], found: Found, options: Options
) -> tuple[list[str], Sides]:
    """What must stay together with each scan, and its side: None without a mask."""
    from autoconf.data.split import join, quartiles
    from autoconf.inspect import sets

    groups = join([scan.patient for scan in scans], pairs)
    labelled = [index for index, row in enumerate(rows) if row["tumour_voxels"]]
    dealt: list[int | str] = []  # remains so where there is nothing to train on
    if labelled and found.folds:  # nnU-Net's; a scan in none of them is for testing
        dealt = [found.folds.get(scans[i].case, TESTING) for i in labelled]
    elif labelled:
        sizes = quartiles([rows[i]["tumour_ml"] for i in labelled])
        named = [scans[i].side for i in labelled]
        dealt = sets.deal([groups[i] for i in labelled], sizes, named, options)
    return groups, _at(labelled, dealt, len(scans))


def _inspect_images(data: str, paths: list[str], out: str, layout: str, options: Options) -> None:
    from autoconf.data import images as pictures
    from autoconf.data.audit import audit_sides
    from autoconf.data.split import join
    from autoconf.inspect import report

    masks, wanted, orphans = _masks_of(data, paths, layout)
    images, problems = _read_images(data, wanted, masks, options)
    exact, alike = pictures.copies(images)
    groups = join([pictures.patient_of_image(image.case) for image in images], exact + alike)
    sides = _sides_of_images(images, groups, bool(masks), options)
    problems += audit_sides([image.case for image in images], groups, sides)
    problems += [Problem("copy", images[b].case, f"the same file as {images[a].case}.") for a, b in exact]
    problems += [
        Problem("orphan-mask", path, "a mask without an image. Add the image, or rename it.") for path in orphans
    ]
    problems += [Problem("alike", images[b].case, f"nearly the same image as {images[a].case}.") for a, b in alike]

    datalist = of_images(data, "pairs" if masks else "classes", options.seed, images, masks, sides, groups)
    fingerprint = pictures.fingerprint(images, exact, alike)
    files = {"datalist.json": datalist.text(), "fingerprint.json": to_json(fingerprint)}
    write_files(out, files | {"problems.csv": as_csv(problems)})
    report.print_images(data, images, len(wanted), datalist, fingerprint, problems)
    where = f"--datalist {report.quoted(os.path.join(out, 'datalist.json'))}"
    run = f"pseudo_labelling --config_file bundles/pseudo2d/configs/pseudo_label.yaml {where}"
    if masks:
        run = f"training --config_file bundles/pseudo2d/configs/train.yaml {where}"
    report.print_next(out, f"python -m monai.bundle run {run} --output_dir {report.quoted(out)}")


def _masks_of(data: str, paths: list[str], layout: str) -> tuple[dict[str, str], list[str], list[str]]:
    """Image -> mask, the images to read, and the masks that belong to none. Raises AutoconfError."""
    from autoconf.data.images import is_mask, pair_up

    masks = pair_up(paths) if layout != "classes" else {}
    if layout == "pairs" and not masks:
        raise AutoconfError(
            f"{data}: no image has a mask: looked for images/ and masks/, or <name>_mask. Check --layout."
        )
    paired = set(masks.values())
    orphans = [path for path in paths if masks and is_mask(path) and path not in paired]
    wanted = sorted(set(paths) - paired - set(orphans))
    loose = next((path for path in wanted if "/" not in path), None)
    if loose and not masks:
        raise AutoconfError(
            f"{os.path.join(data, loose)}: lies in no class folder. Move it into a sub-folder named by its class."
        )
    return masks, wanted, orphans


def _read_images(
    data: str, wanted: list[str], masks: dict[str, str], options: Options
) -> tuple[list[Image], list[Problem]]:
    """The images that can be used, and what is wrong with the others."""
    from autoconf.data.images import read_images

    images, problems = [], []
    for case, one in zip(
        wanted, progress(read_images(data, wanted, masks), len(wanted), "reading images"), strict=True
    ):
        if not isinstance(one, DataError):
            images.append(one)
        elif options.strict:
            raise AutoconfError(f"{one} (--strict)")
        else:
            problems.append(Problem(one.kind, case, str(one)))
    if not images:
        raise AutoconfError(f"none of the {len(wanted)} images can be used: {problems[0].finding}")
    return images, problems


def _sides_of_images(images: list[Image], groups: list[str], paired: bool, options: Options) -> Sides:
    """The side of each image: None without a mask, where some have masks; otherwise all will get pseudo-masks."""
    from autoconf.data.split import quartiles
    from autoconf.inspect import sets

    labelled = [index for index, image in enumerate(images) if not paired or image.foreground is not None]
    strata: list[Any] = [images[i].group for i in labelled]
    if paired:
        strata = quartiles([images[i].foreground or 0.0 for i in labelled])
    dealt = sets.deal([groups[i] for i in labelled], strata, [images[i].side for i in labelled], options)
    return _at(labelled, dealt, len(images))


def _at(places: list[int], found: list[int | str], total: int) -> Sides:
    """A list of `total` sides: those found at their places, None elsewhere."""
    of = dict(zip(places, found, strict=True))
    return [of.get(index) for index in range(total)]


def _is_misnamed(scan: Scan) -> bool:
    return bool(scan.label) and "_segm." in os.path.basename(scan.label or "").lower()


def _misnamed(scan: Scan) -> Problem:
    name = os.path.basename(scan.label or "")
    return Problem("misnamed-mask", scan.case, f"its mask is taken from {name}. Rename it to end in _seg.")


def _empty(scan: Scan) -> Problem:
    return Problem("empty-mask", scan.case, f"{scan.label}: holds no tumour. Correct it if there is one.")


def _unused_volumes(data: str, found: Found) -> list[str]:
    """Volumes below data that belong to no scan: not an error, but never passed over in silence."""
    used = set(map(os.path.normpath, (*found.others, *(path for scan in found.scans for path in scan.files))))
    there = (os.path.join(folder, name) for folder, name in walk_files(data))
    volumes = (path for path in there if path.lower().endswith((".nii", ".nii.gz", ".mha")))
    return [path for path in volumes if os.path.normpath(path) not in used]
