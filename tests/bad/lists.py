"""Datalists that are none, as the bundles and `autoconf score` read them. No file that they list is there."""

from __future__ import annotations

import json
from pathlib import Path

from helpers_bundles import scripts

from autoconf.__main__ import main
from bad.ends import Ran, of_bundle, ran
from bad.row import GONE, Change, Row, changed, content, row, written
from bad.ways import refuses

CASE = {"case": "a", "image": ["a1", "a2", None, "a4"], "label": "a5", "fold": 1}
VOLUMES = {
    "kind": "volumes",
    "dataset_dir": ".",
    "modalities": ["t1", "t1c", "t2", "flair"],
    "regions": {"wt": [1, 2], "tc": [1]},
    "training": [CASE, CASE | {"case": "b"}],
    "testing": [CASE | {"case": "c"}],
    "unlabelled": [{"case": "d", "image": ["d1", "d2", "d3", "d4"], "label": "d5"}],
}
PICTURE = {"case": "a", "image": "a.png", "fold": 1}
IMAGES = {"kind": "images", "dataset_dir": ".", "training": [PICTURE], "testing": [PICTURE | {"case": "b"}]}
READERS = {  # where -> the sound list, and a bundle's function that reads that part of it
    "training": (VOLUMES, scripts("unetr3d", "datalist").training_items),
    "testing": (VOLUMES, scripts("unetr3d", "datalist").evaluation_items),
    "to segment": (VOLUMES, scripts("unetr3d", "datalist").inference_items),
    "unlabelled": (VOLUMES, scripts("unetr3d", "unlabelled").pseudo_items),
    "images": (IMAGES, scripts("pseudo2d", "images").inference_items),
    "all images": (IMAGES, scripts("pseudo2d", "images").unlabelled_items),
}


def a_list(one: Row, tmp: Path) -> Path:
    path = tmp / "list.json"
    path.write_text(json.dumps(READERS[one.where][0]))
    one.make(path)
    return path


def read_by_bundle(one: Row, tmp: Path) -> Ran:
    path = str(a_list(one, tmp))
    return of_bundle(ran(lambda: READERS[one.where][1](path)))


def read_by_score(one: Row, tmp: Path) -> Ran:
    (tmp / "pred").mkdir()
    words = ("score", str(tmp / "pred"), str(a_list(one, tmp)), "--out", str(tmp / "scores"))
    return ran(lambda: main(list(words)))


def case(**keys: object) -> Change:
    """Replace values of the first training case, or of the picture that is tested."""

    def make(path: Path) -> None:
        listed = json.loads(path.read_text())
        part = "training" if listed["kind"] == "volumes" else "testing"
        first = listed[part][0] | keys
        listed[part][0] = {key: value for key, value in first.items() if value is not GONE}
        path.write_text(json.dumps(listed))

    return make


def to_test(**keys: object) -> Change:
    return changed(testing=[CASE | keys])


def to_label(**keys: object) -> Change:
    return changed(unlabelled=[CASE | keys])


def of_volumes(said: str) -> str:
    return f"is not a datalist of volumes ({said}"


def of_images(said: str) -> str:
    return f"is not a datalist of 2D images ({said}"


