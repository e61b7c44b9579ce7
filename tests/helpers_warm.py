"""The fork server imports this once, so that none of its forks does again what each of them would do first.

That is to import what programs import late, to look up fire's callers in all modules, to find the fonts of a picture,
and to make the kernels of a network of the tests' size.
"""

from __future__ import annotations

import importlib
import inspect
import io
import sys

import torch
from helpers_bundles import REPO, TINY
from matplotlib.figure import Figure
from monai.networks.nets import UNETR

for name in (
    *("torch._dynamo", "torch.utils.tensorboard", "monai.bundle", "ignite", "fire", "tensorboard", "skimage.filters"),
    *("matplotlib.backends.backend_agg", "contourpy", "PIL.JpegImagePlugin", "optuna"),
):
    importlib.import_module(name)

sys.path.insert(0, str(REPO))
for name in ("__main__", "score", "report", "inspect", "view", "plan", "doctor", "segment", "phantom"):
    importlib.import_module(f"autoconf.{name}")
for name in ("crossval.result", "tune.result", "efficiency.result"):
    importlib.import_module(f"autoconf.experiments.{name}")

figure = Figure()
figure.subplots(2)[0].contour([[0, 0], [0, 1]], [0.5])
figure.savefig(io.BytesIO(), format="png")

network = UNETR(4, 1, 32, **{key.removeprefix("network_def::"): value for key, value in TINY.items()})
network(torch.zeros(2, 4, 32, 32, 32)).sum().backward()
network.eval()(torch.zeros(1, 4, 32, 32, 32))

inspect.stack()
