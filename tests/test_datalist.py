"""From a datalist or a folder to items: both bundles, what they take and what they refuse."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from helpers_bundles import cut_short, scripts
from helpers_volumes import odd_copies
from PIL import Image

volume_items, grids = scripts("unetr3d", "datalist"), scripts("unetr3d", "grids")
image_items = scripts("pseudo2d", "images")
unlabelled = scripts("unetr3d", "unlabelled")


@dataclass
class Copy:
    """A copy of the shared data that a test may break."""

    folder: Path
    datalist: Path
    content: dict[str, Any]

    def change(self, **sections: Any) -> str:
        """Rewrite parts of the datalist; returns its path."""
        self.content |= sections
        self.datalist.write_text(json.dumps(self.content))
        return str(self.datalist)


def copy_of(data, tmp_path: Path) -> Copy:
    shutil.copytree(data.folder, tmp_path / "data")
    copy = Copy(tmp_path / "data", tmp_path / "datalist.json", json.loads(data.datalist.read_text()))
    copy.change(dataset_dir=str(tmp_path / "data"))
    return copy


@pytest.fixture
def cases(volumes, tmp_path) -> Copy:
    return copy_of(volumes, tmp_path)


@pytest.fixture
def pictures(slices, tmp_path) -> Copy:
    return copy_of(slices, tmp_path)


def refusal(function, *args: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        function(*map(str, args))
    message = str(stopped.value.code)
    assert message.startswith(("unetr3d: ", "pseudo2d: ")) and "\n" not in message
    return message


def names(items: list[dict]) -> list[str]:
    return sorted(item["case"] for item in items)


# Volumes


def test_training_and_validation_share_the_training_section_by_fold(cases):
    listed = cases.content["training"]
    for fold in (0, 1):
        outside = names(volume_items.training_items(str(cases.datalist), fold=fold))
        inside = names(volume_items.validation_items(str(cases.datalist), fold=fold))
        assert inside == names([item for item in listed if item["fold"] == fold])
        assert outside == names([item for item in listed if item["fold"] != fold])


def test_with_fold_all_every_case_trains_and_the_validation_says_so(cases, capsys):
    every = names(volume_items.training_items(str(cases.datalist), fold="all"))
    parts = [names(volume_items.validation_items(str(cases.datalist), fold=fold)) for fold in range(2)]
    assert every == names(cases.content["training"])
    capsys.readouterr()
    assert names(volume_items.validation_items(str(cases.datalist), fold="all")) == parts[0]
    assert "flatters" in capsys.readouterr().err


def test_the_testing_section_is_never_read_for_training(cases):
    datalist = cases.change(testing=[{"case": "poison", "image": ["no such file.nii"] * 4, "label": "none"}])
    shown = names(volume_items.training_items(datalist) + volume_items.validation_items(datalist))
    assert shown == names(cases.content["training"])
    assert "no such file.nii is not there" in refusal(volume_items.evaluation_items, datalist)


def test_evaluation_reads_the_testing_section_or_on_request_the_fold(cases):
    testing = volume_items.evaluation_items(str(cases.datalist))
    assert names(testing) == names(cases.content["testing"])
    assert all(Path(path).is_file() for item in testing for path in [*item["image"], item["label"]])
    validation = volume_items.evaluation_items(str(cases.datalist), section="validation", fold=1)
    assert names(validation) == names(volume_items.validation_items(str(cases.datalist), fold=1))
    assert "'training'" in refusal(volume_items.evaluation_items, cases.datalist, "", "training")


def test_inference_reads_the_testing_section_without_its_truth(cases):
    items = volume_items.inference_items(str(cases.datalist))
    assert names(items) == names(cases.content["testing"])
    assert all(set(item) == {"image", "channels", "case"} for item in items)


def test_inference_finds_the_cases_of_a_folder_with_their_contrasts_in_order(cases):
    items = volume_items.inference_items(dataset_dir=str(cases.folder))
    assert names(items) == names(cases.content["training"] + cases.content["testing"])
    ends = [Path(path).name.removeprefix(f"{items[0]['case']}-") for path in items[0]["image"]]
    assert ends == ["t1n.nii.gz", "t1c.nii.gz", "t2w.nii.gz", "t2f.nii.gz"]


def test_dataset_dir_wins_over_the_folder_that_the_datalist_names(cases):
    datalist = cases.change(dataset_dir="/elsewhere")
    assert "/elsewhere" in refusal(volume_items.training_items, datalist)
    for item in volume_items.training_items(datalist, str(cases.folder)):
        assert item["label"].startswith(str(cases.folder))


def both(datalist: Path) -> None:
    """Read the items of training and of validation, one of which holds the broken case."""
    volume_items.training_items(str(datalist))
    volume_items.validation_items(str(datalist))


def test_nothing_to_read_is_refused():
    assert "--datalist" in refusal(volume_items.inference_items)
    assert "autoconf inspect" in refusal(volume_items.training_items, "")


def test_a_case_without_truth_can_be_segmented_but_not_scored_or_trained_on(cases):
    for item in cases.content["training"] + cases.content["testing"]:
        del item["label"]
    datalist = cases.change()
    assert names(volume_items.inference_items(datalist)) == names(cases.content["testing"])
    for read in (volume_items.training_items, volume_items.validation_items, volume_items.evaluation_items):
        assert "has no 'label'" in refusal(read, datalist)


def test_a_datalist_without_folds_has_nothing_to_validate_with(cases):
    for item in cases.content["training"]:
        del item["fold"]
    datalist = cases.change()
    assert names(volume_items.training_items(datalist)) == names(cases.content["training"])
    assert "no case in fold 0" in refusal(volume_items.validation_items, datalist)


def test_contrasts_in_another_order_are_sorted_out_by_the_channels(cases):
    datalist = cases.change(modalities=["flair", "t1", "t1c", "t2"])
    assert all(item["channels"] == [1, 2, 3, 0] for item in volume_items.training_items(datalist))


def test_a_missing_contrast_is_told_to_the_transform(cases):
    for item in cases.content["training"]:
        item["image"][2] = None
    for item in volume_items.training_items(cases.change()):
        assert item["channels"] == [0, 1, -1, 2] and len(item["image"]) == 3


def test_regions_become_label_values(cases):
    cases.content["training"][0]["regions"] = {"wt": [1, 2], "tc": [1], "et": []}
    datalist = cases.change(regions={"wt": [1, 2, 3], "tc": [1, 3], "et": [3]})
    items = volume_items.training_items(datalist, regions="wt,tc") + volume_items.validation_items(
        datalist, regions="wt,tc"
    )
    values = {item["case"]: item["values"] for item in items}
    assert values.pop(cases.content["training"][0]["case"]) == [[1, 2], [1]]
    assert all(value == [[1, 2, 3], [1, 3]] for value in values.values())


def test_a_region_that_a_case_lacks_is_refused(cases):
    datalist = cases.change(regions={"wt": [1]})
    with pytest.raises(SystemExit, match=r"has no region 'tc' \(it has: wt\). Change --regions"):
        volume_items.training_items(datalist, regions=("wt", "tc"))


@pytest.mark.parametrize("regions", ["tc", "wt,et", "", [], "wt,tc,et,wt", None, 5, {"wt": [1]}, [["wt"]]])
def test_regions_are_nested_from_the_outside(regions):
    with pytest.raises(SystemExit, match="It must be wt, or wt,tc or wt,tc,et"):
        volume_items.region_names(regions)


def test_one_file_with_all_contrasts_needs_so_many_channels(cases):
    item = cases.content["training"][0]
    path = cases.folder / item["image"][0]
    image = nibabel.load(path)
    four = nibabel.Nifti1Image(np.stack([np.asarray(image.dataobj)] * 4, -1), image.affine)
    nibabel.save(four, cases.folder / "four.nii.gz")
    item["image"] = "four.nii.gz"
    both(cases.change())
    nibabel.save(nibabel.Nifti1Image(np.asarray(four.dataobj)[..., :3], image.affine), cases.folder / "four.nii.gz")
    assert "32x32x32x3; a fourth axis of at least 4 is needed" in refusal(both, cases.datalist)


def test_two_dots_in_a_name_are_no_folder_above(pictures):
    (pictures.folder / "a..b").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(pictures.folder / "a..b" / "c...png")
    path = pictures.change(testing=[{"image": "a..b/c...png"}])
    assert names(image_items.inference_items(path)) == ["a..b/c...png"]


VOLUMES = {
    "dataset_dir": ".",
    "modalities": ["t1", "t1c", "t2", "flair"],
    "regions": {"wt": [1, 2], "tc": [1]},
    "training": [
        {"case": "a", "image": ["a1", "a2", None, "a4"], "label": "a5", "fold": 0},
        {"case": "b", "image": "b1", "label": "b5", "fold": 1, "regions": {"wt": [1]}},
    ],
}
IMAGES = {"dataset_dir": ".", "training": [{"image": "a", "label": "a5", "fold": 0}, {"image": "b", "fold": 1}]}


@pytest.mark.parametrize(
    ("content", "read", "options"),
    [
        (VOLUMES, volume_items.training_items, {"regions": "wt,tc"}),
        (VOLUMES, volume_items.validation_items, {}),
        (IMAGES, image_items.training_items, {"dataset_dir": "", "mask_dir": ""}),
        (IMAGES, image_items.unlabelled_items, {}),
    ],
)
def test_whatever_stands_in_a_datalist_it_is_refused_in_one_line(tmp_path, content, read, options):
    """No file of these lists is there, so that a list that is understood is refused too."""
    for odd in odd_copies(content):
        (tmp_path / "list.json").write_text(json.dumps(odd))
        with pytest.raises(SystemExit) as stopped:
            read(str(tmp_path / "list.json"), **options)
        assert "\n" not in str(stopped.value.code)


# Images


def test_masks_are_named_so_that_none_collides():
    images = ["a/x.jpg", "a/x.jpeg", "a/x.png", "b/x.jpg", "x.jpg", "a/x.jpg.png"]
    assert len({image_items.mask_name(image) for image in images}) == len(images)


def test_a_class_folder_gives_each_image_once(pictures):
    items = image_items.folder_items(str(pictures.folder))
    assert names(items) == names(pictures.content["training"] + pictures.content["testing"])
    stems = [Path(item["case"]).with_suffix("") for item in items]
    assert len(stems) - len(set(stems)) == 1  # one name with two extensions


def make_masks(pictures: Copy, folder: Path) -> None:
    for item in pictures.content["training"] + pictures.content["testing"]:
        image_items.write_mask(np.eye(8), str(folder / image_items.mask_name(item["image"])))


def test_image_sections_are_kept_apart(pictures, tmp_path):
    make_masks(pictures, tmp_path / "masks")
    where = (str(pictures.datalist), "", str(tmp_path / "masks"), 8)
    inside = names(image_items.validation_items(*where, fold=1))
    assert inside == names([i for i in pictures.content["training"] if i["fold"] == 1])
    outside = names(image_items.training_items(*where, fold=1))
    assert outside == names([i for i in pictures.content["training"] if i["fold"] != 1])
    assert names(image_items.evaluation_items(*where)) == names(pictures.content["testing"])
    assert names(image_items.evaluation_items(*where, section="validation", fold=1)) == inside
    assert names(image_items.inference_items(str(pictures.datalist))) == names(pictures.content["testing"])
    everything = names(pictures.content["training"] + pictures.content["testing"])
    assert names(image_items.unlabelled_items(str(pictures.datalist))) == everything


def test_with_fold_all_every_image_trains_and_the_validation_says_so(pictures, tmp_path, capsys):
    make_masks(pictures, tmp_path / "masks")
    where = (str(pictures.datalist), "", str(tmp_path / "masks"), 8)
    assert names(image_items.training_items(*where, fold="all")) == names(pictures.content["training"])
    shown = names(image_items.validation_items(*where, fold=0))
    capsys.readouterr()
    assert names(image_items.validation_items(*where, fold="all")) == shown
    assert "flatters" in capsys.readouterr().err


def test_the_testing_images_are_never_read_for_training(pictures, tmp_path):
    make_masks(pictures, tmp_path / "masks")
    datalist = pictures.change(testing=[{"case": "poison", "image": "no such file"}])
    for read in (image_items.training_items, image_items.validation_items):
        assert "poison" not in names(read(datalist, "", str(tmp_path / "masks"), 8))


def test_a_missing_mask_or_mask_folder_is_refused(pictures, tmp_path):
    make_masks(pictures, tmp_path / "masks")
    gone = tmp_path / "masks" / image_items.mask_name(pictures.content["testing"][0]["image"])
    gone.unlink()
    message = refusal(image_items.evaluation_items, pictures.datalist, "", tmp_path / "masks")
    assert str(gone) in message and "--mask_dir" in message
    assert "--mask_dir" in refusal(image_items.evaluation_items, pictures.datalist, "", "")


def test_a_mask_of_another_size_is_refused_with_the_cure(pictures, tmp_path):
    make_masks(pictures, tmp_path / "masks")
    where = (str(pictures.datalist), "", str(tmp_path / "masks"))
    with pytest.raises(SystemExit, match=r"8x8 pixels but must be 224x224. Run pseudo_labelling"):
        image_items.training_items(*where)


def test_linked_folders_are_read(pictures, tmp_path):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "a").symlink_to(pictures.folder)
    assert len(image_items.folder_items(str(tmp_path / "linked"))) == len(
        image_items.folder_items(str(pictures.folder))
    )


def test_a_mask_cut_short_and_an_image_that_is_gone_are_named(pictures, tmp_path):
    make_masks(pictures, tmp_path / "masks")
    first = pictures.content["testing"][0]["image"]
    cut_short(tmp_path / "masks" / image_items.mask_name(first), 0.5)  # an 8 x 8 PNG's last bytes hold no row
    message = refusal(image_items.evaluation_items, pictures.datalist, "", tmp_path / "masks")
    assert image_items.mask_name(first) in message
    (pictures.folder / first).unlink()
    assert f"{first} is not there" in refusal(image_items.inference_items, pictures.datalist)


def test_no_images_to_read_is_refused(tmp_path):
    assert "no images found" in refusal(image_items.inference_items, "", tmp_path)
    assert "no such folder" in refusal(image_items.inference_items, "", tmp_path / "nowhere")
    assert "--dataset_dir" in refusal(image_items.inference_items)
    assert "autoconf inspect" in refusal(image_items.training_items, "", "", "masks")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F"])
def test_any_picture_becomes_one_grey_channel(mode):
    values = np.linspace(0, 200, 64, dtype=np.uint8).reshape(8, 8)
    picture = Image.fromarray(values.astype(np.uint16)) if mode == "I;16" else Image.fromarray(values).convert(mode)
    grey = np.asarray(image_items.to_grey(picture)).astype(float)
    assert grey.shape == (8, 8) and grey[-1, -1] > grey[0, 0]
    if mode not in ("1", "P"):
        assert np.abs(grey - values).max() <= 1


# Scans without a truth, and pseudo-masks


def listed(cases: Copy) -> tuple[dict[str, str], str]:
    """Move three training cases to `unlabelled`, of nobody, of a patient of fold 0 and of one of the testing list.

    Returns what is what by name of the case, and the path of the datalist.
    """
    training = cases.content["training"]
    free, of_fold, of_testing = [item for item in training if item["fold"] in (3, 4)][:3]
    left = [item for item in training if item not in (free, of_fold, of_testing)]
    plain = {key: free[key] for key in ("case", "image")}
    unlabelled = [plain, {**of_fold, "side": 0}, {**of_testing, "side": "testing"}]
    names = {"free": free["case"], "of fold": of_fold["case"], "of testing": of_testing["case"]}
    names |= {"fold": next(item["case"] for item in left if item["fold"] == 0)}
    return names, cases.change(training=left, unlabelled=unlabelled)


def test_what_is_held_out_is_not_learned_from_without_a_truth_either(cases):
    names, path = listed(cases)
    rest = {item["case"] for item in cases.content["training"]} - {names["fold"]}
    for parts, wanted in {
        "training": rest,
        "unlabelled": {names["free"]},
        "training,unlabelled": rest | {names["free"]},
        "validation": {names["fold"]},
        ("training", "unlabelled", "validation"): rest | {names["free"], names["fold"], names["of fold"]},
    }.items():
        items = unlabelled.image_items(path, parts=parts)
        assert {item["case"] for item in items} == wanted and len(items) == len(wanted)
        assert all(set(item) == {"image", "channels", "case"} for item in items)
    tested = {item["case"] for item in cases.content["testing"]} | {names["of testing"]}
    assert not tested & {item["case"] for item in unlabelled.image_items(path, parts=unlabelled.PARTS)}


def test_with_fold_all_no_scan_is_left_out_and_what_validates_is_said_to_train(cases, capsys):
    names, path = listed(cases)
    every = {item["case"] for item in cases.content["training"]} | {names["free"], names["of fold"]}
    items = unlabelled.image_items(path, fold="all")
    assert {item["case"] for item in items} == every and len(items) == len(every)
    assert len(unlabelled.image_items(path, fold="all", parts=unlabelled.PARTS)) == len(every)  # none of them twice
    assert not capsys.readouterr().err
    assert [i["case"] for i in unlabelled.image_items(path, fold="all", parts="validation")] == [names["fold"]]
    assert "flatters" in capsys.readouterr().err


def test_a_scan_without_a_truth_is_looked_at_before_it_is_learned_from(cases):
    names, path = listed(cases)
    broken = cases.folder / next(i["image"][2] for i in cases.content["unlabelled"] if i["case"] == names["free"])
    cut_short(broken, 0.6)
    unlabelled.image_items(path, parts="training")
    assert f"{broken} is cut short" in refusal(unlabelled.image_items, path)


def test_unknown_and_empty_parts_are_refused(cases):
    path = cases.change(unlabelled=[])
    for parts in ("testing", "training,training", "", "training,"):
        with pytest.raises(SystemExit, match="parts is .*some of training, unlabelled, validation"):
            unlabelled.image_items(path, parts=parts)
    with pytest.raises(SystemExit, match="no case in unlabelled .fold 0.. Change --parts"):
        unlabelled.image_items(path, parts="unlabelled")
    with pytest.raises(SystemExit, match="some of training, unlabelled, with"):
        unlabelled.pseudo_items(path, parts="validation")


def pseudo_masks(cases: Copy, *keys: str, of: int = 1) -> tuple[str, str]:
    """Give the first `of` unlabelled cases those files, copies of a mask; returns the first one's name and the path."""
    names, path = listed(cases)
    mask = cases.content["training"][0]["label"]
    for item in cases.content["unlabelled"][:of]:
        for key in keys:
            shutil.copy(cases.folder / mask, cases.folder / f"{item['case']}_{key}.nii.gz")
            item[key] = f"{item['case']}_{key}.nii.gz"
    return names["free"], cases.change()


