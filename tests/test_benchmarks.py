"""The benchmarks' arithmetic and manners, on made-up numbers: nothing is timed here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from helpers_bundles import REPO, UNETR3D, as_scripts, read_yaml
from monai.utils import set_determinism

from benchmarks import __main__ as command
from benchmarks import guard, inference, results, timeline, training
from benchmarks.machine import machine
from benchmarks.peers import nnunet
from benchmarks.rounds import Result, in_turn, quotients, rounded, summary
from benchmarks.startup import trend
from benchmarks.synthetic import make_cases
from benchmarks.table import as_markdown
from benchmarks.task import ZOO, BenchmarkError, Task
from benchmarks.worker import Training, peak_mb


class FakeClock:
    """Time goes on only when someone works."""

    def __init__(self, monkeypatch) -> None:
        self.now = 0.0
        for module in (inference, training, timeline):
            monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)

    def work(self, seconds: float) -> None:
        self.now += seconds


# Rounds


def test_contestants_are_asked_in_turn_and_the_warm_up_does_not_count():
    asked = []

    def contestant(name, answers):
        return lambda: (asked.append(name), answers.pop(0))[1]

    found = in_turn({"a": contestant("a", [9, 1, 2]), "b": contestant("b", [9, 3, 4])}, rounds=2)
    assert asked == ["a", "b"] * 3
    assert found == {"a": [1, 2], "b": [3, 4]}


def test_a_ratio_compares_within_rounds_so_that_a_machine_that_slows_down_does_not_matter():
    ours, other = [1.0, 10.0, 2.0], [2.0, 20.0, 4.0]
    assert quotients(other, ours) == [2.0, 2.0, 2.0]
    result = Result("x", "s", {"ours": ours, "other": other}, ("other", "ours"))
    assert result.quotient == {"median": 2.0, "min": 2.0, "max": 2.0}


def test_contestants_that_answered_once_are_compared_by_their_medians():
    assert quotients([1.0, 2.0, 9.0], [4.0]) == [0.5]


def test_a_summary_shows_the_spread():
    assert summary([3.0, 1.0, 2.0, 10.0]) == {"median": 2.5, "min": 1.0, "max": 10.0}


def test_numbers_are_rounded_to_digits_not_to_places():
    assert [rounded(0.000123456), rounded(12345.6)] == [0.0001235, 12350.0]


@pytest.mark.parametrize(
    ("ratio", "goal", "better", "met"),
    [(1.05, 1.05, "low", True), (1.06, 1.05, "low", False), (1.2, 1.15, "high", True), (1.1, 1.15, "high", False)],
)
def test_a_goal_is_met_from_its_own_side(ratio, goal, better, met):
    result = Result("x", "s", {"a": [ratio], "b": [1.0]}, ("a", "b"), goal, better)
    assert result.met is met


def test_without_a_goal_nothing_is_met_or_missed():
    assert Result("x", "s", {"a": [1.0], "b": [1.0]}, ("a", "b")).met is None


# Clocks


def test_the_networks_clock_leaves_out_what_happens_between_its_passes(monkeypatch):
    clock = FakeClock(monkeypatch)

    class Network(torch.nn.Module):
        def forward(self, x):
            clock.work(2.0)
            return x

    network = Network()
    measured = inference.Clock(network, "cpu")
    for _ in range(3):
        clock.work(5.0)
        network(torch.zeros(1))
    assert measured.seconds == 6.0


def test_pulling_batches_is_timed_by_the_batch(monkeypatch):
    clock = FakeClock(monkeypatch)

    def source():
        while True:
            clock.work(0.5)
            yield None

    assert training.pull(source(), 4, "cpu") == 0.5


def test_group_norms_compute_what_instance_norms_do():
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 3, 3), torch.nn.InstanceNorm3d(3, affine=True))
    image = torch.randn(2, 1, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    before = network(image)
    parser = SimpleNamespace(get_parsed_content=lambda name: network)
    with as_scripts("unetr3d"):
        training.with_group_norms(SimpleNamespace(parser=parser))
    assert type(network[1]) is not torch.nn.InstanceNorm3d
    assert torch.allclose(network(image), before, atol=1e-5)


def test_the_parts_of_an_iteration_add_up_to_all_of_it():
    moments = {moment: float(i * i) for i, moment in enumerate(timeline.MOMENTS)}
    parts = timeline.durations(moments)
    assert list(parts) == list(timeline.PARTS)
    assert sum(parts.values()) == 1000 * (moments["end"] - moments["begin"])
    assert parts["make the batch"] == 1000.0 and parts["handlers and rest"] == 15000.0


# Memory


PEAKS = """
import subprocess, sys
from benchmarks.worker import peak_mb
alone = peak_mb()
large = "x = b'1' * (300 << 20); print(len(x), flush=True); input()"
with subprocess.Popen([sys.executable, "-c", large], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
    child.stdout.readline()
    together = peak_mb()
    child.stdin.close()
print(alone, together)
"""


def test_a_peak_counts_the_largest_running_child_but_not_the_process_that_started_it():
    """ru_maxrss counts the latter: a small training that a large process started would seem large."""
    held = np.ones(1 << 26)  # 512 MB
    done = subprocess.run([sys.executable, "-c", PEAKS], cwd=REPO, capture_output=True, text=True, check=True)
    alone, together = map(float, done.stdout.split())
    assert 10 < alone < peak_mb() - 300 and held.nbytes == 512 << 20
    assert 300 < together - alone < 350


# Growth


def test_growth_is_flat_linear_or_faster():
    sizes = (4, 40, 400, 4000)
    assert trend(sizes, [1.0, 1.1, 1.05, 1.15]) == "flat"
    assert trend(sizes, [5 + 0.01 * n for n in sizes]) == "0.01 a case, linear or less"
    assert trend(sizes, [5 + 1e-6 * n * n for n in sizes]).endswith("faster than linear")


def test_two_sizes_show_a_cost_but_no_trend():
    assert trend((4, 40), [1.0, 4.6]) == "0.1 a case"


# Guard


def losses(now: float, better: str = "low", was: float = 1.0) -> list[str]:
    return guard.losses({"step": {"ratio": was, "better": better}}, {"step": {"ratio": now, "better": better}})


@pytest.mark.parametrize(("now", "better"), [(1.14, "low"), (0.86, "high"), (0.5, "low"), (2.0, "high"), (1.0, "low")])
def test_a_small_loss_and_any_gain_pass(now, better):
    assert losses(now, better) == []


@pytest.mark.parametrize(("now", "better"), [(1.16, "low"), (0.84, "high")])
def test_a_large_loss_is_one_line_with_name_and_both_ratios(now, better):
    (line,) = losses(now, better)
    assert line.startswith("step: ") and f"{now:g}" in line and "committed 1" in line and "16% worse" in line


def test_a_loss_is_relative_to_what_was_committed():
    assert losses(2.28, was=2.0) == [] and losses(2.32, was=2.0)


def test_what_is_missing_on_either_side_is_said():
    one = {"step": {"ratio": 1.0, "better": "low"}}
    assert guard.losses(one, {}) == ["step: committed ratio 1, but it was not measured"]
    (line,) = guard.losses({}, one)
    assert line.startswith("step: no ratio is committed.") and "--update" in line


def result(name: str, ratio: float) -> Result:
    return Result(name, "s", {"a": [ratio], "b": [1.0]}, ("a", "b"))


def test_the_guard_leaves_out_what_not_every_machine_can_measure():
    assert list(guard.ratios([result("loader", 1.0), result("loader, TorchIO", 1.0)])) == ["loader"]


def test_update_commits_one_device_and_leaves_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(guard, "COMMITTED", tmp_path / "ratios.json")
    monkeypatch.setattr(guard, "machine", lambda device: {"on": device})
    guard.COMMITTED.write_text(json.dumps({"cuda": {"ratios": {"step": {"ratio": 3.0, "better": "low"}}}}))
    monkeypatch.setattr(guard.read, "__defaults__", (guard.COMMITTED,))
    assert guard.run([result("step", 1.0)], "cpu", update=True) == 0
    assert guard.read()["cuda"]["ratios"]["step"]["ratio"] == 3.0
    assert guard.run([result("step", 1.1)], "cpu", update=False) == 0
    assert guard.run([result("step", 1.2)], "cpu", update=False) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("benchmarks: step: ratio 1.2, committed 1")


# The command line


def test_help_lists_each_benchmark_in_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    for name in [*command.BENCHMARKS, *command.OTHERS]:
        assert sum(line.startswith(f"  {name} ") for line in lines) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stepp"], "Did you mean 'step'?"),
        (["step", "--rounds", "0"], "--rounds"),
        (["step", "--rounds", "x"], "--rounds"),
        (["step", "--data", "/no/such/folder"], "/no/such/folder"),
        (["step", "--device", "tpu"], "cpu or cuda"),
        (["step", "--out", "/no/such/folder/x.json"], "--out"),
        (["step", "--update"], "--update"),
        (["guard", "step"], "guard"),
        (["guard", "--data", "/"], "--data"),
        (["guard", "--quick"], "--quick"),
        (["table"], "table"),
        (["table", "/no/such/file.json"], "/no/such/file.json"),
        ([], "NAME"),
    ],
)
def test_bad_input_is_one_line_and_status_1(words, said, capsys):
    assert command.main(words) == 1
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == 1
    assert error.startswith("benchmarks: ") and said in error


@pytest.mark.parametrize(
    ("words", "rounds"),
    [
        (["step"], 5),
        (["step", "--quick"], 1),
        (["step", "--quick", "--rounds", "3"], 3),
        (["step", "--rounds", "2"], 2),
    ],
)
def test_a_quick_run_has_one_round_unless_it_is_given_more(words, rounds):
    assert command.arguments(words).rounds == rounds


def test_a_quick_run_gives_no_verdict():
    missed = Result("x", "s", {"a": [2.0], "b": [1.0]}, ("a", "b"), 1.05)
    assert command.one_line(missed).endswith("goal <= 1.05: missed")
    assert command.one_line(missed, quick=True).endswith("goal <= 1.05")


def test_a_peer_that_is_installed_and_fails_is_named_and_fails_the_command(monkeypatch, capsys):
    def source():
        yield None
        raise ImportError("no part of it\nand more")

    with pytest.raises(BenchmarkError) as raised:
        training.pull(training.named("NumPy", "numpy", source()), 4, "cpu")

    def fails(task):
        """Fails."""
        raise raised.value

    monkeypatch.setattr(command, "BENCHMARKS", {"loader": fails})
    assert command.main(["all", "--quick"]) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith(f"benchmarks: loader: NumPy (numpy {np.__version__}) failed: ImportError: no part of it.")
    assert "and more" not in line and "benchmarks/README.md" in line


def test_what_was_measured_is_written_even_if_a_later_benchmark_fails(tmp_path, monkeypatch, capsys):
    def works(task):
        """Works."""
        return [result("works", 2.0)]

    def breaks(task):
        """Breaks."""
        raise BenchmarkError("broken")

    monkeypatch.setattr(command, "BENCHMARKS", {"works": works, "breaks": breaks})
    monkeypatch.setattr(Task, "plan", {"batch_size": 1})
    out = tmp_path / "out.json"
    assert command.main(["all", "--out", str(out)]) == 1
    report = json.loads(out.read_text())
    assert report["results"]["works"]["ratio"] == {"of": ["a", "b"], "median": 2.0, "min": 2.0, "max": 2.0}
    assert {"date", "commit", "processor", "versions"} <= set(report["machine"])


def test_a_table_says_goal_and_verdict_of_each_result():
    good = Result("fast", "s", {"ours": [1.0, 1.1], "peer": [3.0, 3.3]}, ("peer", "ours"), 2.0, "high")
    bad = Result("slow", "s", {"ours": [2.0], "bare": [1.0]}, ("ours", "bare"), 1.05)
    lines = as_markdown([{"results": {one.name: one.plain() for one in (good, bad)}}]).splitlines()
    assert [line.count("|") for line in lines] == [lines[0].count("|")] * 4
    assert "peer / ours: **3**" in lines[2] and "≥ 2" in lines[2] and "yes" in lines[2]
    assert "≤ 1.05" in lines[3] and "**no**" in lines[3]


def test_the_machine_is_described_as_plain_data():
    found = machine("cpu")
    assert json.loads(json.dumps(found)) == found
    assert found["date"].endswith("UTC") and found["cores"] >= 1 and found["gpu"] is None


# Data and peers


def test_made_up_cases_are_all_different_so_that_no_cache_takes_one_for_another(tmp_path):
    datalist = json.loads(Path(make_cases(tmp_path / "cases", 3)).read_text())
    files = [(tmp_path / "cases" / case["image"][0]).read_bytes() for case in datalist["training"]]
    assert len(set(files)) == len(files) == 3


def test_the_zoo_peer_keeps_network_loss_optimiser_and_schedule_of_the_bundle():
    zoo = yaml.safe_load((REPO / "benchmarks" / "peers" / "zoo.yaml").read_text())
    assert {key.split("::")[0] for key in zoo} == {"network", "amp", "optimizer", "train", "validate"}
    assert zoo["network"] == "$@network_def.to(@device)"
    assert zoo["train::dataset"]["_target_"] == "CacheDataset"


@pytest.fixture
def training_of(volumes, small, tmp_path, monkeypatch):
    """Config files -> a training by them of a tiny network on phantoms."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # the bundle's folder joins it
    paths = {
        "datalist": str(volumes.datalist),
        "output_dir": str(tmp_path / "run"),
        "cache_dir": str(tmp_path / "cache"),
    }
    with as_scripts("unetr3d"):
        yield lambda *files: Training(list(files), read_yaml(small) | paths)
    set_determinism(None)  # MONAI keeps the seed that a training set, for all transforms made after it


@pytest.mark.parametrize("files", [("train.yaml",), ("train.yaml", str(ZOO))], ids=["ours", "zoo-style"])
def test_each_pipeline_makes_batches_of_one_form_and_trains_with_them(files, training_of):
    trained = training_of(*files)
    image, label = next(training.batches(trained.parser, "cpu"))
    assert image.shape == (2, 4, 32, 32, 32) and label.shape == (2, 1, 32, 32, 32)
    assert image.dtype == torch.float32 and set(label.unique().tolist()) <= {0.0, 1.0}
    network = trained.parser.get_parsed_content("network")
    before = [weight.detach().clone() for weight in network.parameters()]
    trained.run(2)
    assert trained.trainer.state.iteration == 2
    assert not all(map(torch.equal, before, network.parameters()))


def test_the_zoo_peer_sets_only_what_the_bundle_has():
    """A key that train.yaml renamed would else be one that nothing reads."""
    ours, zoo = read_yaml(UNETR3D / "configs" / "train.yaml"), read_yaml(ZOO)
    for key in zoo:
        at = ours
        for part in key.split("::"):
            assert part in at, key
            at = at[part]


def test_the_zoo_peer_augments_with_our_numbers():
    def by_name(transforms):
        return {one["_target_"].split(".")[-1]: one for one in transforms}

    ours = by_name(read_yaml(UNETR3D / "configs" / "train.yaml")["train"]["augmentation"]["transforms"])
    zoo = by_name(read_yaml(ZOO)["train::augmentation"])
    pairs = {
        "RandAffined": "Affine",
        "RandFlipd": "Flip",
        "RandGaussianSmoothd": "Blur",
        "RandScaleIntensityd": "ScaleIntensity",
        "RandShiftIntensityd": "ShiftIntensity",
        "RandAdjustContrastd": "Gamma",
        "RandGaussianNoised": "Noise",
        "RandDropContrastd": "ModalityDropout",
    }
    assert {name for name in zoo if name.startswith("Rand")} == {*pairs, "RandCropByPosNegLabeld"}
    assert set(ours) == {*pairs.values(), "Transplant", "BiasField", "LowResolution", "Contrast"}  # MONAI has no such
    for theirs, own in pairs.items():
        assert zoo[theirs]["prob"] == ours[own]["prob"], own
    same = {
        "RandAffined": {
            "rotate_range": [ours["Affine"]["rotation"]] * 3,
            "scale_range": [ours["Affine"]["scaling"]] * 3,
        },
        "RandGaussianSmoothd": {f"sigma_{axis}": ours["Blur"]["sigma"] for axis in "xyz"},
        "RandScaleIntensityd": {"factors": ours["ScaleIntensity"]["factor"]},
        "RandShiftIntensityd": {"offsets": ours["ShiftIntensity"]["offset"]},
        "RandAdjustContrastd": {"gamma": ours["Gamma"]["gamma"]},
        "RandGaussianNoised": {"std": ours["Noise"]["std"]},
    }
    for name, numbers in same.items():
        assert zoo[name] == zoo[name] | numbers


def test_nnunet_gets_cases_as_they_were_prepared_with_the_outside_marked(tmp_path, monkeypatch):
    pytest.importorskip("nnunetv2")
    image, label = torch.zeros(4, 6, 6, 6).numpy(), torch.zeros(1, 6, 6, 6).byte().numpy()
    image[:, 1:5, 1:5, 1:5], label[0, 2, 2, 3] = 1.0, 1
    monkeypatch.setattr(nnunet, "volumes", lambda cases, number: (image, label))
    kept = {}
    form = SimpleNamespace(save_case=lambda data, seg, known, path, **_: kept.update(seg=seg, known=known))
    nnunet.save([None], form, tmp_path, (4, 4, 4))
    assert kept["seg"][0, 0, 0, 0] == -1 and kept["seg"][0, 1, 1, 1] == 0
    assert kept["known"]["class_locations"][1].tolist() == [[0, 2, 2, 3]]


def test_the_page_of_results_says_what_the_files_hold(tmp_path):
    assert results.PAGE.read_text(encoding="utf-8") == results.page(results.RAW)
    assert results.page(tmp_path).count(results.MISSING) == len(results.SECTIONS)
    changed = json.loads((results.RAW / "crossval_22_cases_gpu.json").read_text())
    changed["default (smallest_object 500)"]["wt"]["dice"]["mean"] = 0.1234
    (tmp_path / "crossval_22_cases_gpu.json").write_text(json.dumps(changed))
    assert "| 0.123 [" in results.page(tmp_path)
