"""The doctor passes what is sound, and finds each thing that was broken on purpose: that one, and no other."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from helpers_bundles import PSEUDO2D, UNETR3D, as_scripts, read_yaml, write_yaml
from helpers_volumes import assert_refused, autoconf, forked

from autoconf import commands
from autoconf.data import traits
from autoconf.data.datalist import Case
from autoconf.doctor import bundle_model, bundle_training, data, examine, opened, paired, prepare, samples
from autoconf.doctor.catalogue import CHECKS
from autoconf.doctor.checks import FAIL, PASS, SKIPPED, Check, Result, Subject, ask
from autoconf.errors import AutoconfError

NAMED = {check.name: check for check in CHECKS}
DATA = [check.name for check in CHECKS if check.where.startswith("data:")]
PREPARING = ["bundle: perfect, all background", "bundle: missed tumour", "bundle: false tumour"]
PREPARING += ["round trip", "modality order", "one preprocessing"]  # quick ones; the others where they should fail


def answers(subject: Subject, names: list[str]) -> dict[str, Result]:
    """The checks' results, all in this process."""
    found = {}
    for name in names:
        torch.manual_seed(0)
        found[name] = ask(NAMED[name], subject)
    return found


def failing(subject: Subject, names: list[str]) -> set[str]:
    return {name for name, result in answers(subject, names).items() if result.verdict == FAIL}


@pytest.fixture
def volume_subject(volumes, tmp_path) -> Subject:
    return Subject(str(tmp_path), datalist=str(volumes.datalist), work=str(volumes.work))


@pytest.fixture
def with_datalist(volumes, tmp_path):
    """Copy the phantom, change its datalist by a function of (datalist, data folder), and return the subject."""

    def make(change) -> Subject:
        folder = tmp_path / "data"
        shutil.copytree(volumes.folder, folder)
        content = json.loads(volumes.datalist.read_text()) | {"dataset_dir": str(folder)}
        change(content, folder)
        (tmp_path / "work").mkdir()
        (tmp_path / "work" / "datalist.json").write_text(json.dumps(content))
        return Subject(str(tmp_path), datalist=str(tmp_path / "work" / "datalist.json"), work=str(tmp_path / "work"))

    return make


