"""provenance.json says of each mask what made it, whatever becomes of the run and whatever the folder held before."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers_bundles import (
    BUNDLES,
    NAMES,
    PSEUDO2D,
    TINY,
    TINY_2D,
    UNETR3D,
    as_scripts,
    run_bundle,
    scripts,
    write_yaml,
)
from helpers_distributed import ranks_of
from helpers_processes import start_module, wait_for
from helpers_volumes import autoconf, odd_copies, scan, store, write_case
from hypothesis import given
from hypothesis import strategies as st
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.inferers import SimpleInferer

provenance, inferers, ensemble = (scripts("unetr3d", name) for name in ("provenance", "inferers", "ensemble"))
FILE = "provenance.json"
FACTS = ["bundle", "version", "network", "weights", "device", "processor", "torch", "precision", "settings", "date"]
ALL = ["t1", "t1c", "t2", "flair"]
PLANS = {
    "unetr3d": {
        "patch_size": [16, 16, 16],
        "target_spacing": [1.0, 1.0, 1.0],
        "num_workers": 0,
        "device": "cpu",
        **TINY,
    },
    "pseudo2d": {"image_size": 32, "num_workers": 0, "device": "cpu", **TINY_2D},
}


def account_in(folder: Path) -> dict[str, Any]:
    return json.loads((folder / FILE).read_text())


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """For each bundle BUNDLE.yaml, a plan of a tiny network, and BUNDLE_0.pt and BUNDLE_1.pt, random weights of it."""
    folder = tmp_path_factory.mktemp("provenance")
    for bundle, plan in PLANS.items():
        write_yaml(folder / f"{bundle}.yaml", plan)
        for seed in (0, 1):
            with as_scripts(bundle):
                torch.manual_seed(seed)
                parser = ConfigParser()
                parser.read_config(
                    [str(BUNDLES / bundle / "configs" / "inference.yaml"), str(folder / f"{bundle}.yaml")]
                )
                weights = parser.get_parsed_content("network_def").state_dict()
                torch.save(weights, folder / f"{bundle}_{seed}.pt")
    return folder


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """Three cases: a whole one; one whose T2 is empty; one whose FLAIR is one number everywhere, T1 in the head."""
    folder = tmp_path_factory.mktemp("scans")
    for name in ("a", "b", "c"):
        write_case(folder, name, seed=ord(name))
    store(np.zeros_like(scan(2)), folder / "b" / "b_t2.nii.gz")
    store(np.full_like(scan(3), 1234.567, np.float32), folder / "c" / "c_flair.nii.gz")
    store((scan(0) > 0) * np.float32(0.3), folder / "c" / "c_t1.nii.gz")
    return folder


def infer(bundle: str, home: Path, images: Path, out: Path, seed: int = 0, **words: object) -> dict[str, Any]:
    """The account of `run inferring`."""
    words = {"checkpoint": home / f"{bundle}_{seed}.pt", **words}
    given = [word for key, value in words.items() for word in (f"--{key}", value)]
    files = ["inference.yaml", home / f"{bundle}.yaml"]
    run_bundle(BUNDLES / bundle, "inferring", files, "--dataset_dir", images, "--output_dir", out, *given)
    return account_in(out)


# What it says


def test_inference_says_what_made_each_mask_and_which_modalities_it_saw(home, scans, tmp_path):
    account = infer("unetr3d", home, scans, tmp_path, overlap=0.25, amp=False)
    assert list(account) == ["runs", "masks"]
    (run,) = account["runs"]
    assert list(run) == FACTS
    metadata = json.loads((UNETR3D / "configs" / "metadata.json").read_text())
    assert (run["bundle"], run["version"], run["network"]) == ("unetr3d", metadata["version"], "unetr")
    assert run["weights"] == [{"file": "unetr3d_0.pt", "sha256": digest(home / "unetr3d_0.pt")}]
    assert (run["device"], run["torch"]) == ("cpu", torch.__version__)
    assert run["processor"] and run["date"].endswith("+00:00")
    assert run["precision"] == {"used": "float32", "why": "amp is false"}
    knobs = {"patch_size": [16, 16, 16], "target_spacing": [1.0, 1.0, 1.0], "overlap": 0.25, "regions": "wt"}
    assert run["settings"] == knobs | {"normalize_nonzero": True, "min_component_mm3": 500}
    seen = {"a": ALL, "b": ["t1", "t1c", "flair"], "c": ["t1c", "t2"]}
    assert account["masks"] == {case: {"run": 0, "modalities": there} for case, there in seen.items()}
    text = (tmp_path / FILE).read_text()
    assert str(tmp_path) not in text and str(home) not in text and str(UNETR3D) not in text


def test_evaluation_by_an_ensemble_names_its_members(home, volumes, tmp_path):
    members = [home / "unetr3d_0.pt", home / "unetr3d_1.pt"]
    folds = write_yaml(tmp_path / "folds.yaml", {"checkpoints": [str(path) for path in members], "tta": True})
    files = ["evaluate.yaml", "ensemble.yaml", home / "unetr3d.yaml", folds]
    words = ("--target_spacing", "[5.0,5.0,5.0]", "--min_component_mm3", 0)
    run_bundle(UNETR3D, "evaluating", files, "--datalist", volumes.datalist, "--output_dir", tmp_path / "out", *words)
    account = account_in(tmp_path / "out")
    assert account["runs"][0]["weights"] == [{"file": path.name, "sha256": digest(path)} for path in members]
    assert account["runs"][0]["settings"]["tta"] is True
    native = inferers.bf16_is_fast(torch.device("cpu"))
    assert account["runs"][0]["precision"]["used"] == ("bfloat16" if native else "float32")
    testing = [item["case"] for item in json.loads(volumes.datalist.read_text())["testing"]]
    assert account["masks"] == {case: {"run": 0, "modalities": ALL} for case in testing}
    ignored_by_autoconf(tmp_path / "out", volumes)


def ignored_by_autoconf(masks: Path, volumes) -> None:
    """What reads a folder of masks, or of scans, does as it does without the file."""
    told = []
    scans = shutil.copytree(volumes.folder, masks.parent / "scans")
    shutil.copy(masks / FILE, scans)
    for name in ("with", "without"):
        out = masks.parent / name
        done = [
            autoconf("score", masks, volumes.datalist, "--split", "testing", "--out", out / "scores"),
            autoconf("view", masks, volumes.datalist, "--out", out / "view.html"),
            autoconf("inspect", scans, "--out", out / "work"),
            autoconf("report", out / "scores", "--out", out / "report.html"),
        ]
        told.append([(one.returncode, one.stdout.replace(str(out), "OUT"), one.stderr) for one in done])
        told[-1].append((out / "scores" / "scores.csv").read_bytes())
        for folder in (masks, scans):
            (folder / FILE).unlink(missing_ok=True)
    assert told[0] == told[1] and [code for code, *_ in told[0][:4]] == [0] * 4, told
    assert FILE not in str(told)


def test_of_2d_images_no_modality_is_claimed(home, slices, pseudo_labelled, tmp_path):
    segmented = infer("pseudo2d", home, slices.folder / "_NORMAL T1", tmp_path / "masks")
    files = ["evaluate.yaml", home / "pseudo2d.yaml"]
    words = ("--datalist", slices.datalist, "--mask_dir", pseudo_labelled / "masks", "--image_size", 64)
    words += ("--checkpoint", home / "pseudo2d_1.pt", "--output_dir", tmp_path / "scores")
    run_bundle(PSEUDO2D, "evaluating", files, *words)
    scored = account_in(tmp_path / "scores" / "masks")
    for account, seed, size in ((segmented, 0, 32), (scored, 1, 64)):
        (run,) = account["runs"]
        assert list(run) == FACTS and (run["bundle"], run["network"]) == ("pseudo2d", "UNet")
        assert run["settings"] == {"image_size": size}
        assert run["weights"] == [{"file": f"pseudo2d_{seed}.pt", "sha256": digest(home / f"pseudo2d_{seed}.pt")}]
        assert set(map(str, account["masks"].values())) == {"{'run': 0}"}
    for account, folder in ((segmented, tmp_path / "masks"), (scored, tmp_path / "scores" / "masks")):
        assert sorted(account["masks"]) == sorted(
            str(path.relative_to(folder)).removesuffix(".png") for path in folder.rglob("*.png")
        )


def test_what_an_inferer_reports_of_its_precision():
    image = torch.zeros(1, 1, 4, 4)
    native = inferers.bf16_is_fast(torch.device("cpu"))
    for enabled, used in ((False, "float32"), (True, "bfloat16" if native else "float32")):
        mixed = inferers.MixedPrecision(SimpleInferer(), enabled)
        network, computed = torch.nn.Conv2d(1, 1, 1), []
        network.register_forward_hook(lambda _, __, answer, computed=computed: computed.append(answer.dtype))
        mean = ensemble.MeanProbability(mixed)
        mean(image, [network])
        assert mixed.report() == mean.report() and mixed.report()["used"] == used
        assert (computed[-1] == torch.bfloat16) == (used == "bfloat16")
    for silent in (None, SimpleInferer(), ensemble.MeanProbability(SimpleInferer())):
        assert provenance.Account("n", [], "cpu", silent).precision()["used"] == "unknown"


def test_a_channel_is_there_if_it_varies_anywhere():
    """Also where only one voxel does, and not where rounding is all that is left of a constant."""
    account = provenance.Account("unetr", [], "cpu")
    image = torch.zeros(4, 20, 20, 20)
    image[0] = torch.randn(20, 20, 20, generator=torch.Generator().manual_seed(0))
    image[1, 3, 5, 7] = 80.0
    image[2] += torch.rand(20, 20, 20) * 1e-4
    assert account.seen(image) == {"modalities": ["t1", "t1c"]}
    assert account.seen(image[:2]) == {}  # nobody said what two channels are


# Several runs into one folder


def test_a_second_run_replaces_the_entries_of_its_own_masks_alone(home, scans, tmp_path):
    first = infer("unetr3d", home, scans, tmp_path)
    second = infer("unetr3d", home, scans / "b", tmp_path, seed=1)
    assert second["runs"][0] == first["runs"][0]
    assert [run["weights"][0]["file"] for run in second["runs"]] == ["unetr3d_0.pt", "unetr3d_1.pt"]
    assert {case: mask["run"] for case, mask in second["masks"].items()} == {"a": 0, "b": 1, "c": 0}
    third = infer("unetr3d", home, scans, tmp_path, seed=1)
    assert [run["weights"][0]["file"] for run in third["runs"]] == ["unetr3d_1.pt"]  # no mask is of the first any more
    assert {case: mask["run"] for case, mask in third["masks"].items()} == {"a": 0, "b": 0, "c": 0}


accounts = st.lists(st.integers(0, 3), min_size=0, max_size=4).flatmap(
    lambda runs: st.fixed_dictionaries(
        {
            "runs": st.just([{"id": run} for run in runs]),
            "masks": st.dictionaries(st.sampled_from("abcde"), st.integers(0, len(runs) - 1)) if runs else st.just({}),
        }
    ).map(lambda a: a | {"masks": {case: {"run": run, "of": case} for case, run in a["masks"].items()}})
)


@given(accounts, accounts)
def test_merged_each_mask_keeps_its_run_and_no_run_is_there_twice_or_for_nothing(old, new):
    before = copy.deepcopy([old, new])
    found = provenance.merged(old, new)
    assert [old, new] == before
    wanted = {case: a["runs"][mask["run"]] for a in (old, new) for case, mask in a["masks"].items()}
    assert {case: found["runs"][mask["run"]] for case, mask in found["masks"].items()} == wanted
    assert all(mask["of"] == case for case, mask in found["masks"].items())
    ids = [run["id"] for run in found["runs"]]
    assert sorted(ids) == sorted({run["id"] for run in wanted.values()})


def engine_of(out: Path, cases: str, step: Any = lambda engine, batch: None, seed: int = 0) -> Engine:
    engine = Engine(step)
    provenance.Provenance(provenance.Account("unetr", [], "cpu", settings={"seed": seed}), str(out)).attach(engine)
    engine.run([[{"case": case, "image": torch.zeros(4, 2, 2, 2)}] for case in cases])
    return engine


def test_a_foreign_file_is_replaced_after_one_line(tmp_path, capsys):
    engine_of(tmp_path, "ab")
    good = account_in(tmp_path)
    known = provenance.read(tmp_path / FILE)
    assert known == good and capsys.readouterr().err == ""
    replaced = 0
    for odd in [*odd_copies(good), "not JSON"]:
        (tmp_path / FILE).write_text(odd if odd == "not JSON" else json.dumps(odd))
        engine_of(tmp_path, "c")
        said = capsys.readouterr().err
        assert "c" in account_in(tmp_path)["masks"]
        assert said == "" or (said.count("\n") == 1 and "is no account of masks, and is replaced" in said)
        replaced += bool(said)
        assert said == "" or list(account_in(tmp_path)["masks"]) == ["c"]
    assert replaced > 20


def test_a_folder_that_takes_no_file_costs_no_mask(tmp_path, capsys):
    (tmp_path / FILE).mkdir()
    (tmp_path / FILE / "mine").write_text("")
    done = []
    engine_of(tmp_path, "abc", lambda engine, batch: done.append(batch))
    said = capsys.readouterr().err
    assert len(done) == 3 and said.count("cannot be written") == 1 and (tmp_path / FILE / "mine").exists()


# Runs that do not end well


@pytest.mark.parametrize("error", [SystemExit, RuntimeError, KeyboardInterrupt])
def test_a_run_that_stops_on_the_way_leaves_its_account_and_the_error_is_the_same(tmp_path, monkeypatch, error):
    monkeypatch.setattr(provenance, "SHARE", 10**9)  # nothing but the first is written in between
    engine_of(tmp_path, "cd", seed=1)

    def step(engine: Engine, batch: Any) -> None:
        if engine.state.iteration == 4:
            raise error("stopped here")

    with pytest.raises(error, match="stopped here"):
        engine_of(tmp_path, "abcd", step)
    runs = {case: mask["run"] for case, mask in account_in(tmp_path)["masks"].items()}
    assert runs == {"c": 1, "d": 0, "a": 1, "b": 1}  # d's mask is still the earlier run's


def test_a_run_that_makes_no_mask_leaves_no_file(tmp_path):
    def stop(engine: Engine, batch: Any) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        engine_of(tmp_path, "a", stop)
    assert not list(tmp_path.iterdir())


def test_a_refusal_on_the_way_leaves_the_account_of_the_masks_before(home, scans, tmp_path):
    shutil.copytree(scans, tmp_path / "scans")
    damaged = tmp_path / "scans" / "c" / "c_t2.nii.gz"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged.write_bytes(content)
    words = (
        "--dataset_dir",
        tmp_path / "scans",
        "--checkpoint",
        home / "unetr3d_0.pt",
        "--output_dir",
        tmp_path / "out",
    )
    done = run_bundle(UNETR3D, "inferring", ["inference.yaml", home / "unetr3d.yaml"], *words, expect=1)
    assert done.stderr.splitlines()[-1].startswith(f"unetr3d: {damaged}")
    assert list(account_in(tmp_path / "out")["masks"]) == ["a", "b"]


def test_a_killed_run_leaves_an_account_of_nearly_all_masks(home, tmp_path):
    for number in range(24):
        write_case(tmp_path / "scans", f"case{number:02d}", seed=number)
    out = tmp_path / "out"
    files = str([str(UNETR3D / "configs" / "inference.yaml"), str(home / "unetr3d.yaml")])
    words = ["run", "inferring", "--config_file", files, "--dataset_dir", str(tmp_path / "scans")]
    words += ["--checkpoint", str(home / "unetr3d_0.pt"), "--output_dir", str(out)]
    process = start_module("monai.bundle", words, [tmp_path / "said", tmp_path / "said"])
    wait_for(lambda: len(list(out.glob("*.nii.gz"))) >= 8)
    process.kill()
    process.join()
    masks = {path.name.removesuffix(".nii.gz") for path in out.glob("*.nii.gz")}
    known = set(account_in(out)["masks"])
    assert len(masks) < 24 and known <= masks
    assert len(known) >= 2  # a mask takes 20 ms here, and the file is written every 100 ms or so


def test_in_between_it_is_written_as_often_as_it_costs_little(tmp_path, monkeypatch):
    """No more than a fiftieth of the time, but at once where five seconds have passed."""
    now, written = [0.0], []
    monkeypatch.setattr(provenance.time, "monotonic", lambda: now[0])
    write = provenance.whole_file

    def slow(*words: Any) -> Any:
        now[0] += 0.01
        written.append(now[0])
        return write(*words)

    monkeypatch.setattr(provenance, "whole_file", slow)

    def step(engine: Engine, batch: Any) -> None:
        now[0] += 0.1

    engine_of(tmp_path, "abcdefghijklmnopqrstuvwxyz", step)
    assert written[0] < 0.2 and all(0.45 < b - a < 0.75 for a, b in zip(written, written[1:-1], strict=False))
    assert len(account_in(tmp_path)["masks"]) == 26


# Several processes

PROGRAM = """
import sys, torch
sys.path.insert(0, {bundle!r})
from ignite.engine import Engine
from scripts.distributed import start
from scripts.provenance import Account, Provenance
rank = start().rank
def step(engine, batch):
    if {stops} and engine.state.iteration == 3:
        torch.distributed.barrier()
        if rank == 1:
            raise RuntimeError("stopped here")
        import time
        time.sleep(60)
