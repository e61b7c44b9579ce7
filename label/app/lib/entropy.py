"""Which image to label next: the one that the network is least sure of."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

import torch
from monai.transforms import Activationsd
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy

from lib.files import fits
from lib.infer import Segment

logger = logging.getLogger(__name__)


class Probabilities(Segment):
    """A bundle up to its probabilities, on the network's own grid: nothing is inverted, cut or written."""

    def __init__(self, path: str, conf: dict[str, str]) -> None:
        super().__init__(path, conf, add_post_restore=False, skip_writer=True)

    def post_transforms(self, data: Any = None) -> list[Any]:
        """The transforms that make probabilities of logits, alone."""
        return [t for t in super().post_transforms(data) if isinstance(t, Activationsd)]


class EntropyScoring(ScoringMethod):
    """Give each image without a final label its `entropy_<model>`: mean entropy of the network, in bits.

    Mean over the voxels where the image is not 0, or over all of a picture. An image keeps its score until the model's
    weights change.
    """

    def __init__(self, name: str, task: Probabilities) -> None:
        super().__init__(f"mean entropy of {name}'s probabilities, in bits")
        self.name = name
        self.task = task

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> dict[str, Any]:
        weights = os.stat(self.task.get_path()).st_mtime_ns
        images = [i for i in datastore.get_unlabeled_images() if fits(datastore.get_image_uri(i), self.task.dimension)]
        old = [i for i in images if datastore.get_image_info(i).get(stamp(self.name)) != weights]
        failed = 0
        for image in old:
            try:
                score = self._score(datastore.get_image_uri(image), request.get("device"))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - one bad scan shall not leave the others unscored
                logger.warning(f"{image} has no score: {error}")
                failed += 1
                continue
            datastore.update_image_info(image, {key(self.name): score, stamp(self.name): weights})
        return {"images": len(images), "scored": len(old) - failed, "failed": failed}

    def _score(self, path: str, device: str | None) -> float:
        request = {"image": path, "logging": "error"} | ({"device": device} if device else {})
        _, data = self.task(request)
        return entropy(data["pred"], data["image"])


def entropy(probabilities: torch.Tensor, image: torch.Tensor) -> float:
    """Mean binary entropy in bits, 0..1.

    probabilities: (R, ...) in 0..1. image: (C, ...); where it is 0 in all channels there is no head.
    """
    p = torch.as_tensor(probabilities).float().cpu().clamp(1e-6, 1 - 1e-6)
    bits = -(p * p.log2() + (1 - p) * (1 - p).log2()).amax(dim=0)  # of the region that is least clear
    head = (torch.as_tensor(image).cpu() != 0).any(dim=0)
    return float(bits[head].mean()) if head.any() else 1.0


class MostUncertain(Strategy):
    """The image without a final label that has the highest entropy; of those not served in the last hour, if any.

    An image without a score is left out: it may be one that the model cannot read.
    """

    AGAIN = 3600  # seconds

    def __init__(self, name: str) -> None:
        super().__init__(f"the image that {name} is least sure of")
        self.name = name

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> dict[str, Any] | None:
        found = []
        for image in datastore.get_unlabeled_images():
            info = datastore.get_image_info(image)
            served = info.get("strategy", {}).get(request["strategy"], {}).get("ts", 0)
            score = info.get(key(self.name))
            if score is not None:
                found.append((time.time() - served > self.AGAIN, score, image))
        if not found:
            return None
        _, score, image = max(found)
        return {"id": image, "entropy": score}


def key(name: str) -> str:
    return f"entropy_{name}"


def stamp(name: str) -> str:
    return f"entropy_{name}_weights"