@pytest.mark.parametrize("keys", [("label",), ("label", "soft"), ("label", "ignore"), ("label", "soft", "ignore")])
def test_a_pseudo_mask_may_come_with_a_probability_and_with_voxels_to_ignore(cases, keys):
    case, path = pseudo_masks(cases, *keys)
    (item,) = unlabelled.pseudo_items(path)
    assert item["case"] == case and set(item) == {"case", "image", "channels", "label", "targets"}
    assert item["label"] == [str(cases.folder / f"{case}_{key}.nii.gz") for key in keys]
    assert item["targets"] == {key: place for place, key in enumerate(keys) if place}


def test_training_cases_keep_their_own_values_beside_pseudo_masks(cases):
    case, path = pseudo_masks(cases, "label")
    items = {item["case"]: item for item in unlabelled.pseudo_items(path, parts=["training", "unlabelled"])}
    assert "values" not in items.pop(case)
    assert {item["case"] for item in cases.content["training"] if item["fold"] != 0} == set(items)
    assert all(item["values"] == [[1, 2, 3]] and item["targets"] == {} for item in items.values())


def test_a_scan_without_a_pseudo_mask_is_left_out_and_counted(cases, capsys):
    case, path = pseudo_masks(cases, "label")
    more = {**cases.content["unlabelled"][0], "case": "another", "label": None}
    path = cases.change(unlabelled=[*cases.content["unlabelled"], more])
    assert [item["case"] for item in unlabelled.pseudo_items(path)] == [case]
    assert "left out 1 of 2 unlabelled cases: no pseudo-mask" in capsys.readouterr().err


def test_a_pseudo_mask_of_several_regions_or_on_another_grid_is_refused(cases):
    case, path = pseudo_masks(cases, "label", "soft")
    with pytest.raises(SystemExit, match="the whole tumour alone: leave --regions out"):
        unlabelled.pseudo_items(path, regions="wt,tc,et")
    soft = cases.folder / f"{case}_soft.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)), soft)
    assert f"{soft} has shape 4x4x4" in refusal(unlabelled.pseudo_items, path)
