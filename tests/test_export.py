"""TorchScript and ONNX, exported by MONAI's own commands as the bundle's page has them, answer as its network does."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_bundles import UNETR3D, as_scripts, write_yaml
from helpers_processes import run_module
from monai.bundle import ConfigParser

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason="export to ONNX: pip install '.[export]'")

TINY = {
    "patch_size": [32, 32, 32],
    "network_def::feature_size": 4,
    "network_def::hidden_size": 24,
    "network_def::mlp_dim": 16,
    "network_def::num_heads": 2,
}
TORCHSCRIPT, ONNX = 1e-5, 1e-3  # of a logit: how far an exported network may be from the bundle's


def documented(program: str) -> list[str]:
    """The words after `python -m monai.bundle` of the command for `program` on the bundle's page."""
    page = (UNETR3D / "docs" / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^python -m monai\.bundle ({program} .*)$", page, re.MULTILINE)
    assert found, f"the page has no command for {program}"
    return shlex.split(found[1])


def export(program: str, *words: object) -> None:
    command = [*documented(program), *map(str, words)]
    done = run_module("monai.bundle", command, UNETR3D, {})
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def image(patch: list[int]) -> torch.Tensor:
    """(1, 4, H, W, D), z-scored tissue with a ball that is bright in T2 and FLAIR, as a tumour is."""
    noise = torch.randn(1, 4, *patch, generator=torch.Generator().manual_seed(0))
    places = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in patch), indexing="ij")
    ball = sum((place - 0.2) ** 2 for place in places) < 0.2
    noise[:, 2:] += 3 * ball
    return noise


def answers(folder: Path, checkpoint: Path, overrides: dict) -> dict[str, np.ndarray]:
    """name -> logits on the same image: of the config's network, arranged for its device, and of both exported files.

    checkpoint: may hold half precision, as the shipped one does; all compute in float32.
    """
    own = write_yaml(folder / "own.yaml", overrides)
    files = f"['configs/inference.yaml','{own}']"  # the last --config_file of a command is the one that counts
    both = ("--config_file", files, "--ckpt_file", checkpoint)
    export("ckpt_export", *both, "--filepath", folder / "model.ts")
    parser = ConfigParser()
    parser.read_config([str(UNETR3D / "configs" / "inference.yaml"), str(own)])
    patch = parser.get_parsed_content("patch_size")
    export("onnx_export", *both, "--filepath", folder / "model.onnx", "--input_shape", [1, 4, *patch])
    return dict(run_all(folder, checkpoint, parser, image(patch)))


def run_all(
    folder: Path, checkpoint: Path, parser: ConfigParser, given: torch.Tensor
) -> Iterator[tuple[str, np.ndarray]]:
    """The name of a network, and its logits."""
    import onnxruntime

    with as_scripts("unetr3d"), torch.no_grad():
        network = parser.get_parsed_content("network", device="cpu")
        network.load_state_dict(torch.load(checkpoint, weights_only=True))
        yield "bundle", network.eval()(given).numpy()
        yield "torchscript", torch.jit.load(folder / "model.ts").eval()(given).numpy()
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    yield "onnx", session.run(None, {session.get_inputs()[0].name: given.numpy()})[0]


def assert_agree(found: dict[str, np.ndarray]) -> None:
    bundle = found["bundle"]
    assert bundle.dtype == np.float32
    for name, most in (("torchscript", TORCHSCRIPT), ("onnx", ONNX)):
        assert found[name].shape == bundle.shape and found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], bundle, rtol=0, atol=most, err_msg=name)
        assert ((found[name] > 0) == (bundle > 0)).mean() > 0.9999


@pytest.mark.long
def test_exported_networks_answer_as_the_bundle_does(tmp_path):
    torch.manual_seed(0)
    own = write_yaml(tmp_path / "tiny.yaml", TINY)
    parser = ConfigParser()
    parser.read_config([str(UNETR3D / "configs" / "inference.yaml"), str(own)])
    torch.save(parser.get_parsed_content("network_def").state_dict(), tmp_path / "tiny.pt")
    found = answers(tmp_path, tmp_path / "tiny.pt", TINY)
    assert found["bundle"].std() > 0.01
    assert_agree(found)
