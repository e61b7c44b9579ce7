"""Does the bundle prepare data as it says? Round trip, intensities, crops and the order of the modalities."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser
from PIL import Image

from autoconf.data.scans import modality_of
from autoconf.data.volumes import bounding_box, read_grid
from autoconf.doctor.checks import Outcome, Subject
from autoconf.doctor.opened import config, image_format, is_3d, items, preprocessed, small
from autoconf.doctor.samples import crooked, sample
from autoconf.score.metrics import overlap

LOGIT = 20.0  # its sigmoid is 1 to nine digits
CENTRES, CROPS = 600, 30  # drawn to count those on tumour
KEEPS = 0.98  # Dice of a mask with itself after the same way, where nothing was resampled
SURVIVES = 0.8  # Dice of a mask with itself after the way to the network's voxels and back
NORMAL = 0.05  # how far the mean and the standard deviation of a z-scored brain may be from 0 and 1


def sized_config(subject: Subject, name: str, **overrides: Any) -> ConfigParser:
    """A config at the size that will be used for the user's data; at a small one for a phantom."""
    return (config if subject.work else small)(subject, name, **{"device": "cpu", **overrides})


def mask_size(subject: Subject) -> dict[str, Any]:
    """For masks that must be made: the size that `sized_config` will ask for."""
    return {} if is_3d(subject) else {"image_size": sized_config(subject, "train").get_parsed_content("image_size")}


def round_trip(subject: Subject) -> Outcome:
    """The crooked case's own mask, prepared as in training, is handed to inference as if the network had drawn it."""
    overrides = crooked(subject)
    overrides |= {"target_spacing": _own_spacing(subject, overrides)} if is_3d(subject) else {}
    back = return_mask(subject, overrides)
    return Outcome(back.said, back.same_grid and min(back.file, back.memory) >= KEEPS)


def spacing_ceiling(subject: Subject) -> Outcome:
    """What a perfect network could reach after the resampling to target_spacing (or image_size) and back."""
    if not subject.work:
        return Outcome("a phantom says nothing about the voxel size of your data", None)
    overrides = sample(subject, 1, **mask_size(subject))
    if overrides.get("mask_dir"):
        return Outcome("pseudo-masks are made at the network's size", None)
    back = return_mask(subject, overrides)
    return Outcome(back.said, back.same_grid and back.file >= SURVIVES, "a perfect network would score this")


@dataclass(frozen=True)
class ReturnedMask:
    """A mask that came back: Dice with itself, in the saved file and in memory, where a viewer's server takes it."""

    file: float
    memory: float
    same_grid: bool  # shape and affine of the file are those of the scan

    @property
    def said(self) -> str:
        grid = "the scan's own grid" if self.same_grid else "another grid than the scan's"
        return f"Dice {self.file:.4f} in the file, {self.memory:.4f} in memory; {grid}"


def return_mask(subject: Subject, overrides: dict[str, Any]) -> ReturnedMask:
    """A case's mask after the preprocessing of training, and inference's way back."""
    item, trained = preprocessed(config(subject, "train", device="cpu", **overrides))[0]
    label = np.asarray(trained["label"], np.float32)
    out = tempfile.mkdtemp(dir=subject.scratch)
    inference = config(subject, "inference", device="cpu", output_dir=out, **overrides)
    case = next(i for i in items(inference, "dataset") if i["case"] == item["case"])
    ready = dict(inference.get_parsed_content("preprocessing")(dict(case)))
    if ready["image"].shape[1:] != label.shape[1:]:
        raise ValueError(f"inference prepares {tuple(ready['image'].shape[1:])} voxels, training {label.shape[1:]}")
    # a network's output bears the image's affine and history
    ready["pred"] = ready["image"][:1] * 0 + torch.from_numpy((2 * label - 1) * LOGIT)
    found = np.asarray(inference.get_parsed_content("postprocessing")(ready)["pred"])[0] > 0
    saved, affine = read_saved(out)
    truth, own_affine = _read(item["label"])
    whole = np.isin(truth, item["values"][0]) if "values" in item else truth > 0
    same_place = affine is None or own_affine is None or np.allclose(affine, own_affine, atol=1e-3)
    same_grid = saved.shape == truth.shape and same_place
    file, memory = (overlap(mask, whole).dice if mask.shape == whole.shape else 0.0 for mask in (saved > 0, found))
    return ReturnedMask(file, memory, same_grid)


