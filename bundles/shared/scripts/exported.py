"""An exported file in the network's place: TorchScript or ONNX. For configs/inference_*.yaml.

Each kind's own library is imported only where that kind is used. What the file was exported for is compared with this
run before it is loaded.
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from monai.utils import convert_to_dst_type
from torch import nn

from .checks import check_settings, is_on_command_line
from .errors import refuse

OVERLAYS = {"torchscript": "inference_torchscript", "onnx": "inference_onnx"}
FACTS = "export.json"  # what a TorchScript file carries beside its code; an ONNX file has metadata of its own
FITS = ("patch_size", "image_size", "target_spacing", "normalize_nonzero", "regions")  # weights fit one of each


def check_exported(kind: str, exported: str, checkpoint: str, **settings: Any) -> None:
    """Refuse a file that is missing, of another kind, or exported for other settings; a library that is missing too.

    kind: a key of OVERLAYS. exported: the file. checkpoint: the config's own, which has no use here.
    settings: the others, checked as `check_settings` does; those of FITS must be the file's own.
    """
    if kind == "onnx" and find_spec("onnxruntime") is None:
        refuse("an ONNX file needs onnxruntime, which is not installed: pip install onnxruntime.")
    check_settings(**settings)
    if "checkpoints" in settings:
        refuse("an exported file and ensemble.yaml cannot be used together. Leave one of them out.")
    if is_on_command_line("checkpoint", sys.argv):
        refuse("--checkpoint has no use here: an exported file holds its weights. Give the file as --exported.")
    if not isinstance(exported, str) or not os.path.isfile(exported):
        refuse(f"exported is {exported!r}, which is no file. {how_to_export(kind)}")
    check_kind(exported, kind)
    compare(exported, facts_of(exported, kind), settings)


def how_to_export(kind: str) -> str:
    """What to type for a file of that kind."""
    files = "\"['configs/inference.yaml','configs/export.yaml']\""
    return f"Write one: python -m monai.bundle run exporting --config_file {files} --format {kind}."


def check_kind(exported: str, kind: str) -> None:
    """Refuse a file that is clearly something else. An ONNX file says so only to who reads all of it."""
    found = "something else"
    if zipfile.is_zipfile(exported):
        with zipfile.ZipFile(exported) as archive:
            names = archive.namelist()
        if any("/code/" in name for name in names):
            found = "TorchScript"
        elif any(name.endswith("/data.pkl") for name in names):
            found = "weights, as training saves them"
        else:
            found = "a zip archive"
    elif exported.endswith(".onnx"):
        found = "ONNX"
    wanted = {"onnx": ("ONNX", "something else")}.get(kind, ("TorchScript",))
    if found not in wanted:
        refuse(f"{exported} is {found}; {OVERLAYS[kind]}.yaml cannot use it. {how_to_export(kind)}")


def facts_of(exported: str, kind: str) -> dict[str, Any]:
    """What configs/export.yaml wrote into the file about it; empty for a file that MONAI's commands made."""
    if kind == "onnx":
        found = _session(exported, torch.device("cpu")).get_modelmeta().custom_metadata_map
        return {name: _value(text) for name, text in found.items()}
    with zipfile.ZipFile(exported) as archive:
        inside = [name for name in archive.namelist() if name.endswith(f"/extra/{FACTS}")]
        return {name: _value(text) for name, text in json.loads(archive.read(inside[0])).items()} if inside else {}


def _value(text: str) -> Any:
    """A fact as the number, list or word that it was before it became text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def plain(value: Any) -> Any:
    """A setting as JSON has it, whichever way it was given: numbers as floats, regions as a list of words."""
    if isinstance(value, str):
        return value.split(",") if value else []
    if isinstance(value, (list, tuple)):
        return [part if isinstance(part, str) else plain(part) for part in value]
    return value if isinstance(value, bool) else float(value)


def compare(exported: str, facts: dict[str, Any], settings: dict[str, Any]) -> None:
    """Refuse settings for which the file was not exported. Names that only one of both has say nothing."""
    for name in FITS:
        if name in facts and name in settings and plain(facts[name]) != plain(settings[name]):
            refuse(
                f"{exported} was exported for {name} {facts[name]}, but this run has {settings[name]}. Give the plan "
                "that it was exported with, or export again with this one."
            )


def load(kind: str, exported: str, device: torch.device | str) -> nn.Module:
    """The network of an exported file: (B, C, ...) float32 in, logits (B, R, ...) float32 out, on the device."""
    device = torch.device(device)
    if kind == "onnx":
        return OnnxNetwork(exported, device)
    try:
        network = torch.jit.load(exported, map_location=device)
    except (RuntimeError, ValueError) as error:
        refuse(f"{exported} cannot be read as TorchScript ({_last_line(error)}). {how_to_export(kind)}")
    return Exported(network.eval())


class Exported(nn.Module):
    """A network that knows plain tensors only. What it answers lies where the image lies, as MONAI's networks do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return convert_to_dst_type(self.answer(image.detach().as_subclass(torch.Tensor)), image)[0]

    def answer(self, image: torch.Tensor) -> torch.Tensor:
        return self.network(image)


class OnnxNetwork(Exported):
    """The same by onnxruntime: on a GPU if the device is one and onnxruntime's GPU build is there, else on the CPU."""

    def __init__(self, path: str, device: torch.device) -> None:
        super().__init__(nn.Identity())
        self.session = _session(path, device)
        self.input = self.session.get_inputs()[0].name

    def answer(self, image: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.session.run(None, {self.input: image.float().cpu().numpy()})[0])


def _session(path: str, device: torch.device) -> Any:
    """onnxruntime's view of a file; one line if it is none that it can run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    there = onnxruntime.get_available_providers()
    gpu = ["CUDAExecutionProvider"] if device.type == "cuda" and "CUDAExecutionProvider" in there else []
    try:
        return onnxruntime.InferenceSession(path, options, providers=[*gpu, "CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - onnxruntime has a class of its own for each way to fail
        refuse(f"{path} cannot be read as ONNX ({_last_line(error)}). {how_to_export('onnx')}")


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()[:150]


def check_window(
    network: nn.Module, exported: str, channels: Sequence[int], window: Sequence[int], device: torch.device | str
) -> None:
    """Refuse a file that does not take this run's windows, by asking it about one of zeros.

    channels: of what goes in and of what comes out. window: its spatial shape, voxels or pixels.
    """
    (given, answered), window = channels, list(window)
    try:
        with torch.no_grad():
            found = list(network(torch.zeros(1, given, *window, device=device)).shape)
    except Exception as error:  # noqa: BLE001 - each kind of file has errors of its own
        refuse(
            f"{exported} does not take {given} channels of {window} ({_last_line(error)}). Give the plan that it was "
            "exported with, or export again with this one."
        )
    if found != [1, answered, *window]:
        refuse(f"{exported} answers with {found}, not {[1, answered, *window]}: it is of another network or --regions.")
