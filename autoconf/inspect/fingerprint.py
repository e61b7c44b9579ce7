"""What is kept of a whole data set: sizes and spacings of its cases, and statistics of its intensities."""

from __future__ import annotations

from typing import Any

import numpy as np

from autoconf.data.counts import Intensities


def fingerprint(rows: list[dict[str, Any]], intensities: dict[str, Intensities]) -> dict[str, Any]:
    """The dataset's fingerprint from the rows of its cases; medians are taken axis by axis, in RAS+ order.

    modalities: statistics of the non-zero voxels, each voxel weighing the same. foreground: statistics inside the
    masks (any label above 0, intensity 0 or not), each case weighing the same, as nnU-Net 2.8.1 samples them.
    """
    spacing = np.array([row["spacing"] for row in rows])
    brain = np.array([row["brain_shape"] for row in rows])
    return {
        "kind": "volumes",
        "n_cases": len(rows),
        "median_spacing": np.round(np.median(spacing, axis=0), 6).tolist(),
        "median_brain_shape": np.rint(np.median(brain, axis=0)).astype(int).tolist(),
        "median_brain_mm": np.round(np.median(brain * spacing, axis=0), 3).tolist(),
        "modalities": _known({contrast: found.summary() for contrast, found in intensities.items()}),
        "foreground": _known({contrast: found.foreground.summary() for contrast, found in intensities.items()}),
        "cases": rows,
    }


def _known(summaries: dict[str, Any]) -> dict[str, Any]:
    return {contrast: summary for contrast, summary in summaries.items() if summary}
