"""`autoconf inspect`: from a data folder to a datalist with a fixed split, a fingerprint and a list of problems.

autoconf/data reads, measures and splits. Here:
volume_steps.py  from scans to the files  image_steps.py  from 2D images to the files
datalist.py      the datalist             fingerprint.py  sizes and intensities of all cases
sets.py          options, and the split   report.py       files, and the tables on the screen
"""

from __future__ import annotations

from autoconf.data.brats import CaseError, nothing_found, walk_files
from autoconf.data.images import find_images
from autoconf.data.layouts import LAYOUTS, find_scans
from autoconf.data.scans import LayoutScans
from autoconf.data.split import FOLDS, TEST_SHARE
from autoconf.errors import AutoconfError
from autoconf.inspect.image_steps import inspect_images
from autoconf.inspect.sets import Options
from autoconf.inspect.volume_steps import inspect_volumes
from autoconf.output import check_out

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
        inspect_volumes(data, found, out, options)
    else:
        inspect_images(data, images, out, layout, options)


def _recognise(data: str, layout: str) -> tuple[LayoutScans | None, list[str]]:
    """The one layout of volumes, or the paths of 2D images. Raises AutoconfError if that is not clear."""
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
