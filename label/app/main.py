"""The bundles of this project in MONAI Label: its own monaibundle app, with what these lack there.

lib/infer.py    the network as `run inferring` has it; masks of pictures
lib/train.py    new weights are served, the shipped ones are kept
lib/entropy.py  which image to label next
lib/vision.py   torchvision without CUDA

Started by ../start.sh. MONAI Label wants a class of this base here, and the bundles in `model/`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lib.vision import declare_operators

declare_operators()

from fastapi import HTTPException  # noqa: E402 - after the declaration
from lib.entropy import EntropyScoring, MostUncertain, Probabilities  # noqa: E402
from lib.infer import Segment  # noqa: E402
from lib.train import Train  # noqa: E402
from monailabel.interfaces.app import MONAILabelApp  # noqa: E402
from monailabel.interfaces.exception import MONAILabelException  # noqa: E402
from monailabel.tasks.activelearning.first import First  # noqa: E402
from monailabel.tasks.activelearning.random import Random  # noqa: E402

BAD_REQUEST = 400


class GlioApp(MONAILabelApp):
    """Bundles that segment, train, and say which image they are least sure of."""

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        self.bundles = {name: os.path.join(app_dir, "model", name) for name in conf["models"].split(",")}
        super().__init__(app_dir, studies, dict(conf), name="gliobundle", description="Brain tumour segmentation")

    def init_infers(self) -> dict[str, Segment]:
        return {name: Segment(path, self.conf) for name, path in self.bundles.items()}

    def init_trainers(self) -> dict[str, Train]:
        return {name: Train(path, self.conf, self._infers[name].dimension) for name, path in self.bundles.items()}

    def init_strategies(self) -> dict[str, Any]:
        return {f"entropy_{name}": MostUncertain(name) for name in self.bundles} | {
            "random": Random(),
            "first": First(),
        }

    def init_scoring_methods(self) -> dict[str, EntropyScoring]:
        return {
            f"entropy_{name}": EntropyScoring(name, Probabilities(path, self.conf))
            for name, path in self.bundles.items()
        }

    def infer(self, request: Mapping[str, Any], datastore: Any = None) -> dict[str, Any]:
        """Segment one image. What a bundle refuses would end the process; here it is an answer of one line."""
        try:
            return super().infer(request, datastore)
        except MONAILabelException as error:
            raise HTTPException(BAD_REQUEST, str(error.msg)) from error
        except (ValueError, SystemExit) as error:
            raise HTTPException(BAD_REQUEST, str(error)) from error
