"""Let torchvision be imported beside a torch that has no CUDA."""

from __future__ import annotations

from importlib.metadata import version

import torch

OPERATORS = ("nms", "qnms")
LIBRARY = torch.library.Library("torchvision", "FRAGMENT")  # kept: what it defines goes when it goes


def declare_operators() -> None:
    """Declare the two operators whose schemas torchvision looks up when it is imported. Call it before that.

    MONAI Label imports torchvision for a function that draws grids of pictures. PyPI has it as a CUDA build only, whose
    compiled part does not load with a CPU torch; the import then fails for want of these schemas. Nothing here calls
    them. A CPU build of torchvision, or a torch with CUDA, brings its own.
    """
    if torch.version.cuda is None and "+cpu" not in version("torchvision"):
        for name in OPERATORS:
            LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
