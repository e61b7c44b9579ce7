"""MONAI Label's own task for a bundle, with the network that `run inferring` has, and pictures as PNG."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from monailabel.tasks.infer.bundle import BundleConstants, BundleInferTask
from monailabel.utils.others.class_utils import unload_module
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
        self.account = self._account()

    def __call__(self, request: Mapping[str, Any], callbacks: Any = None) -> tuple[Any, Any]:
        image = request.get("image")
        if not isinstance(image, str) or not image:
            raise ValueError("there is no such image in the datastore. Ask GET /datastore?output=all for their names.")
        if not fits(image, self.dimension):
            raise ValueError(f"{image} is nothing that this model reads: it takes {kinds(self.dimension)}.")
        return super().__call__(request, callbacks)

    def run_inferer(self, data: dict[str, Any], convert_to_batch: bool = True, device: str = "cuda") -> dict[str, Any]:
        """Adds `provenance`: what `run inferring` writes into provenance.json of a run and of its mask."""
        if self.account is None:
            return super().run_inferer(data, convert_to_batch, device)
        date = datetime.now(UTC).isoformat(timespec="seconds")
        weights, seen = [self._weights(data)], self.account.seen(data[self.input_key])
        run = self.account.record(date, weights, device)  # before: a training may write other weights meanwhile
        data = super().run_inferer(data, convert_to_batch, device)
        data["provenance"] = run | {"precision": self.account.precision()} | seen
        return data

    def _account(self) -> Any:
        """The bundle's `provenance`, its class found as MONAI Label finds the others; None of a bundle without one."""
        if not self.is_valid() or "provenance" not in self.bundle_config:
            return None
        sys.path.insert(0, self.bundle_path)
        unload_module("scripts")
        try:
            return self.bundle_config.get_parsed_content("provenance")
        finally:
            sys.path.remove(self.bundle_path)

    def _weights(self, data: Mapping[str, Any]) -> str:
        """The file of weights that MONAI Label takes: the one that is asked for beside its own, if it is there."""
        asked = data.get("model_filename") or ""
        asked = os.path.join(os.path.dirname(self.path[0]), asked if isinstance(asked, str) else asked[0])
        return asked if os.path.isfile(asked) else self.get_path()

    def writer(self, data: dict[str, Any], extension: Any = None, dtype: Any = None) -> tuple[Any, Any]:
        """The mask and what is sent beside it, with how it was made."""
        file, about = self._written(data, extension, dtype)
        return file, about | ({"provenance": data["provenance"]} if "provenance" in data else {})

    def _written(self, data: dict[str, Any], extension: Any, dtype: Any) -> tuple[Any, Any]:
        """Volumes as MONAI Label writes them; a picture's mask as PNG, 0 and 1. (ITK turns it, JPEG alters it.)"""
        if self.dimension == 3:
            return super().writer(data, extension, dtype)
        mask = np.asarray(data[self.output_label_key]).squeeze() > 0  # (row, column)
        file = tempfile.NamedTemporaryFile(suffix=".png", delete=False)  # noqa: SIM115 - MONAI Label sends and removes it
        with file:
            Image.fromarray(mask.astype(np.uint8)).save(file, format="PNG")
        return file.name, {}
