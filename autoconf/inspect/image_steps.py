"""`inspect` for 2D images: which are masks, which can be read, which are copies, who is on which side."""

from __future__ import annotations

import os
import shlex
from typing import Any

from autoconf.data.audit import audit_sides
from autoconf.data.images import Image, copies, fingerprint, is_mask, pair_up, patient_of_image, read_images
from autoconf.data.problems import Problem
from autoconf.data.split import join, quartiles
from autoconf.errors import AutoconfError, DataError
from autoconf.inspect import report
from autoconf.inspect.datalist import of_images
from autoconf.inspect.sets import Options, assign_sides
from autoconf.output import progress


def inspect_images(data: str, paths: list[str], out: str, layout: str, options: Options) -> None:
    """Everything from the paths of the images to the files in `out`. Raises AutoconfError."""
    masks, wanted, orphans = _masks_of(data, paths, layout)
    images, problems = _read_images(data, wanted, masks, options)
    exact, alike = copies(images)
    groups = join([patient_of_image(image.case) for image in images], exact + alike)
    # Where some have masks, one without is unlabelled; otherwise all will get pseudo-masks.
    labelled = [index for index, image in enumerate(images) if not masks or image.foreground is not None]
    strata: list[Any] = [images[i].group for i in labelled]
    if masks:
        strata = quartiles([images[i].foreground or 0.0 for i in labelled])
    sides = assign_sides(labelled, groups, strata, [image.side for image in images], options)
    problems += audit_sides([image.case for image in images], groups, sides)
    problems += [Problem("copy", images[b].case, f"the same file as {images[a].case}.") for a, b in exact]
    problems += [
        Problem("orphan-mask", path, "a mask without an image. Add the image, or rename it.") for path in orphans
    ]
    problems += [Problem("alike", images[b].case, f"nearly the same image as {images[a].case}.") for a, b in alike]

    datalist = of_images(data, "pairs" if masks else "classes", options.seed, images, masks, sides, groups)
    measured = fingerprint(images, exact, alike)
    report.write(out, datalist, measured, problems)
    report.print_images(data, images, len(wanted), datalist, measured, problems)
    name = "training --config_file bundles/pseudo2d/configs/train.yaml"
    if not masks:
        name = "pseudo_labelling --config_file bundles/pseudo2d/configs/pseudo_label.yaml"
    path, folder = shlex.quote(os.path.join(out, "datalist.json")), shlex.quote(out)
    report.print_next(out, f"python -m monai.bundle run {name} --datalist {path} --output_dir {folder}")


def _masks_of(data: str, paths: list[str], layout: str) -> tuple[dict[str, str], list[str], list[str]]:
    """Image -> mask, the images to read, and the masks that belong to none. Raises AutoconfError."""
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
    images, problems = [], []
    outcomes = progress(read_images(data, wanted, masks), len(wanted), "reading images")
    for case, one in zip(wanted, outcomes, strict=True):
        if not isinstance(one, DataError):
            images.append(one)
        elif options.strict:
            raise AutoconfError(f"{one} (--strict)")
        else:
            problems.append(Problem(one.kind, case, str(one)))
    if not images:
        raise AutoconfError(f"none of the {len(wanted)} images can be used: {problems[0].finding}")
    return images, problems
