"""The datalist as autoconf has it: read, written and refused in one place, and the same to both bundles."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from bad.lists import LISTS, READERS
from helpers_bundles import REPO, scripts

from autoconf.data.datalist import KNOWN, SECTIONS, TEXTS, Case, Datalist, read_datalist

SCHEMA = json.loads((REPO / "docs" / "datalist.schema.json").read_text())


def written(tmp_path: Path, content: object) -> str:
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps(content))
    return str(path)


def volumes_of(**more: object) -> dict:
    return {"kind": "volumes", "modalities": ["t1", "flair"], "training": [{"case": "a", "image": ["x", None]} | more]}


@pytest.mark.parametrize("kind", ["volumes", "slices"])
def test_what_inspect_writes_keeps_to_the_schema_and_comes_back_as_it_was(kind, request):
    path = request.getfixturevalue(kind).datalist
    content = json.loads(path.read_text())
    jsonschema.validate(content, SCHEMA)
    assert json.loads(read_datalist(str(path)).text()) == content


def test_all_that_a_case_may_say_comes_back(tmp_path):
    more = {key: key for key in TEXTS} | {"label": "m", "regions": {"wt": [1, 2]}, "soft": "s", "odd": [1]}
    path = written(tmp_path, volumes_of(**more) | {"testing": [], "unlabelled": [], "name": "n", "mine": 1})
    (case,) = read_datalist(path).cases
    assert (case.images, case.label) == ((str(tmp_path / "x"), None), str(tmp_path / "m"))
    assert case.more == {"soft": "s", "odd": [1]} and case.visit == "visit" and case.regions == {"wt": (1, 2)}
    again = json.loads(read_datalist(path).text())
    jsonschema.validate(again, SCHEMA)
    assert again["mine"] == 1 and again["training"] == [{"case": "a", "patient": "a", "image": ["x", None]} | more]


def test_the_schema_knows_every_key_that_is_read():
    known = SCHEMA["$defs"]["case"]["properties"]
    assert set(KNOWN) <= set(known) and set(SECTIONS) <= set(SCHEMA["properties"])


def test_a_file_of_a_modality_is_found_whether_it_lies_alone_or_stacked(tmp_path):
    datalist = read_datalist(written(tmp_path, volumes_of()))
    (case,) = datalist.cases
    assert datalist.file_of(case, "t1") == (str(tmp_path / "x"), None)
    assert datalist.file_of(case, "flair") is None and datalist.file_of(case, "t2") is None
    stacked = read_datalist(written(tmp_path, volumes_of(image="all.nii.gz")))
    assert stacked.file_of(stacked.cases[0], "flair") == (str(tmp_path / "all.nii.gz"), 1)


def test_paths_start_from_the_folder_that_is_named_or_given_or_holds_the_file(tmp_path):
    path = written(tmp_path, volumes_of() | {"dataset_dir": "/data"})
    assert read_datalist(path).cases[0].images[0] == "/data/x"
    assert read_datalist(path, "/moved").cases[0].images[0] == "/moved/x"
    path = written(tmp_path, volumes_of(image=["/elsewhere/x", None]) | {"dataset_dir": ""})
    assert read_datalist(path).root == str(tmp_path) and read_datalist(path).cases[0].images[0] == "/elsewhere/x"
    assert read_datalist(path).plain()["training"][0]["image"] == ["/elsewhere/x", None]


def test_folds_and_sides():
    def case(name: str, **more: object) -> Case:
        return Case(name, name, ("x",), **more)

    cases = [case("u", section="unlabelled", patient_side=1), case("t", section="testing"), case("b", fold=1)]
    cases += [case("a", fold=0), case("c")]
    data = Datalist("d", "images", "/", ()).with_cases(cases)
    assert [one.name for one in data.cases] == ["b", "a", "c", "t", "u"]
    assert [one.side for one in data.cases] == [1, 0, "training", "testing", None]
    assert data.folds == [0, 1] and [one.name for one in data.learning(0)] == ["b", "c"]
    assert [one.name for one in data.validating(0)] == ["a"]


def test_without_its_truth_nothing_that_was_made_of_a_mask_is_left():
    more = {"soft": "s", "ignore": "i", "pseudo": True, "odd": 1}
    case = Case("a", "p", ("x",), fold=1, label="m", regions={"wt": (1,)}, label_from="a program", more=more)
    assert case.without_truth() == replace(Case("a", "p", ("x",)), more={"odd": 1})


UNSAID = {"modalities by their old name", "an image of three paths", "an image of no path at all"}
UNSAID |= {"a picture of several files", "a testing list without cases", "a case to score without a label"}
UNSAID |= {"images without true masks", "a datalist that is not there"}
UNSAID |= {"a datalist of other text", "a datalist nested 100,000 deep"}


@pytest.mark.parametrize("row", [row for row in LISTS if row.ends[1:] and row.given not in UNSAID])
def test_what_the_schema_allows_is_read(row, tmp_path):
    """What is refused is no datalist by the schema either, but for what is no JSON and what a schema cannot say."""
    path, schema = tmp_path / "list.json", jsonschema.Draft202012Validator(SCHEMA)
    path.write_text(json.dumps(READERS[row.where][0]))
    assert schema.is_valid(json.loads(path.read_text()))
    row.make(path)
    assert not schema.is_valid(json.loads(path.read_text()))


def test_both_bundles_read_the_same_cases(volumes, slices):
    items = scripts("unetr3d", "datalist").section_items(str(volumes.datalist), "", "training", ["wt"])
    ours = read_datalist(str(volumes.datalist)).training
    assert [(item["case"], item["image"], item["label"]) for item in items] == [
        (case.name, case.files, case.label) for case in ours
    ]
    items = scripts("pseudo2d", "images").inference_items(str(slices.datalist))
    ours = read_datalist(str(slices.datalist)).testing
    assert [(item["case"], item["image"]) for item in items] == [(case.name, case.images[0]) for case in ours]
