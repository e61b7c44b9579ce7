"""What data sets say of themselves: dataset.json of nnU-Net and of the Decathlon, splits_final.json."""

from __future__ import annotations

import json
from pathlib import Path

from test_layouts import decathlon, nnunet

from autoconf.__main__ import main
from bad.ends import Ran, ran
from bad.lists import DEEP
from bad.row import Change, Row, changed, content, row, written
from bad.ways import refuses

LAYOUTS = {"dataset.json": (nnunet, "dataset.json"), "splits": (nnunet, "splits_final.json")}
LAYOUTS |= {"decathlon": (decathlon, "dataset.json")}


def inspect(one: Row, tmp: Path) -> Ran:
    write, name = LAYOUTS[one.where]
    write(tmp / "data")
    one.make(tmp / "data" / name)
    return ran(lambda: main(["inspect", str(tmp / "data"), "--out", str(tmp / "work")]))


def labels(tumour: object) -> Change:
    return changed(labels={"background": 0, "tumor": tumour})


def channels(**names: object) -> Change:
    """Channel names; a digit is written with an underscore before it."""
    return changed(channel_names={number.strip("_"): name for number, name in names.items()})


def twice(path: Path) -> None:
    changed(training=json.loads(path.read_text())["training"] * 2)(path)


DESCRIPTIONS = {"inspect": refuses(inspect)}
NO_LABELS = "its labels are no names with numbers"
NO_CHANNELS = "its channel_names (or modality) are not of the form"
NO_JSON = "not readable JSON"
NO_LIST = 'its training[0] is not of the form {"image"'
NO_SPLITS = "not a list of {"
DESCRIBED = [
    row("a dataset.json that ends early", "dataset.json", content("{"), NO_JSON),
    row("a dataset.json in another encoding", "dataset.json", content(b"\xff\xfe{}"), NO_JSON),
    row("a dataset.json with a key twice", "dataset.json", content('{"x": 1, "x": 1}'), "'x' is there twice"),
    row("a dataset.json nested 100,000 deep", "dataset.json", content(DEEP), "is nested too deep"),
    row("a dataset.json that holds a list", "dataset.json", content("[1]"), "beside imagesTr it must hold labels"),
    row("a dataset.json without channels", "dataset.json", content('{"labels": {}}'), "and channel_names or modality"),
    row("a CT alone", "dataset.json", changed(channel_names={"0": "CT"}), "none of its channels (CT) is one of"),
    row("labels without a tumour", "dataset.json", changed(labels={"cavity": 1}), "no tumour is named among"),
    row("a label value that is a text", "dataset.json", labels("one"), NO_LABELS),
    row("a label value of infinity", "dataset.json", labels(float("inf")), NO_LABELS),
    row("a label value below 0", "dataset.json", labels(-1), NO_LABELS),
    row("a label value of 1.5", "dataset.json", labels(1.5), NO_LABELS),
    row("a label of values in two lists", "dataset.json", labels([[1], 2]), NO_LABELS),
    row("labels in a list", "dataset.json", changed(labels=["background", "tumor"]), NO_LABELS),
    row("a channel 'a'", "dataset.json", channels(a="T1"), "its channel 'a' is no number"),
    row("a channel -1", "dataset.json", changed(channel_names={"-1": "T1"}), "its channel '-1' is no number"),
    row("two channels of T1", "dataset.json", channels(_0="T1", _1="T1w", _2="T2"), "channels 0 and 1 are both t1"),
    row("one channel twice", "dataset.json", channels(_1="T1", _01="T2"), "one of its channels has two names"),
    row("a channel's name in a list", "dataset.json", channels(_0=["T1"]), NO_CHANNELS),
    row("channels in a list", "dataset.json", changed(channel_names=["T1", "T2"]), NO_CHANNELS),
    row("decathlon: training of null", "decathlon", changed(training=None), "its training is no list of"),
    row("decathlon: a scan as a text", "decathlon", changed(training=["a.nii.gz"]), NO_LIST),
    row("decathlon: a mask without an image", "decathlon", changed(training=[{"label": "a"}]), NO_LIST),
    row("decathlon: an image as a number", "decathlon", changed(training=[{"image": 5}]), NO_LIST),
    row("decathlon: a mask as a list", "decathlon", changed(training=[{"image": "a", "label": ["b"]}]), NO_LIST),
    row("decathlon: no scan at all", "decathlon", changed(training=[], test=[]), "its training lists no scan"),
    row("decathlon: a test list of 5", "decathlon", changed(test=5), "its test is no list"),
    row("decathlon: a test scan of 5", "decathlon", changed(test=["a.nii.gz", 5]), "its test[1] is not of the form"),
    row("decathlon: a scan listed twice", "decathlon", twice, "case 'BRATS_001' is there twice"),
    row("splits that end early", "splits", content("{"), NO_JSON),
    row("splits of one text", "splits", written([{"val": "case_9"}]), NO_SPLITS),
    row("one split alone", "splits", written({"val": []}), NO_SPLITS),
    row("no splits", "splits", written([]), NO_SPLITS),
    row("splits of no case", "splits", written([{"train": [], "val": []}]), "lists no case"),
    row("a split that trains on null", "splits", written([{"train": None, "val": ["case_1"]}]), NO_SPLITS),
    row("a split that trains on a text", "splits", written([{"train": "case_2", "val": ["case_1"]}]), NO_SPLITS),
    row("a split of a number", "splits", written([{"train": [], "val": [1]}]), NO_SPLITS),
    row("a split of an unknown case", "splits", written([{"train": [], "val": ["case_7"]}]), "'case_7', which has no"),
]
