"""MONAI Label's own task for training a bundle, which here goes on from the weights served and replaces them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.tasks.train.bundle import BundleTrainTask

from lib.files import fits, kinds

SERVED, SHIPPED = "model.pt", "model_shipped.pt"  # a shorter name than the first one's would be served in its place
LEARNING_RATE = 1.0e-4  # a tenth of what made the weights, or less: new cases shall correct them, not replace them


class Train(BundleTrainTask):
    """Train a bundle on the images of the datastore whose labels are final, beginning with the weights served.

    The run's files lie in BUNDLE/eval/<time>; the new weights become models/model.pt, which the next request takes. The
    weights that came with the bundle stay as models/model_shipped.pt.
    """

    def __init__(self, path: str, conf: dict[str, str], dimension: int) -> None:
        super().__init__(path, conf, load_strict=True)
        self.dimension = dimension

    def config(self) -> dict[str, Any]:
        """What a viewer offers to change."""
        options = {"learning_rate": LEARNING_RATE, "num_workers": 0}
        kept = ("device", "max_epochs", "val_split", "model_filename")
        return {key: value for key, value in super().config().items() if key in kept} | options

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> dict[str, Any]:
        self.run = Path(self.bundle_path) / "eval" / time.strftime("%Y-%m-%d_%H-%M-%S")
        # Without the pre-trained weights MONAI Label crashes; several GPUs want files that it would write by itself.
        self.request = {**request, "pretrained": True, "multi_gpu": False, "tracking": "none"}
        super().__call__(self.request, datastore)
        publish(self.run, Path(self.bundle_path) / "models", self.validates)
        return {"run": str(self.run)}

    def _fetch_datalist(self, request: Mapping[str, Any], datastore: Any) -> list[dict[str, str]]:
        labelled = [item for item in datastore.datalist() if fits(item["image"], self.dimension)]
        if not labelled:
            raise SystemExit(f"no image with a final label to train on: this model takes {kinds(self.dimension)}.")
        return [{"image": d["image"], "label": d["label"], "case": os.path.basename(d["image"])} for d in labelled]

    def _partition_datalist(
        self, datalist: list[dict[str, str]], request: Mapping[str, Any], shuffle: bool = False
    ) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        train, validate = super()._partition_datalist(datalist, request, shuffle)
        self.validates = bool(train and validate)  # else the last weights are taken: none were judged by other cases
        return (train, validate) if self.validates else (datalist, datalist[:1])

    def _update_overrides(self, overrides: dict[str, Any]) -> dict[str, Any]:
        """What MONAI Label does not set: the schedule's max_epochs, for one, and where the run's files go."""
        overrides["max_epochs"] = self.request.get("max_epochs", 50)
        overrides["learning_rate"] = float(self.request.get("learning_rate", LEARNING_RATE))
        overrides["num_workers"] = int(self.request.get("num_workers", 0))
        overrides["output_dir"] = str(self.run)
        return overrides


def publish(run: Path, models: Path, validated: bool) -> None:
    """Take a run's best weights, or its last, as the ones that are served; keeps those that came with the bundle.

    Each file is copied aside and renamed: a request that comes meanwhile finds one or the other, whole.
    """
    made = run / "model.pt" if validated and (run / "model.pt").exists() else run / "model_final.pt"
    if not (models / SHIPPED).exists():
        _copy(models / SERVED, models / SHIPPED)
    _copy(made, models / SERVED)


def _copy(source: Path, target: Path) -> None:
    partial = target.with_name(target.name + ".partial")
    shutil.copyfile(source, partial)
    os.replace(partial, target)