@pytest.fixture
def inside(monkeypatch):
    """Let this process be that of a bundle, whose folder (or a changed copy of it) a subject names."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    return as_scripts


@pytest.fixture
def broken(tmp_path):
    """Copy a bundle's configs, change one of them as plain data, and return the copy's folder."""

    def make(bundle: Path, config: str, change) -> str:
        folder = tmp_path / bundle.name
        if not folder.exists():
            shutil.copytree(bundle / "configs", folder / "configs")
        path = folder / "configs" / config
        if config.endswith(".json"):
            content = json.loads(path.read_text())
            change(content)
            path.write_text(json.dumps(content))
        else:
            content = read_yaml(path)
            change(content)
            write_yaml(path, content)
        return str(folder)

    return make


def step(transforms: list[dict], target: str) -> dict:
    """The first transform of that name."""
    return next(one for one in transforms if isinstance(one, dict) and one["_target_"] == target)


# --- the whole verb ------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("bundle", [UNETR3D, PSEUDO2D], ids=lambda path: path.name)
def test_the_doctor_passes_each_bundle_on_a_phantom(bundle: Path, tmp_path) -> None:
    assert_passes(bundle, tmp_path / "out")


def test_the_doctor_passes_a_bundle_on_images_that_were_inspected(slices, tmp_path) -> None:
    assert_passes(PSEUDO2D, tmp_path / "out", "--work", slices.work)


def assert_passes(bundle: Path, out: Path, *words: object) -> None:
    done = forked("doctor", *words, "--bundle", bundle, "--quick", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((out / "doctor.json").read_text())
    assert [row["check"] for row in rows] == [check.name for check in CHECKS]
    assert set(rows[0]) == {"group", "check", "expected", "measured", "verdict", "seconds", "note"}
    verdicts = {row["check"]: row["verdict"] for row in rows}
    must = {"round trip", "one preprocessing", "initial loss", "zero input", "one mask", "intensities"}
    must |= {"crops", "modality order", "masks not mirrored"} if bundle == UNETR3D else set()
    assert FAIL not in verdicts.values()
    assert {name for name in must if verdicts[name] != PASS} == set()
    assert "left out by --quick: overfit one case, label permutation" in done.stdout


def test_a_failed_check_is_a_line_and_exit_status_1(with_datalist, capsys) -> None:
    subject = with_datalist(leak_by_list)
    from autoconf.__main__ import main

    assert main(["doctor", "--work", str(Path(subject.datalist).parent)]) == 1
    said = capsys.readouterr()
    failed = f"1 of {len(CHECKS)} checks failed: patients apart"
    assert said.err == f"autoconf: {failed}. See docs/how-to/doctor.md.\n"
    assert "patients apart" in said.out and "FAIL" in said.out


def test_without_anything_to_examine_it_says_what_to_give() -> None:
    assert_refused(autoconf("doctor"), "nothing to check. Give --bundle BUNDLE, --work WORK, or both")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bundle", "nowhere"], "is no bundle"),
        (["--work", "nowhere"], "holds no datalist.json"),
        (["--checkpoint", "pyproject.toml", "--work", "."], "holds no datalist.json"),
    ],
)
def test_what_is_not_there_is_refused(words, said) -> None:
    assert_refused(autoconf("doctor", *words), said)


def test_volumes_for_a_bundle_of_images_are_refused(volumes, tmp_path) -> None:
    with pytest.raises(AutoconfError, match="not of images"):
        prepare(str(tmp_path), str(PSEUDO2D), str(volumes.work), "", "", True)


def test_whatever_a_check_raises_is_its_answer() -> None:
    def refusing(_: Subject):
        raise RuntimeError("outer\nlines") from SystemExit("unetr3d: no such thing.")

    result = ask(Check("data", "x", "y", "z:z"), Subject(""), refusing)
    assert (result.verdict, result.measured) == (FAIL, "unetr3d: no such thing.")


def test_a_bundle_whose_process_dies_fails_its_checks(tmp_path, monkeypatch) -> None:
    probe = tmp_path / "home" / "autoconf" / "doctor" / "probe.py"
    probe.parent.mkdir(parents=True)
    for folder in (probe.parent, probe.parent.parent):
        (folder / "__init__.py").touch()
    probe.write_text("import os, sys; print('out of memory', file=sys.stderr, flush=True); os._exit(3)")
    monkeypatch.setattr(commands, "HOME", tmp_path / "home")
    subject = Subject(str(tmp_path), bundle="somewhere", datalist="somewhere")
    found = examine(subject, [NAMED["zero input"], NAMED["round trip"]])
    assert [result.verdict for result in found] == [FAIL, FAIL]
    assert found[0].measured == "the bundle's process ended with status 3: out of memory"


# --- the data ------------------------------------------------------------------------------------


def test_sound_data_pass(volume_subject) -> None:
    found = answers(volume_subject, DATA)
    assert {name for name, result in found.items() if result.verdict == FAIL} == set()
    assert [name for name, result in found.items() if result.verdict == SKIPPED] == ["modalities as named"]


def leak_by_list(content, _) -> None:
    """One patient trains and tests."""
    content["testing"][0]["patient"] = content["training"][0]["patient"]


def leak_by_name(content, _) -> None:
    """Two sessions of one patient are called two patients."""
    for number, item in enumerate([*content["training"], *content["testing"]]):
        item["patient"] = f"patient {number}"
    content["training"][0]["case"] = "BraTS-GLI-77777-000"
    content["testing"][0]["case"] = "BraTS-GLI-77777-001"


def copied(content, folder) -> None:
    """A file of a test case lies under the name of a training case."""
    shutil.copy(folder / content["testing"][0]["image"][0], folder / content["training"][0]["image"][0])


def copied_anew(content, folder) -> None:
    """The same voxels, but another file."""
    image = nibabel.load(folder / content["testing"][0]["image"][0])
    nibabel.save(image, folder / content["training"][0]["image"][0])


def change_mask(change):
    def of_first(content, folder) -> None:
        path = folder / content["training"][0]["label"]
        image = nibabel.load(path)
        mask = np.ascontiguousarray(change(np.asarray(image.dataobj)))
        nibabel.save(nibabel.Nifti1Image(mask, image.affine), path)

    return of_first


def in_a_corner(mask: np.ndarray) -> np.ndarray:
    moved = np.zeros_like(mask)
    moved[:3, :3, :3] = 2
    return moved


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (leak_by_list, {"patients apart"}),
        (leak_by_name, {"patients apart"}),
        (copied, {"files apart", "copies apart"}),
        (copied_anew, {"copies apart"}),
        (change_mask(lambda mask: mask[::-1]), {"masks not mirrored"}),
        (change_mask(lambda mask: mask[:, ::-1]), {"masks not mirrored"}),
        (change_mask(lambda mask: np.where(mask == 2, 7, mask).astype(np.uint8)), {"label values"}),
        (change_mask(in_a_corner), {"masks in the head"}),
        (lambda content, _: content["regions"].update(tc=[1, 2, 3], wt=[1, 3]), {"label values"}),
    ],
    ids=["leak", "leak by name", "copy", "copy anew", "left-right", "front-back", "label 7", "outside", "regions"],
)
def test_broken_data_are_found(change, expected, with_datalist) -> None:
    assert failing(with_datalist(change), DATA) == expected


def test_a_tumour_across_the_midline_is_no_mirrored_one() -> None:
    flair = np.random.default_rng(0).uniform(1, 2, (20, 24, 16))
    flair[6:14, 4:9, 4:9] += 2
    mask = flair > 2.5
    mask[6, 4, 4] = False  # its mirror image is as good, but for chance
    assert data.mirror_that_fits(flair, mask) == ()
    assert 1 in data.mirror_that_fits(flair, mask[:, ::-1])  # left and right look alike to it


def test_exchanged_contrasts_are_found(volume_subject, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    agreements = []
    for _ in range(8):
        tissue, lesion = rng.normal(0, 1, 4000), np.arange(4000) < 400
        samples = [tissue, tissue + 0.5 * lesion, 2 * lesion - tissue, 3.4 * lesion - 0.2 * tissue]
        agreements.append(traits.agreement(np.array(samples) + rng.normal(0, 0.3, (4, 4000)), lesion))
    monkeypatch.setattr(data, "measured", lambda _: [SimpleNamespace(agreement=numbers) for numbers in agreements])
    assert failing(volume_subject, ["modalities as named"]) == set()
    agreements[5] = list(traits._exchange(np.array(agreements[5]), 0, 2))
    (result,) = answers(volume_subject, ["modalities as named"]).values()
    assert result.verdict == FAIL and "t1 and t2" in result.measured


def test_copied_images_are_found(slices, tmp_path) -> None:
    content = json.loads(slices.datalist.read_text())
    folder = tmp_path / "data"
    shutil.copytree(slices.folder, folder)
    (tmp_path / "datalist.json").write_text(json.dumps(content | {"dataset_dir": str(folder)}))
    subject = Subject(str(tmp_path), datalist=str(tmp_path / "datalist.json"))
    assert failing(subject, DATA) == set()
    shutil.copy(folder / content["testing"][0]["image"], folder / content["training"][0]["image"])
    assert failing(subject, DATA) == {"files apart", "copies apart"}


def test_a_file_on_both_sides_is_named_once_per_side(slices, tmp_path) -> None:
    """Two training images and a test image are the same: the two of one side say nothing of a leak."""
    content = json.loads(slices.datalist.read_text())
    folder = tmp_path / "data"
    shutil.copytree(slices.folder, folder)
    fold = content["training"][0]["fold"]
    one, two = [item for item in content["training"] if item["fold"] == fold][:2]
    for item in (one, two):
        shutil.copy(folder / content["testing"][0]["image"], folder / item["image"])
    (tmp_path / "datalist.json").write_text(json.dumps(content | {"dataset_dir": str(folder)}))
    (result,) = answers(Subject(str(tmp_path), datalist=str(tmp_path / "datalist.json")), ["files apart"]).values()
    assert result.verdict == FAIL
    assert Path(one["image"]).name in result.measured and "(testing)" in result.measured, result.measured


def test_a_datalist_that_names_no_folder_lies_beside_its_images(slices, tmp_path) -> None:
    content = json.loads(slices.datalist.read_text())
    shutil.copytree(slices.folder, tmp_path / "data")
    del content["dataset_dir"]
    (tmp_path / "data" / "datalist.json").write_text(json.dumps(content))
    subject = Subject(str(tmp_path), datalist=str(tmp_path / "data" / "datalist.json"))
    assert {name: found.verdict for name, found in answers(subject, ["copies apart"]).items()} == {"copies apart": PASS}


# --- the bundle ----------------------------------------------------------------------------------


def remove_invertd(config) -> None:
    steps = config["postprocessing"]["transforms"]
    steps.remove(step(steps, "Invertd"))


def flip_after_invertd(config) -> None:
    steps = config["postprocessing"]["transforms"]
    place = steps.index(step(steps, "Invertd"))
    steps.insert(place + 1, {"_target_": "Flipd", "keys": "pred", "spatial_axis": 0})


def swap_names(metadata) -> None:
    names = metadata["network_data_format"]["inputs"]["image"]["channel_def"]
    names["1"], names["2"] = names["2"], names["1"]


def ignore_empty(config) -> None:
    config["validate"]["key_metric"]["val_dice"]["metric_fn"]["ignore_empty"] = True


def other_normalisation(config) -> None:
    step(config["preprocessing"]["transforms"], "scripts.preprocessing.ZScored")["nonzero"] = False


def background_crops(config) -> None:
    """The promise stays in the file, but each crop is centred somewhere else."""
    config["train"]["crop"]["_target_"] = "scripts.crops.CentreCrop"


def no_sigmoid(config) -> None:
    config["loss_function"]["sigmoid"] = False


def nothing_by_nothing(config) -> None:
    """A loss that counts missed voxels only, and divides by the size of the tumour."""
    config["loss_function"] = {"_target_": "TverskyLoss", "sigmoid": True, "alpha": 0.0, "beta": 1.0}
    config["loss_function"] |= {"smooth_nr": 0.0, "smooth_dr": 0.0}


def no_normalisation(transforms: list) -> None:
    transforms.remove(step(transforms, "scripts.preprocessing.ZScored"))


@pytest.mark.parametrize(
    ("config", "change", "expected"),
    [
        ("inference.yaml", remove_invertd, {"round trip"}),
        ("inference.yaml", flip_after_invertd, {"round trip"}),
        ("metadata.json", swap_names, {"modality order"}),
        ("train.yaml", ignore_empty, {"bundle: false tumour"}),
        ("evaluate.yaml", other_normalisation, {"one preprocessing"}),
        ("train.yaml", background_crops, {"crops"}),
        ("train.yaml", no_sigmoid, {"initial loss"}),
        ("train.yaml", nothing_by_nothing, {"zero input", "initial loss"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_bundle_of_volumes_is_found(config, change, expected, broken, inside, volumes, tmp_path) -> None:
    subject = Subject(str(tmp_path), bundle=broken(UNETR3D, config, change), datalist=str(volumes.datalist))
    with inside("unetr3d"):
        assert failing(subject, sorted({*PREPARING, *expected})) == expected


def test_missing_normalisation_is_found(broken, inside, volumes, tmp_path) -> None:
    folder = broken(UNETR3D, "train.yaml", lambda c: no_normalisation(c["train"]["deterministic_transforms"]))
    for config in ("inference.yaml", "evaluate.yaml"):
        broken(UNETR3D, config, lambda c: no_normalisation(c["preprocessing"]["transforms"]))
    subject = Subject(str(tmp_path), bundle=folder, datalist=str(volumes.datalist))
    with inside("unetr3d"):
        assert failing(subject, ["round trip", "intensities", "modality order", "one preprocessing"]) == {"intensities"}


@pytest.mark.parametrize(
    ("config", "change", "expected"),
    [
        ("inference.yaml", remove_invertd, {"round trip"}),
        ("inference.yaml", flip_after_invertd, {"round trip"}),
        ("train.yaml", ignore_empty, {"bundle: false tumour"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_bundle_of_images_is_found(config, change, expected, broken, inside, slices, tmp_path) -> None:
    subject = Subject(str(tmp_path), bundle=broken(PSEUDO2D, config, change), datalist=str(slices.datalist))
    with inside("pseudo2d"):
        assert failing(subject, sorted({*PREPARING, *expected})) == expected


def test_files_without_a_contrast_in_their_name_are_not_judged(inside, with_datalist) -> None:
    """As nnU-Net names them. Only the made-up case is looked at then, and that is said."""

    def renamed(content, folder) -> None:
        for item in [*content["training"], *content["testing"]]:
            for number, path in enumerate(item["image"]):
                item["image"][number] = f"{item['case']}_{number:04d}.nii.gz"
                shutil.copy(folder / path, folder / item["image"][number])

    subject = replace(with_datalist(renamed), bundle=str(UNETR3D))
    with inside("unetr3d"):
        (result,) = answers(subject, ["modality order"]).values()
    assert result.verdict == PASS and "not named by contrast" in result.note


def test_the_voxel_size_of_real_masks_is_judged(inside, volumes, slices, tmp_path) -> None:
    """Voxels of 30 mm cannot hold a phantom's tumours; pseudo-masks have no size of their own."""
    subject = Subject(str(tmp_path), str(UNETR3D), str(volumes.datalist), str(volumes.work))
    plans = {mm: str(write_yaml(tmp_path / f"{mm}.yaml", {"target_spacing": [mm] * 3})) for mm in (5.625, 30.0)}
    with inside("unetr3d"):
        assert failing(replace(subject, plan=plans[5.625]), ["voxel size"]) == set()
        assert failing(replace(subject, plan=plans[30.0]), ["voxel size"]) == {"voxel size"}
    with inside("pseudo2d"):
        images = Subject(str(tmp_path), str(PSEUDO2D), str(slices.datalist), str(slices.work))
        assert answers(images, ["voxel size"])["voxel size"].verdict == SKIPPED


