"""The trained network as one file that runs without this bundle: TorchScript or ONNX. For configs/export.yaml.

The file says what it is, for which settings, and what goes in and out. It is read again and compared with the network
before it gets its name, and it holds no path of the machine that wrote it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from monai.data import save_net_with_metadata
from torch import nn

from .checks import check_settings, check_writable
from .errors import ROOT, refuse
from .exported import FACTS, FITS, load, plain

ENDINGS = {"torchscript": ".ts", "onnx": ".onnx"}
NEEDED = {"torchscript": (), "onnx": ("onnx", "onnxscript")}
TRACED = 2  # images in the batch that the exporter sees: of one alone it would believe that it is always one
COMPARED = (1, 3)  # and in those on which the file is compared
MOST = 1e-3  # of a logit: the farthest that a file may be from the network


def check_export(
    format: str, export_path: str, checkpoint: str, output_dir: str = "", **settings: Any
) -> dict[str, Any]:
    """Refuse what could not be exported; return the settings that the weights, and so the file, fit.

    format: torchscript or onnx. export_path: the file; empty: model.ts or model.onnx beside the checkpoint.
    output_dir: the config's own, into which nothing is written here.
    """
    check_settings(checkpoint=checkpoint, **settings)
    if format not in ENDINGS:
        refuse(f"format is {format!r}. It must be torchscript or onnx.")
    missing = [name for name in NEEDED[format] if find_spec(name) is None]
    if missing:
        refuse(f"to export as {format} needs {' and '.join(missing)}: pip install {' '.join(missing)}.")
    if not isinstance(export_path, str) or (export_path and not export_path.endswith(ENDINGS[format])):
        refuse(f"export_path is {export_path!r}. It must be a file that ends in {ENDINGS[format]}.")
    path = target(format, export_path, checkpoint)
    if path.is_dir():
        refuse(f"export_path is {path}, which is a folder. Name a file.")
    check_writable(str(path.parent), "export_path")
    return {name: settings[name] for name in FITS if name in settings}


def target(format: str, export_path: str, checkpoint: str) -> Path:
    """The file to write."""
    return Path(export_path) if export_path else Path(checkpoint).with_name("model" + ENDINGS[format])


def export(
    network: nn.Module,
    checkpoint: str,
    format: str,
    export_path: str,
    window: Sequence[int],
    settings: Mapping[str, Any],
    texts: Mapping[str, str],
) -> None:
    """Write the network with its weights, and say how far the file's answers are from the network's own.

    network: as the config defines it, not arranged for a device. window: spatial shape of what goes in; the batch may
    be of any size. settings: what the file fits. texts: more to say in it, such as what goes in and out.
    """
    network.load_state_dict(_weights(checkpoint))
    network.eval().requires_grad_(False)
    metadata = json.loads((ROOT / "configs" / "metadata.json").read_text(encoding="utf-8"))
    facts = facts_about(metadata, settings, texts)
    shape = (len(json.loads(facts["channel_order"])), *window)
    path = target(format, export_path, checkpoint)
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if format == "onnx":
            write_onnx(network, images(TRACED, shape), facts, partial)
        else:
            write_torchscript(network, metadata, facts, partial)
        said = compared(network, format, partial, shape)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into a RuntimeError
        why = getattr(error, "strerror", None) or (str(error).splitlines() or ["no reason given"])[0]
        refuse(f"cannot export to {path}: {why}. Free some space, or choose another --export_path.")
    finally:
        partial.unlink(missing_ok=True)
    print(f"exporting: {path} ({path.stat().st_size / 1e6:.1f} MB), {said}", file=sys.stderr, flush=True)


def _weights(checkpoint: str) -> dict[str, torch.Tensor]:
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return weights.get("model", weights)


def facts_about(metadata: Mapping, settings: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, str]:
    """What the file says about itself, as text; lists and numbers as JSON."""
    channels = metadata["network_data_format"]["inputs"]["image"]["channel_def"]
    facts = {name: metadata[name] for name in ("name", "version", "description", "intended_use")}
    facts["channel_order"] = [channels[number] for number in sorted(channels, key=int)]
    facts |= {name: _tidy(plain(value)) for name, value in settings.items()}
    facts |= dict(texts)
    return {name: fact if isinstance(fact, str) else json.dumps(fact) for name, fact in facts.items()}


def _tidy(value: Any) -> Any:
    """64.0 as 64."""
    if isinstance(value, list):
        return [_tidy(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def images(count: int, shape: Sequence[int]) -> torch.Tensor:
    """(count, C, ...) normal noise, as spread as z-scored tissue; the same each time."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(count))


def write_torchscript(network: nn.Module, metadata: Mapping, facts: Mapping[str, str], path: Path) -> None:
    """With MONAI's `metadata.json` inside, as `ckpt_export` has it, and the facts beside it."""
    try:
        scripted = torch.jit.script(network)
    except Exception as error:  # noqa: BLE001 - the compiler and what it compiles have errors of many classes
        refuse(f"this network cannot be exported as torchscript ({type(error).__name__}). Try --format onnx.")
    whole = path.with_name(path.name + ".whole")
    extra = {FACTS: json.dumps(facts).encode()}
    try:
        save_net_with_metadata(
            scripted, str(whole), include_config_vals=False, meta_values=metadata, more_extra_files=extra
        )
        _copy_without_paths(whole, path)
    finally:
        whole.unlink(missing_ok=True)


def _copy_without_paths(whole: Path, path: Path) -> None:
    """Leave out the debug tables, which name each line's source file on this machine; nothing runs by them."""
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                new.writestr(zipfile.ZipInfo(entry.filename), old.read(entry))


def write_onnx(network: nn.Module, example: torch.Tensor, facts: Mapping[str, str], path: Path) -> None:
    """One file, weights and all, from `image` to `pred`, for a batch of any size; the facts are its metadata."""
    import onnx

    logger = logging.getLogger("torch.onnx")  # else it speaks of libraries that nobody needs here
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                input_names=["image"],
                output_names=["pred"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except Exception as error:  # noqa: BLE001 - as above
        refuse(f"this network cannot be exported as onnx ({type(error).__name__}). Try --format torchscript.")
    finally:
        logger.setLevel(level)
    model = program.model_proto
    forget_sources(model)
    onnx.helper.set_model_props(model, dict(facts))
    model.doc_string = facts["description"]
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def forget_sources(model: Any) -> None:
    """Drop the exporter's notes on each node, which name the source files on this machine."""
    graph = model.graph
    parts = [model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for function in model.functions:
        parts += [function, *function.node, *function.value_info]
    for part in parts:
        part.doc_string = ""
        del part.metadata_props[:]


def compared(network: nn.Module, format: str, path: Path, shape: Sequence[int]) -> str:
    """How far the file is from the network on a few batches of noise; one line and the end if it is too far."""
    if format == "onnx" and find_spec("onnxruntime") is None:
        return "not compared with the network, because onnxruntime is not installed"
    file = load(format, str(path), "cpu")
    with torch.no_grad():
        batches = [images(count, shape) for count in COMPARED]
        difference = max(float((file(batch) - network(batch)).abs().max()) for batch in batches)
    if not difference <= MOST:
        refuse(f"the exported file is {difference:.1e} of a logit away from the network, more than {MOST}; not kept.")
    return f"at most {difference:.0e} of a logit from the network's own answers to noise"