def read_saved(folder: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The one mask that inference wrote into a folder, and its affine (None: an image)."""
    files = [path for path in Path(folder).rglob("*") if path.name.endswith((".nii.gz", ".png"))]
    if len(files) != 1:
        raise ValueError(f"inference wrote {len(files)} masks for one case")
    return _read(str(files[0]))


def _read(path: str) -> tuple[np.ndarray, np.ndarray | None]:
    if path.endswith((".nii", ".nii.gz")):
        image: Any = nibabel.load(path)
        return np.asarray(image.dataobj), image.affine
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L")), None


def _own_spacing(subject: Subject, overrides: dict[str, Any]) -> list[float]:
    """The voxel size of the first case, so that nothing is resampled."""
    first = items(config(subject, "train", device="cpu", **overrides), "validate#dataset")[0]
    return read_grid(first["label"]).spacing


def intensities(subject: Subject) -> Outcome:
    """Mean and standard deviation of each contrast inside the brain; of images that are scaled, the range.

    Judged at each scan's own voxel size: resampling to larger voxels blurs, which lowers the deviation rightly.
    """
    parser = sized_config(subject, "train", **sample(subject, 3, **mask_size(subject)))
    cases, ready = zip(*preprocessed(parser, "train"), strict=True)
    images = [np.asarray(one["image"]) for one in ready]
    bounds = image_format(subject).get("value_range")
    if bounds:
        low, high = min(i.min() for i in images), max(i.max() for i in images)
        passed = low >= bounds[0] - 1e-3 and high <= bounds[1] + 1e-3 and high - low > 0.5 * (bounds[1] - bounds[0])
        return Outcome(f"{low:.3f} to {high:.3f}", bool(passed), f"expected {bounds[0]} to {bounds[1]}")
    spacings = [read_grid(item["image"][0]).spacing for item in cases]
    own = [config(subject, "train", device="cpu", target_spacing=spacing) for spacing in spacings]
    ready = [p.get_parsed_content("validate#preprocessing")(dict(i)) for p, i in zip(own, cases, strict=True)]
    means, deviations = _statistics([np.asarray(one["image"]) for one in ready])
    _, seen = _statistics(images)
    passed = max(map(abs, means)) <= NORMAL and max(abs(d - 1) for d in deviations) <= NORMAL
    measured = f"mean {min(means):.3f} to {max(means):.3f}, std {min(deviations):.3f} to {max(deviations):.3f}"
    return Outcome(measured, passed, f"of {len(cases)} cases; resampled, std {min(seen):.2f} to {max(seen):.2f}")


def _statistics(images: list[np.ndarray]) -> tuple[list[float], list[float]]:
    """Means and standard deviations of every channel of (C, H, W, D) images, where it is not 0."""
    inside = [channel[channel != 0] for image in images for channel in image if channel.any()]
    return [float(values.mean()) for values in inside], [float(values.std()) for values in inside]


def crops(subject: Subject) -> Outcome:
    """How often a training crop is centred on tumour, against what pos and neg promise; and how often it holds any.

    A crop of one voxel is its own centre.
    """
    known: Any = sized_config(subject, "train").config
    raw = known["train"].get("crop", {})
    if not {"pos", "neg"} <= set(raw):
        return Outcome("this bundle draws no crops by pos and neg", None)
    promised = raw["pos"] / (raw["pos"] + raw["neg"])
    cases = sample(subject, 3)
    centred = _share_with_tumour(sized_config(subject, "train", **cases, patch_size=[1, 1, 1]), CENTRES)
    holding = _share_with_tumour(sized_config(subject, "train", **cases), CROPS)
    chance = [3 * math.sqrt(promised * (1 - promised) / count) for count in (CENTRES, CROPS)]
    passed = abs(centred - promised) <= chance[0] and holding >= promised - chance[1]
    measured = f"{centred:.3f} of {CENTRES} centred on tumour, {holding:.2f} of {CROPS} hold some"
    return Outcome(measured, passed, f"pos and neg promise {promised:.3f}, +- {chance[0]:.3f} by chance")


def _share_with_tumour(parser: ConfigParser, count: int) -> float:
    """Of `count` crops that train#crop draws from the training cases in turn."""
    prepare, crop = (parser.get_parsed_content(f"train#{name}") for name in ("preprocessing", "crop"))
    ready = [prepare(dict(item)) for item in items(parser, "train#dataset")]
    drawn = [crop(ready[i % len(ready)]) for i in range(count)]
    return float(np.mean([bool((one["label"][:1] > 0).any()) for one in drawn]))


def modality_order(subject: Subject) -> Outcome:
    """Channel i of the network, compared with each contrast's own file, read by another program (nibabel)."""
    names = image_format(subject)["channel_def"]
    if len(names) == 1:
        return Outcome("one channel has no order", None)
    samples = [crooked(subject)] + ([sample(subject, 1)] if subject.work else [])
    wrong, least, note = [], 1.0, ""
    for overrides in samples:
        spacing = _own_spacing(subject, overrides)
        item, ready = preprocessed(config(subject, "train", device="cpu", target_spacing=spacing, **overrides))[0]
        image = np.asarray(ready["image"])
        files = _own_files(item["image"], image.shape[1:])
        if not files:
            note = f"the files of {item['case']} are not named by contrast: only a made-up case was looked at"
        for place, channel in enumerate(image):
            wanted = modality_of(names[str(place)])
            if wanted in files and channel.any():
                likeness = {name: _correlation(channel, file) for name, file in files.items()}
                least = min(least, likeness[wanted])
                best = max(likeness, key=likeness.__getitem__)
                wrong += [f"channel {place} should be {wanted}, is {best} of {item['case']}"] if best != wanted else []
    if wrong:
        return Outcome(f"{len(wrong)} wrong: {wrong[0]}", False)
    return Outcome(f"each channel is its own file's (correlation at least {least:.4f})", True, note)


def _own_files(paths: list[str], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """contrast -> (i, j, k) of the file that is named by it, in RAS+ order, cropped to what is not 0 in any.

    Empty where the end of a name does not tell the contrast, or two files' tell the same.
    """
    stems = [os.path.basename(path).split(".")[0].replace("-", "_") for path in paths]
    names = [modality_of(stem.rpartition("_")[2]) for stem in stems]
    if None in names or len(set(names)) < len(names):
        return {}
    images = [nibabel.as_closest_canonical(nibabel.load(path)) for path in paths]
    arrays = {name: np.asarray(image.dataobj, np.float32) for name, image in zip(names, images, strict=True)}
    box = bounding_box(np.any(list(arrays.values()), axis=0))
    found = {str(name): array[box] for name, array in arrays.items()}
    brain = next(iter(found.values())).shape
    if max(abs(a - b) for a, b in zip(brain, shape, strict=True)) > 1:  # one voxel may be rounding
        raise ValueError(f"the brain has {brain} voxels, the network's image {tuple(shape)}")
    return found


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, where the second is not 0; over the voxels that both have."""
    both = tuple(slice(0, min(sides)) for sides in zip(a.shape, b.shape, strict=True))
    a, b = a[both], b[both]
    inside = b != 0
    return float(np.corrcoef(a[inside], b[inside])[0, 1])


def same_tensor(subject: Subject) -> Outcome:
    """One case as training, evaluation and inference prepare it."""
    overrides = sample(subject, 1, **mask_size(subject))
    item, ready = preprocessed(sized_config(subject, "train", **overrides))[0]
    wanted = torch.as_tensor(ready["image"])
    differences = {}
    for name in ("evaluate", "inference"):
        parser = sized_config(subject, name, section="validation", **overrides)
        other = next(i for i in items(parser, "dataset") if i["case"] == item["case"])
        image = torch.as_tensor(parser.get_parsed_content("preprocessing")(dict(other))["image"])
        if image.shape != wanted.shape:
            return Outcome(f"{name}.yaml makes {tuple(image.shape)}, train.yaml {tuple(wanted.shape)}", False)
        differences[name] = float((image - wanted).abs().max())
    said = ", ".join(f"{name}.yaml {difference:.3g}" for name, difference in differences.items())
    return Outcome(f"largest difference: {said}", not any(differences.values()))
