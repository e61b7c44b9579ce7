"""MONAI Label's own task for a bundle, with the network that `run inferring` has, and pictures as PNG."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from monailabel.tasks.infer.bundle import BundleConstants, BundleInferTask
from PIL import Image

from lib.files import fits, kinds


class Keys(BundleConstants):
    """Of a bundle's inference.yaml."""

    def key_network_def(self) -> str:
        """`network` is `network_def` arranged for its device: `run inferring` takes it, and rounds as it does."""
        return "network"


class Segment(BundleInferTask):
    """Segment an image by a bundle.

    load_strict: weights of another network are an error; MONAI Label's default serves random ones without a word.
    """

    def __init__(self, path: str, conf: dict[str, str], **settings: Any) -> None:
        super().__init__(path, conf, const=Keys(), load_strict=True, **settings)
        if self.dimension == 2:  # MONAI Label would bring (row, column) to the size of (column, row)
            self.add_post_restore = False

    def __call__(self, request: Mapping[str, Any], callbacks: Any = None) -> tuple[Any, Any]:
        image = request.get("image")
        if not isinstance(image, str) or not image:
            raise ValueError("there is no such image in the datastore. Ask GET /datastore?output=all for their names.")
        if not fits(image, self.dimension):
            raise ValueError(f"{image} is nothing that this model reads: it takes {kinds(self.dimension)}.")
        return super().__call__(request, callbacks)

    def writer(self, data: dict[str, Any], extension: Any = None, dtype: Any = None) -> tuple[Any, Any]:
        """Volumes as MONAI Label writes them; a picture's mask as PNG, 0 and 1. (ITK turns it, JPEG alters it.)"""
        if self.dimension == 3:
            return super().writer(data, extension, dtype)
        mask = np.asarray(data[self.output_label_key]).squeeze() > 0  # (row, column)
        file = tempfile.NamedTemporaryFile(suffix=".png", delete=False)  # noqa: SIM115 - MONAI Label sends and removes it
        with file:
            Image.fromarray(mask.astype(np.uint8)).save(file, format="PNG")
        return file.name, {}