OURS = "not a datalist ("  # as autoconf says it, and then why
NO_VALUES = "the label values of 'wt' are no list of whole numbers"
DEEP = "[" * 100_000
OLD_NAME = changed(modalities=GONE, contrasts=VOLUMES["modalities"])
BARE = changed(testing=[{"case": "c", "image": CASE["image"]}])
DATALISTS = {"bundle": refuses(read_by_bundle), "score": refuses(read_by_score)}
LISTS = [
    row("a datalist that is not there", "training", Path.unlink, "cannot read datalist", "is not there. Make it with"),
    row("a list of images that is not there", "images", Path.unlink, "cannot read datalist"),
    row("a datalist of other text", "training", content("not json"), of_volumes("Expecting value"), OURS),
    row("a datalist that holds a list", "training", content("[]"), of_volumes("it is no object"), OURS),
    row("a list of images that holds a list", "images", content("[]"), of_images("it is no object")),
    row("a datalist nested 100,000 deep", "training", content(DEEP), of_volumes("maximum recursion depth"), OURS),
    row("a datalist of nothing", "training", content("{}"), of_volumes("no 'modalities'"), OURS),
    row("a list of images of nothing", "images", content("{}"), of_images("no 'testing'")),
    row("a list of no image at all", "all images", changed(training=[], testing=[]), "lists no image. `autoconf"),
    row("a datalist of no kind", "training", changed(kind=GONE), None, "not a datalist (no 'kind')"),
    row("a datalist of films", "training", changed(kind="films"), None, "its kind is 'films', not volumes or images"),
    row("a list of images, to train on volumes", "training", written(IMAGES), of_volumes("no 'modalities'")),
    row("a list of volumes, for images", "images", written(VOLUMES), of_images("an image (a list is for volumes)")),
    row("modalities by their old name", "training", OLD_NAME, of_volumes("no 'modalities'"), "called `modalities` now"),
    row("no modalities", "training", changed(modalities=None), of_volumes("modalities is no list")),
    row("a modality in a list", "training", changed(modalities=[["t1"]]), of_volumes("a contrast is no text"), OURS),
    row("modalities of another network", "training", changed(modalities=[*"abcd"]), "this network needs ['t1', 't1c'"),
    row("no training list", "training", changed(training=GONE), of_volumes("no 'training'"), OURS),
    row("a training list of null", "training", changed(training=None), of_volumes("training is no list: None"), OURS),
    row("a training list of one case", "training", changed(training=CASE), of_volumes("training is no list: {"), OURS),
    row("a case that is a text", "training", changed(training=["a"]), of_volumes("a case is no object: 'a'"), OURS),
    row("a region of a number", "training", changed(regions={"wt": 5}), of_volumes("'wt' in regions is no"), NO_VALUES),
    row("a root that is a number", "training", changed(dataset_dir=5), of_volumes("dataset_dir is no text"), OURS),
    row("a training list without cases", "training", changed(training=[]), "no training case outside fold 0"),
    row("a testing list without cases", "testing", changed(testing=[]), "Score --section", "its testing split lists"),
    row("nothing listed to segment", "to segment", changed(testing=[]), "list is empty. Give --dataset_dir instead"),
    row("a case to score without a label", "testing", BARE, "has no 'label'. Add its mask", "'c' has no label. Add"),
    row("a case to train on without a label", "training", case(label=GONE), "case a has no 'label'. Add its mask"),
    row("a name of two lines, without a label", "training", case(case="a\nb", label=GONE), "case a b has no 'label'"),
    row("a case without an image", "training", case(image=GONE), of_volumes("no 'image'"), OURS),
    row("a case without a name", "training", case(case=GONE), of_volumes("no 'case'"), OURS),
    row("a name that is a number", "training", case(case=7), of_volumes("the name of a case is no text"), OURS),
    row("an image of three paths", "training", case(image=[*"abc"]), of_volumes("case 'a' needs 4 images"), OURS),
    row("an image of no path at all", "training", case(image=[None] * 4), of_volumes("case 'a' needs 4 images"), OURS),
    row("paths that are numbers", "training", case(image=[1] * 4), of_volumes("a path of case 'a' is no text"), OURS),
    row("an image of null", "training", case(image=None), of_volumes("the image of case 'a' is no list"), OURS),
    row("an image that is an object", "training", case(image={"t1": "a"}), of_volumes("the image of case 'a'"), OURS),
    row("a label that is a number", "training", case(label=3), of_volumes("the label of case 'a' is no text"), OURS),
    row("a label that is a list", "training", case(label=[]), of_volumes("the label of case 'a' is no text")),
    row("a fold that is a text", "training", case(fold="0"), of_volumes("the fold of case 'a' is no whole"), OURS),
    row("a fold that is true", "training", case(fold=True), of_volumes("the fold of case 'a' is no whole"), OURS),
    row("a side that is a text", "training", case(side="left"), None, "the side of case 'a' is 'left', no fold"),
    row("regions of a case in a list", "training", case(regions=["wt"]), of_volumes("regions of case 'a' is no"), OURS),
    row("a case's region of a number", "training", case(regions={"wt": 1}), of_volumes("'wt' in regions"), NO_VALUES),
    row("a case's region of texts", "training", case(regions={"wt": ["1"]}), of_volumes("a label value of"), NO_VALUES),
    row("a case's region of no values", "training", case(regions={"wt": []}), None, NO_VALUES),
    row("a case named as a path", "to segment", to_test(case="s/A"), of_volumes("a case is called 's/A'")),
    row("two cases of one name", "testing", changed(testing=[CASE, CASE]), of_volumes("two cases of testing are")),
    row("a side of half a fold", "unlabelled", to_label(side=1.5), of_volumes("the side of case 'a' is no"), OURS),
    row("a side that is a list", "unlabelled", to_label(side=[1]), of_volumes("the side of case 'a' is no"), OURS),
    row("a soft mask that is a number", "unlabelled", to_label(soft=3), of_volumes("the soft of case 'a' is no text")),
    row("voxels to ignore in a list", "unlabelled", to_label(ignore=["a"]), of_volumes("the ignore of case 'a' is no")),
    row("images of null", "images", changed(testing=None), of_images("testing is no list"), "split lists no case"),
    row("an entry that is a text", "images", changed(testing=["a.png"]), of_images("an entry is no object"), OURS),
    row("an entry without an image", "images", case(image=GONE), of_images("no 'image'"), OURS),
    row("a picture of several files", "images", case(image=["x"]), of_images("an image (a list is for volumes)"), OURS),
    row("a picture's fold as a text", "images", case(fold="0"), of_images("the fold of 'a.png' is no whole"), OURS),
    row("a picture's mask as a number", "images", case(label=5), of_images("the label of 'a.png' is no text"), OURS),
    row("a root of images in a list", "images", changed(dataset_dir=["."]), of_images("dataset_dir is no text"), OURS),
    row("a picture from the root", "images", case(image="/else/a.png"), of_images("an image is no path below")),
    row("a picture above its folder", "all images", case(image="../a.png"), of_images("an image is no path below")),
    row("a picture above it by its middle", "images", case(image="a/../../b"), of_images("an image is no path below")),
    row("images without true masks", "images", changed(), None, "Give a folder of true masks instead"),
]