engine = Engine(step)
Provenance(Account("unetr", [], "cpu"), {out!r}).attach(engine)
engine.run([[{{"case": f"{{rank}}-{{n}}", "image": torch.zeros(4, 2, 2, 2)}}] for n in range(3)])
"""
pair = pytest.mark.skipif(sys.platform != "linux", reason="as the other tests of several processes")


def two_ranks(folder: Path, stops: bool) -> tuple[int, dict[str, Any]]:
    (folder / "begin.py").write_text(PROGRAM.format(bundle=str(UNETR3D), stops=stops, out=str(folder / "out")))
    ended = ranks_of(2, "begin", [], folder / "log", folder)
    assert stops or ended.status == 0, ended.said
    return ended.status, account_in(folder / "out")


@pair
def test_two_processes_write_one_account_in_the_order_of_their_ranks(tmp_path):
    _, account = two_ranks(tmp_path, stops=False)
    assert list(account["masks"]) == ["0-0", "0-1", "0-2", "1-0", "1-1", "1-2"]
    assert len(account["runs"]) == 1 and os.listdir(tmp_path / "out") == [FILE]


@pair
def test_what_a_stopped_process_knew_is_taken_over_by_the_next_run(tmp_path):
    """The masks of both ranks had been another run's before."""
    engine_of(tmp_path / "out", ["0-0", "1-0", "1-2", "else"], seed=1)
    status, account = two_ranks(tmp_path, stops=True)
    assert status != 0
    part = json.loads((tmp_path / "out" / "provenance.rank1.json").read_text())
    assert list(part["masks"]) == ["1-0", "1-1"]
    engine_of(tmp_path / "out", ["2-0"], seed=2)
    account = account_in(tmp_path / "out")
    assert os.listdir(tmp_path / "out") == [FILE]
    by_seed = {case: account["runs"][mask["run"]]["settings"].get("seed") for case, mask in account["masks"].items()}
    both = {"0-0": None, "1-0": None, "1-1": None}
    assert by_seed.items() >= (both | {"1-2": 1, "else": 1, "2-0": 2}).items()


@pytest.mark.parametrize("bundle", NAMES)
def test_a_bundle_without_metadata_still_has_a_name(bundle, monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "ROOT", tmp_path / bundle)
    record = provenance.Account("torch.nn.Conv3d", [], "cpu").record("now")
    assert (record["bundle"], record["version"], record["network"]) == (bundle, None, "Conv3d")
    assert record["weights"] == []
