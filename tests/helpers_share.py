"""A bundle that is small enough to pack in a test: a convolution, its config, a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

INFERENCE = """# Segments.
patch_size: [4, 6, 8]            # voxels
overlap: 0.5                     # of windows
network_name: plain              # no other
network_def:
  _target_: torch.nn.Conv3d
  in_channels: 2
  out_channels: 1
  kernel_size: 1
  bias: true                     # of the layer
inferer: {_target_: SlidingWindowInferer, roi_size: "@patch_size", overlap: "@overlap"}
run: ["$print(len(@patch_size))"]
"""
TRAIN = (
    "# Trains.\npatch_size: [4, 6, 8]   # voxels\nlearning_rate: 1.0e-3   # peak\nnetwork_name: plain\nmax_epochs: 3\n"
)


def metadata(**more: Any) -> dict[str, Any]:
    part = {"type": "image", "spatial_shape": [4, 6, 8], "dtype": "float32"}
    return {
        "version": "0.1.0",
        "changelog": {"0.1.0": "first"},
        "name": "tiny",
        "network_data_format": {
            "inputs": {"image": part | {"num_channels": 2}},
            "outputs": {"pred": part | {"num_channels": 1}},
        },
    } | more


def dumped(content: dict[str, Any]) -> str:
    """JSON with each spatial shape in one line, as the bundles' own."""
    return json.dumps(content, indent=4).replace(
        "[\n                    4,\n                    6,\n                    8\n                ]", "[4, 6, 8]"
    )


def write_bundle(folder: Path, with_weights: bool = True, **more: Any) -> Path:
    """`folder/tiny`."""
    home = folder / "tiny"
    for name in ("configs", "scripts", "docs", "models"):
        (home / name).mkdir(parents=True)
    (home / "LICENSE").write_text("free\n")
    (home / "configs" / "inference.yaml").write_text(INFERENCE)
    (home / "configs" / "train.yaml").write_text(TRAIN)
    (home / "configs" / "metadata.json").write_text(dumped(metadata(**more)))
    (home / "scripts" / "__init__.py").write_text("")
    (home / "docs" / "README.md").write_text("# tiny\n\n## Changelog\n\n- **0.1.0**: first\n\n# End\n")
    if with_weights:
        torch.save(weights(0), home / "models" / "model.pt")
    return home


def weights(seed: int) -> dict[str, torch.Tensor]:
    numbers = torch.Generator().manual_seed(seed)
    return {"weight": torch.randn(1, 2, 1, 1, 1, generator=numbers), "bias": torch.randn(1, generator=numbers)}


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder; of a file called cut*.zip it sends the half."""

    def log_message(self, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.name.startswith("cut"):
            super().do_GET()
            return
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.close_connection = True


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server on loopback for the files of a folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
