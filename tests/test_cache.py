"""Prepared cases: made once, found by content, whole or not there, whoever else is at work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_bundles import REPO, UNETR3D, as_scripts, cut_short, scripts
from helpers_processes import start_module
from helpers_volumes import scan, store
from monai.bundle import ConfigParser
from monai.transforms import Compose

cache = scripts("unetr3d", "cache")


@pytest.fixture
def item(tmp_path) -> dict:
    return make_item(tmp_path / "data", 0)


def make_item(folder: Path, seed: int) -> dict:
    """A case of four modalities and a mask; its files end in the seed."""
    folder.mkdir(exist_ok=True)
    item = item_of(folder, seed)
    for contrast, path in enumerate(item["image"]):
        store(scan(contrast, seed), path)
    store((scan(0, seed) > 700).astype(np.uint8) * 2, item["label"])
    return item


def item_of(folder: Path, seed: int) -> dict:
    """The item of a case that is there."""
    images = [str(folder / f"{c}_{seed}.nii.gz") for c in range(4)]
    item = {"case": f"case{seed}", "image": images, "channels": [0, 1, 2, 3]}
    return item | {"label": str(folder / f"seg_{seed}.nii.gz"), "values": [[1, 2, 4]]}


def preparing(*overlays: str, **overrides):
    """The transforms of train.yaml, and of overlays on it."""
    parser = ConfigParser()
    parser.read_config([str(UNETR3D / "configs" / f"{name}.yaml") for name in ("train", *overlays)])
    for key, value in {"target_spacing": [1.0, 1.0, 1.5], **overrides}.items():
        parser[key] = value
    with as_scripts("unetr3d"):
        return parser.get_parsed_content("train#preprocessing")


class Counted:
    """Counts how often it prepares a case; its settings are those of what it wraps."""

    def __init__(self, transform) -> None:
        self.transform = transform
        self.calls = 0

    def __call__(self, item):
        self.calls += 1
        return self.transform(item)


def preprocessed(items: list[dict], folder: Path, transform=None) -> tuple[list[Path], int]:
    """Folders of the cases, and how many were prepared for it."""
    counted = Counted(transform or preparing())
    settings = cache.describe
    cache.describe = lambda thing: settings(counted.transform if thing is counted else thing)
    try:
        return cache.preprocess(items, counted, folder), counted.calls
    finally:
        cache.describe = settings


# What is kept


def test_the_arrays_are_what_the_transforms_made(item, tmp_path):
    wanted = preparing()(dict(item))
    dataset = cache.PreprocessedCases([item], preparing(), str(tmp_path / "cache"))
    (case,) = list(dataset)
    image, label = (torch.as_tensor(wanted[key]) for key in ("image", "label"))
    assert case["case"] == "case0" and case["image"].dtype == torch.float16 and case["label"].dtype == torch.uint8
    assert torch.allclose(case["image"].float(), image, atol=2e-3)
    assert torch.equal(case["label"], label.to(torch.uint8)) and case["label"].any()
    arrays = cache.load(dataset.folders[0])
    assert isinstance(arrays["image"], np.memmap)
    assert arrays["tumour"].tolist() == np.flatnonzero(case["label"][0]).tolist()


def test_a_scan_without_a_mask_is_prepared_as_one_with_a_mask(item, tmp_path):
    """But for the box around its head, which is that of the image alone in both."""
    (with_mask,), _ = preprocessed([item], tmp_path / "cache")
    alone = {key: item[key] for key in ("case", "image", "channels")}
    (without,), _ = preprocessed([alone], tmp_path / "cache", preparing("pretrain_mae"))
    assert {path.name for path in without.iterdir()} == {"image.npy"}
    assert np.array_equal(np.load(without / "image.npy"), np.load(with_mask / "image.npy"))
    assert set(cache.whole(cache.load(without) | {"case": "a"})) == {"image", "case"}


def test_values_beyond_half_precision_are_kept_whole(item, tmp_path):
    def raw(given: dict) -> dict:
        return {"image": np.full((1, 2, 2, 2), 1e5, np.float32), "label": np.ones((1, 2, 2, 2))}

    folder = cache.PreprocessedCases([item], raw, str(tmp_path / "cache")).folders[0]
    assert cache.load(folder)["image"].dtype == np.float32 and cache.load(folder)["image"].max() == 1e5


def test_the_training_that_follows_has_all_its_threads(item, tmp_path):
    """torch.set_num_threads in a worker holds for MKL in the whole process, and for every thread to come."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        preprocessed([item], tmp_path / "cache")
        with ThreadPoolExecutor(1) as pool:
            assert torch.get_num_threads() == pool.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)