def test_a_script_that_answers_otherwise_is_found(inside, slices, tmp_path, monkeypatch) -> None:
    subject = Subject(str(tmp_path), bundle=str(PSEUDO2D), datalist=str(slices.datalist))
    with inside("pseudo2d"):
        assert failing(subject, ["one mask"]) == set()
        monkeypatch.setattr(torch.jit, "trace", lambda network, example: lambda image: 1 - network(image))
        assert failing(subject, ["one mask"]) == {"one mask"}


def test_a_case_is_learned_by_heart_but_not_without_its_mask(inside, broken, slices, tmp_path) -> None:
    def lost_mask(config) -> None:
        step(config["train"]["deterministic_transforms"], "AsDiscreted")["threshold"] = 300  # of 255

    sound = Subject(str(tmp_path), bundle=str(PSEUDO2D), datalist=str(slices.datalist))
    with inside("pseudo2d"):
        assert failing(sound, ["overfit one case"]) == set()
        blind = replace(sound, bundle=broken(PSEUDO2D, "train.yaml", lost_mask))
        assert failing(blind, ["overfit one case"]) == {"overfit one case"}


@pytest.mark.parametrize("leaks", [False, True])
def test_shuffled_masks_must_not_beat_the_mean_mask(leaks, inside, volumes, tmp_path, monkeypatch) -> None:
    """What is learned in place of a training: the mean of the masks that were shown, or, where it leaks, the truth."""
    subject = Subject(str(tmp_path), bundle=str(UNETR3D), datalist=str(volumes.datalist))

    def learn(parser, shown, _):
        truth = {image.sum().item(): label for image, label in bundle_training.pairs(parser, "validate")}
        right = {image.sum().item(): label for image, label in bundle_training.pairs(parser, "train")}
        assert not any(torch.equal(right[image.sum().item()], label) for image, label in shown)
        mean = torch.stack([label for _, label in shown]).mean(dim=0) - 0.3
        network = torch.nn.Module()
        network.forward = lambda images: (truth[images.sum().item()] - 0.5 if leaks else mean)[None]
        return network, 0

    monkeypatch.setattr(bundle_training, "learn", learn)
    with inside("unetr3d"):
        assert failing(subject, ["label permutation"]) == ({"label permutation"} if leaks else set())


