"""Tiny BraTS cases on disk. Every way to mix up axes, flips or affines changes a number that a test knows.

A case has 10 x 12 x 8 voxels of 1 x 1 x 3 mm in RAS+ order. Its brain is a box of 6 x 8 x 5 voxels, its tumour a box
of 3 x 2 x 2 voxels in the right front; neither is in the middle.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
from helpers_processes import run_module

REPO = Path(__file__).resolve().parents[1]
SHAPE = (10, 12, 8)  # RAS+
SPACING = (1.0, 1.0, 3.0)  # mm, RAS+
BRAIN = (slice(2, 8), slice(3, 11), slice(1, 6))
TUMOUR = (slice(5, 8), slice(7, 9), slice(2, 4))
BRAIN_SHAPE = (6, 8, 5)
TUMOUR_VOXELS = 12
ENDS = {"_": ("_t1", "_t1ce", "_t2", "_flair", "_seg"), "-": ("-t1n", "-t1c", "-t2w", "-t2f", "-seg")}


def plain_affine() -> np.ndarray:
    """Stored as R, A, S."""
    return np.diag([*SPACING, 1.0])


def tilted_affine() -> np.ndarray:
    """The world of an array that is stored slice-first and right-to-left, the head turned by 10 degrees."""
    turn = np.radians(10)
    rotate = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotate @ np.array([[0, -1.0, 0], [0, 0, 1.0], [3.0, 0, 0]])
    affine[:3, 3] = (20, -30, 5)
    return affine


def store(array: np.ndarray, path: str | Path, affine: np.ndarray | None = None) -> None:
    """Save an RAS+ array, in its own order, or in the tilted order if that affine is given."""
    affine = plain_affine() if affine is None else affine
    if abs(affine[2, 0]) > 1:  # tilted: axes S, L, A
        array = array[::-1].transpose(2, 0, 1)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array), affine), path)


def scan(contrast: int, seed: int = 0) -> np.ndarray:
    """int16 values 100..999 in the brain box, 0 outside; another picture for each contrast and seed.

    FLAIR (3) does not reach as far as the others, so that the brain is what any contrast shows.
    """
    values = np.zeros(SHAPE, np.int16)
    shape = values[BRAIN].shape
    values[BRAIN] = np.random.default_rng([contrast, seed]).integers(100, 1000, shape)
    values[BRAIN][-1] *= contrast != 3
    return values


def tumour(labels: tuple[int, ...] = (1, 2, 4)) -> np.ndarray:
    """uint8 mask; the labels take turns inside the tumour box."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[TUMOUR] = np.resize(labels, mask[TUMOUR].shape)
    return mask


def write_case(
    folder: str | Path,
    case: str,
    naming: str = "_",
    extension: str = ".nii.gz",
    affine: np.ndarray | None = None,
    with_mask: bool = True,
    seed: int = 0,
) -> Path:
    """Write `folder/case/case_t1.nii.gz` and so on; returns `folder/case`."""
    home = Path(folder) / case
    home.mkdir(parents=True)
    for contrast, end in enumerate(ENDS[naming][:4]):
        store(scan(contrast, seed), home / f"{case}{end}{extension}", affine)
    if with_mask:
        store(tumour((1, 2, 4) if naming == "_" else (1, 2, 3)), home / f"{case}{ENDS[naming][4]}{extension}", affine)
    return home


def write_cases(folder: str | Path, count: int = 4) -> Path:
    """`count` cases BraTS2021_00000, ... of as many patients."""
    for number in range(count):
        write_case(folder, f"BraTS2021_{number:05d}", seed=number)
    return Path(folder)


def autoconf(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "autoconf", *map(str, words)], cwd=REPO, capture_output=True, text=True, timeout=300
    )


def forked(*words: object) -> subprocess.CompletedProcess[str]:
    """The same for a verb that loads torch and MONAI, as a fork of a process that has them."""
    return run_module("autoconf", [str(word) for word in words], REPO, {})


def assert_refused(done: subprocess.CompletedProcess[str], *said: str) -> None:
    """Exit status 1 and one line on stderr that holds every text of `said`; no traceback."""
    assert done.returncode == 1, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("autoconf: ")
    for text in said:
        assert text in lines[0]


def odd_copies(content: object) -> Iterator[object]:
    """The content with one of its values, at any depth, replaced by something odd, one at a time."""
    yield from (None, 5, "x", [], {}, -1, True, [[None]])
    for key in range(len(content)) if isinstance(content, list) else list(content) if isinstance(content, dict) else ():
        for odd in odd_copies(content[key]):
            changed = content.copy()
            changed[key] = odd
            yield changed


def real_data(name: str) -> str | None:
    """A folder of real data, from $SEG_DATA or beside the repository; None where there is none."""
    folder = os.path.join(os.environ.get("SEG_DATA", REPO.parent / "shared" / "data"), name)
    return folder if os.path.isdir(folder) else None