# What is found again


def test_a_case_is_found_by_what_its_files_hold(item, tmp_path):
    folder = tmp_path / "cache"
    first, calls = preprocessed([item], folder)
    assert calls == 1 and preprocessed([item], folder) == (first, 0)
    for path in [*item["image"], item["label"]]:
        os.utime(path)  # touched
    assert preprocessed([item], folder) == (first, 0)
    shutil.copytree(tmp_path / "data", tmp_path / "elsewhere")
    moved = item | {"case": "other name", "label": item["label"].replace("data", "elsewhere")}
    moved["image"] = [path.replace("data", "elsewhere") for path in item["image"]]
    assert preprocessed([moved], folder) == (first, 0)


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_another_case(item, tmp_path):
    """As when a data set is unpacked again: an archive sets the times of what it held."""
    plain = tmp_path / "plain.nii"
    item["image"][0] = str(plain)
    store(scan(0, 0), plain)
    (first,), _ = preprocessed([item], tmp_path / "cache")
    before = plain.stat()
    values = scan(0, 0)
    values[4, 5, 3] += 1
    store(values, tmp_path / "new.nii")
    os.replace(tmp_path / "new.nii", plain)
    os.utime(plain, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (plain.stat().st_size, plain.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    (found,), calls = preprocessed([item], tmp_path / "cache")
    assert found != first and calls == 1


def test_two_cases_of_one_content_share_it(item, tmp_path):
    folders, _ = preprocessed([item, item | {"case": "twin"}], tmp_path / "cache")
    assert folders[0] == folders[1]


def test_one_voxel_or_one_label_value_more_is_another_case(item, tmp_path):
    folder = tmp_path / "cache"
    (first,), _ = preprocessed([item], folder)
    for other in (item | {"values": [[2]]}, item | {"channels": [1, 0, 2, 3]}):
        (found,), calls = preprocessed([other], folder)
        assert found != first and calls == 1
    values = scan(0, 0)
    values[4, 5, 3] += 1
    store(values, item["image"][0])
    (changed,), calls = preprocessed([item], folder)
    assert changed != first and calls == 1


@pytest.mark.parametrize("other", [{"target_spacing": [1.0, 1.0, 3.0]}, {"normalize_nonzero": False}])
def test_another_setting_is_another_recipe(other, item, tmp_path):
    (first,), _ = preprocessed([item], tmp_path / "cache")
    (found,), calls = preprocessed([item], tmp_path / "cache", preparing(**other))
    assert found.parent != first.parent and calls == 1
    assert len(list((tmp_path / "cache").glob("*/recipe.json"))) == 2


@pytest.mark.long
def test_a_transform_is_described_alike_in_every_process():
    code = (
        "import sys, json; sys.path[:0] = ['tests', '.']; import test_cache as t;"
        "print(json.dumps(t.cache.describe(t.preparing())))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(words, cwd=REPO, env=environment, capture_output=True, text=True)
    said = done.stdout.strip().splitlines()[-1]
    assert json.loads(said) == json.loads(json.dumps(cache.describe(preparing())))
    assert "Resampled" in said and "0x" not in said


def test_the_code_of_a_function_and_of_this_bundle_counts():
    described = json.dumps(cache.describe(preparing()))
    assert "Regionsd " in described  # a name, and a digest of its file
    one, two = (cache.describe(Compose([f])) for f in (lambda x: x + 1, lambda x: x + 2))
    assert one != two


class Scaled:
    def __init__(self, by: float) -> None:
        self.by = by

    def apply(self, given: dict) -> dict:
        return given


def adding(by: float):
    return lambda x: x + by


def adding_by_default(by: float):
    return lambda x, more=by: x + more


class Slotted:
    __slots__ = ("by",)

    def __init__(self, by: float) -> None:
        self.by = by


@pytest.mark.parametrize(
    "two",
    [
        (Slotted(1), Slotted(2)),
        (Scaled(1).apply, Scaled(2).apply),
        (adding(1), adding(2)),
        (adding_by_default(1), adding_by_default(2)),
        (lambda x: x in (1, 2), lambda x: x in (1, 3)),
        (lambda x: [lambda y: y + 1], lambda x: [lambda y: y + 2]),
    ],
    ids=["slots", "method", "closure", "default", "tuple", "inner"],
)
def test_all_that_a_function_computes_with_counts(two):
    one, other = (json.dumps(cache.describe(function)) for function in two)
    assert one != other and "0x" not in one


def test_what_is_known_of_files_may_be_damaged(item, tmp_path):
    folder = tmp_path / "cache"
    first, _ = preprocessed([item], folder)
    label, entry = os.path.abspath(item["label"]), json.loads((folder / "files.json").read_text())
    for nonsense in ("{", "[]", *(json.dumps({label: odd}) for odd in (3, entry[label][:-1], [*entry[label][:-1], 3]))):
        (folder / "files.json").write_text(nonsense)
        assert preprocessed([item], folder) == (first, 0)


# Others at work


CHILD = """
import sys, time
from pathlib import Path
import test_cache as t
home, slow = Path(sys.argv[1]), float(sys.argv[2])
save = t.cache.np.save
def slowly(file, array):
    save(file, array); file.flush(); time.sleep(slow)
t.cache.np = type('np', (), {**vars(t.np), 'save': staticmethod(slowly)})
folders = t.cache.preprocess(t.listed(home), t.preparing(), home / 'cache')
print('done', *[f.name for f in folders])
"""


def listed(home: Path) -> list[dict]:
    return [item_of(home / "data", seed) for seed in range(4)]


def start(home: Path, slow: float, log: str = "log") -> BaseProcess:
    """A process that prepares those cases; what it says goes to `home / log`."""
    (home / "child.py").write_text(CHILD)
    return start_module("child", [str(home), str(slow)], [home / log, home / log], cwd=home)


def whole(folder: Path) -> bool:
    """Whether a case's arrays can all be read to the end."""
    arrays = {path.stem: np.array(np.load(path)) for path in folder.glob("*.npy")}
    return set(arrays) == {"image", "label", "tumour"} and arrays["image"].shape[1:] == arrays["label"].shape[1:]


def test_a_killed_run_leaves_no_half_case_and_the_next_one_finishes(tmp_path):
    for seed in range(4):
        make_item(tmp_path / "data", seed)
    child = start(tmp_path, 0.4)
    limit = time.monotonic() + 60
    while not list((tmp_path / "cache").glob("*/.partial-*/image.npy")):
        assert child.is_alive() and time.monotonic() < limit
        time.sleep(0.02)
    child.kill()
    child.join()
    partial = list((tmp_path / "cache").glob("*/.partial-*"))
    assert partial
    there = [f for f in (tmp_path / "cache").glob("*/*") if f.is_dir() and not f.name.startswith(".")]
    assert len(there) < 4 and all(whole(folder) for folder in there)
    folders, calls = preprocessed(listed(tmp_path), tmp_path / "cache")
    assert calls == 4 - len(there) and all(whole(folder) for folder in folders)


def test_runs_that_begin_together_end_with_the_same_cases(tmp_path):
    for seed in range(4):
        make_item(tmp_path / "data", seed)
    logs = ("one", "other")
    children = [start(tmp_path, 0.05, log) for log in logs]
    for child in children:
        child.join(120)
    said = [(tmp_path / log).read_text() for log in logs]
    assert all(child.exitcode == 0 for child in children), said
    lines = {text.strip().splitlines()[-1] for text in said}
    assert len(lines) == 1 and next(iter(lines)).startswith("done")
    (recipe,) = [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]
    assert len([p for p in recipe.iterdir() if p.is_dir()]) == 4  # and nothing half
    assert all(whole(p) for p in recipe.iterdir() if p.is_dir())


# What cannot be


def test_a_damaged_scan_is_refused_in_one_line_that_names_it(item, tmp_path):
    cut_short(Path(item["image"][2]), 0.6)
    with pytest.raises(SystemExit, match="2_0.nii.gz is cut short or damaged") as refused:
        preprocessed([item], tmp_path / "cache")
    assert "\n" not in str(refused.value)


def test_a_folder_that_cannot_be_written_is_refused(item, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="cannot keep preprocessed cases in .*--cache_dir"):
        preprocessed([item], tmp_path / "file" / "cache")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(SystemExit, match="No space left on device.*--cache_dir"):
        preprocessed([item], tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/.partial-*"))


def test_a_complete_cache_that_one_may_only_read_is_used(item, tmp_path, monkeypatch):
    made = preprocessed([item], tmp_path / "cache")[0]
    (tmp_path / "cache" / "files.json").unlink()

    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "utime", forbidden)
    monkeypatch.setattr(cache, "_write", forbidden)
    assert preprocessed([item], tmp_path / "cache") == (made, 0)


def test_old_remains_are_tidied_and_new_ones_left(item, tmp_path):
    folder = tmp_path / "cache"
    (case,), _ = preprocessed([item], folder)
    old, new = time.time() - 2 * cache.DAY, time.time() - 60
    for name, age in ((".partial-old", old), (".partial-new", new)):
        (case.parent / name).mkdir()
        os.utime(case.parent / name, (age, age))
    for file in (folder / ".partial-index", case.parent / ".partial-recipe"):  # killed while it wrote a small file
        file.write_text("{")
        os.utime(file, (old, old))
    for name, age in (("0" * 12, time.time() - 31 * cache.DAY), ("1" * 12, old)):
        (folder / name).mkdir()
        (folder / name / "recipe.json").write_text("{}")
        os.utime(folder / name, (age, age))
    for name in ("notes", "202401021530"):  # not ours: the second has a name such as a recipe's, but none inside
        (folder / name).mkdir()
        os.utime(folder / name, (0, 0))
    preprocessed([item], folder)
    assert {p.name for p in case.parent.iterdir()} == {case.name, ".partial-new", "recipe.json"}
    assert {p.name for p in folder.iterdir()} == {case.parent.name, "1" * 12, "files.json", "notes", "202401021530"}


def test_the_folder_is_the_one_asked_for_or_beside_the_datalist_or_in_the_output(tmp_path, monkeypatch):
    datalist = str(tmp_path / "datalist.json")
    assert cache.folder("mine", datalist, "out") == "mine"
    assert cache.folder("", datalist, "out") == str(tmp_path / "preprocessed")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert cache.folder("", datalist, "out") == os.path.join("out", "preprocessed")


def test_many_cases_do_not_use_up_the_files_that_a_process_may_hold_open(tmp_path):
    """Each mapped array holds its file open, three to a case; many systems allow 1,024 in all."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc here to count open files in")
    for number in range(400):
        (tmp_path / str(number)).mkdir()
        for name in ("image", "label", "tumour"):
            np.save(tmp_path / str(number) / f"{name}.npy", np.zeros(1))
    before = len(os.listdir("/proc/self/fd"))
    for number in range(400):
        assert cache.load(tmp_path / str(number))["label"].shape == (1,)
    assert len(os.listdir("/proc/self/fd")) - before < 400