# --- the model -----------------------------------------------------------------------------------


class TransformerBlock(torch.nn.Module):
    """Named as MONAI's, which is how the doctor knows one; multiplies by a number that is in the checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * self.factor


class Blocked(torch.nn.Sequential):
    """That block, then the linear network."""

    def __init__(self) -> None:
        super().__init__(TransformerBlock(), torch.nn.Conv3d(4, 1, 1))


LINEAR = {"_target_": "torch.nn.Conv3d", "in_channels": 4, "out_channels": 1, "kernel_size": 1}
WITH_BLOCK = {"_target_": f"{__name__}.Blocked"}
FLAIR = [0.0, 0.0, 0.0, 1.0]  # weights of t1, t1c, t2 and flair in the linear network's logit
BRIGHT = 1.5  # standard deviations of FLAIR from which on the linear network calls it tumour


@pytest.fixture
def model(volumes, tmp_path, inside):
    """Write weights of a network, fresh ones changed by a function of its state dict; returns the subject.

    network: a name of the bundle's, or a definition that takes the place of `network_def`. folds: of the training
    cases in turn; those of fold 0 validate.
    """

    def make(network: str | dict, change=lambda weights: None, folds=(0, 0, 0, 0, 1, 1, 1), edit=None) -> Subject:
        plan = {"patch_size": [32] * 3, "target_spacing": [5.625] * 3, "device": "cpu"}
        plan |= {"network_name": network} if isinstance(network, str) else {"network_def": network}
        content = json.loads(volumes.datalist.read_text())
        items = (content["training"] + content["testing"])[: len(folds)]
        pairs = zip(items, folds, strict=True)
        content["training"] = [item | {"fold": fold, "patient": item["case"]} for item, fold in pairs]
        if edit:
            edit(content)
        (tmp_path / "datalist.json").write_text(json.dumps(content | {"testing": []}))
        subject = Subject(
            str(tmp_path),
            bundle=str(UNETR3D),
            datalist=str(tmp_path / "datalist.json"),
            work=str(volumes.work),
            plan=str(write_yaml(tmp_path / "plan.yaml", plan)),
            checkpoint=str(tmp_path / "model.pt"),
            quick=True,
        )
        torch.manual_seed(0)
        weights = opened.config(subject, "train").get_parsed_content("network_def").state_dict()
        change(weights)
        torch.save(weights, subject.checkpoint)
        return subject

    with inside("unetr3d"):
        yield make


def linear(*weights: float, bias: float = -BRIGHT, block: float | None = None):
    """A change of weights that makes the linear network's logit a sum of the modalities; block: the block's factor."""

    def change(state) -> None:
        first = "" if block is None else "1."
        state[f"{first}weight"][:] = torch.tensor(weights)[None, :, None, None, None]
        state[f"{first}bias"][:] = bias
        if block is not None:
            state["0.factor"][:] = block

    return change


def test_a_modality_that_the_network_never_looks_at_is_found(model) -> None:
    sound = bundle_model.modalities_used(model("segresnet"))
    assert sound.passed and "without t1c" in sound.measured

    def blind(weights) -> None:
        weights["convInit.conv.weight"][:, 2] = 0

    found = bundle_model.modalities_used(model("segresnet", blind))
    assert not found.passed and found.note.startswith("never looked at: t2. Look at: ")


def test_a_network_that_is_better_without_a_modality_is_found(model) -> None:
    """A little of each modality does no harm. T1 that outweighs FLAIR hides the tumour, which FLAIR alone shows."""
    sound = bundle_model.modalities_used(model(LINEAR, linear(0.01, 0.01, 0.01, 1.0)))
    assert sound.passed and "(n = 3)" in sound.measured and "too few" not in sound.note
    found = bundle_model.modalities_used(model(LINEAR, linear(3.0, 0.01, 0.01, 1.0)))
    assert not found.passed and found.note.startswith("better without t1 (+"), found
    assert "t1c" not in found.note and "t2" not in found.note and "--amp False" in found.note


def test_a_network_that_is_better_without_its_transformer_is_found(model) -> None:
    """A block that turns the image into its negative; the same one harmless; and one that the network needs."""
    worse = bundle_model.transformer_share(model(WITH_BLOCK, linear(*FLAIR, block=-1.0)))
    assert not worse.passed and worse.note.startswith("better without its transformer (+"), worse
    assert "--amp False" in worse.note and "1 blocks as identity (n = 3)" in worse.measured
    assert bundle_model.transformer_share(model(WITH_BLOCK, linear(*FLAIR, block=1.0))).passed
    needed = model(WITH_BLOCK, linear(*[-w for w in FLAIR], block=-1.0))
    assert bundle_model.transformer_share(needed).passed


def test_the_transformer_of_a_unetr_is_measured(model) -> None:
    found = bundle_model.transformer_share(model("unetr"))
    assert found.passed and "12 blocks as identity" in found.measured
    assert bundle_model.transformer_share(model("segresnet")).passed is None


@pytest.mark.parametrize(
    ("check", "slight", "gross"),
    [
        ("modalities used", {"t1": 0.3}, {"t1": 5.0}),
        ("transformer's share", {"block": 0.65}, {"block": -1.0}),
        ("better than a FLAIR threshold", {"bias": -2.6}, {"block": -1.0}),
    ],
)
def test_few_patients_are_judged_only_by_a_gross_difference(check, slight, gross, model) -> None:
    """Two scans of each of two patients are two patients still."""

    def two_of_each(content) -> None:
        for number, item in enumerate(content["training"]):
            item["patient"] = str(number // 2)

    def verdict(t1=0.01, **change) -> Result:
        weights = linear(t1, 0.01, 0.01, 1.0, **({"block": 1.0} | change))
        (result,) = answers(model(WITH_BLOCK, weights, edit=two_of_each), [check]).values()
        return result

    found = verdict(**slight)
    assert (found.verdict, found.note) == (PASS, bundle_model.FEW), found
    assert verdict(**gross).verdict == FAIL


def test_a_modality_that_no_case_has_is_not_judged(model) -> None:
    def without_t2(content) -> None:
        for item in content["training"]:
            item["image"][2] = None

    found = bundle_model.modalities_used(model(LINEAR, linear(0.01, 0.01, 0.01, 1.0), edit=without_t2))
    assert found.passed and "no case has t2" in found.measured


def test_random_weights_are_worse_than_a_flair_threshold(model) -> None:
    for network in ("segresnet", "unetr"):
        found = bundle_model.beats_threshold(model(network))
        assert not found.passed and "(n = 3 training cases)" in found.measured, found
        assert found.note.startswith("worse than a threshold on cases that it was trained on. Look at: ")


def test_a_network_that_finds_the_tumour_is_better_than_a_flair_threshold(model) -> None:
    found = bundle_model.beats_threshold(model(LINEAR, linear(*FLAIR)))
    assert found.passed and found.note == "on the network's own voxels", found


def test_a_threshold_is_compared_with_a_whole_tumour_only(model) -> None:
    subject = model("segresnet")
    write_yaml(Path(subject.plan), read_yaml(Path(subject.plan)) | {"regions": "tc"})
    found = bundle_model.beats_threshold(subject)
    assert found.passed is None and found.measured == "its first region is tc; the threshold is of the whole tumour"


def test_a_bundle_of_images_has_no_flair_threshold(slices, tmp_path) -> None:
    found = bundle_model.beats_threshold(Subject(str(tmp_path), str(PSEUDO2D), str(slices.datalist)))
    assert found.passed is None and "takes no FLAIR" in found.measured


def test_a_sample_takes_one_case_of_each_patient_first() -> None:
    listed = [Case(f"{patient}{scan}", patient, ("x",)) for patient in "abc" for scan in range(3)]
    order = [case.patient for case in samples._in_order(listed)]
    assert set(order[:3]) == set(order[3:6]) == set(order[6:]) == set("abc")


def test_quick_asks_about_the_patch_around_the_tumour() -> None:
    """Centred where there is room, moved where there is not, and all of an axis that is shorter."""
    truth = np.zeros((40, 50, 20), bool)
    truth[14:20, 2:5, 4:8] = True
    assert bundle_model.window(truth, [16, 16, 32]) == (slice(9, 25), slice(0, 16), slice(0, 32))
    assert bundle_model.window(truth[:, ::-1], [16, 16, 16]) == (slice(9, 25), slice(34, 50), slice(0, 16))
    assert truth[bundle_model.window(truth, None)].shape == truth.shape
    image = torch.arange(truth.size).reshape(1, 1, *truth.shape)
    case = bundle_model.Ready("patient", image, truth).cut(bundle_model.window(truth, [16, 16, 32]))
    assert case.truth.shape == case.image.shape[2:] == (16, 16, 20)
    assert torch.equal(case.image[0, 0], image[0, 0, 9:25, :16]) and case.truth.sum() == truth.sum()


@pytest.mark.parametrize(
    ("after", "before", "patients", "clear"),
    [
        ([0.95, 0.94, 0.96], [0.90, 0.90, 0.90], "abc", True),
        ([0.92, 0.93, 0.91], [0.90, 0.90, 0.90], "abc", False),  # not more than the margin
        ([0.90, 0.90, 1.00], [0.90, 0.90, 0.80], "abc", False),  # one case of three
        ([0.90, 0.90, 0.90], [0.50, 0.90, 0.90], "abc", True),  # and one that is gross on the mean
        ([0.90, 0.90, 0.95, 0.95, 0.96, 0.97], [0.90] * 6, "abcdef", True),
        ([0.80, 0.80], [0.65, 0.65], "ab", False),
        ([0.80, 0.80, 0.80, 0.80], [0.65] * 4, "aabb", False),  # two patients
        ([0.80, 0.80], [0.55, 0.55], "ab", True),
        ([0.80], [0.40], "a", True),
        ([0.40, 0.40, 0.40], [0.90, 0.90, 0.90], "abc", False),
        ([0.90, 0.90, 0.90], [0.90, 0.90, 0.90], "abc", False),
    ],
)
def test_a_gain_is_clear_by_its_margin_and_its_interval(after, before, patients, clear) -> None:
    assert paired.gain(after, before, patients).is_clear is clear


def test_a_gain_that_is_not_clear_is_named_in_the_note_of_a_pass() -> None:
    uneven = paired.gain([0.9, 0.9, 1.0], [0.9, 0.9, 0.8], "abc")
    note = bundle_model._note({"t1": uneven, "t2": paired.gain([0.9] * 3, [0.9] * 3, "abc")})
    assert uneven.is_unclear and note == "perhaps better without t1 (+0.067, 95 % lower bound -0.128, n = 3)"


def test_the_lower_bound_of_a_gain_is_that_of_students_t() -> None:
    """By hand: differences 0.1, 0.2 and 0.3, mean 0.2, deviation 0.1; t of 0.95 and 2 degrees of freedom is 2.920."""
    found = paired.gain([0.5, 0.6, 0.7], [0.4, 0.4, 0.4], "abc")
    assert (found.mean, found.patients) == (pytest.approx(0.2), 3)
    assert found.low == pytest.approx(0.2 - 2.920 * 0.1 / 3**0.5, abs=1e-4)


def test_weights_of_another_network_are_a_failed_check(model) -> None:
    subject = model("segresnet")
    write_yaml(Path(subject.plan), {"patch_size": [32] * 3, "device": "cpu"})
    assert failing(subject, ["modalities used"]) == {"modalities used"}
