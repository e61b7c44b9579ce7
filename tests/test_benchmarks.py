"""The arithmetic of the benchmarks, on made-up numbers: no clock is read here."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from helpers_bundles import REPO, read_yaml

sys.path.insert(0, str(REPO))
from benchmarks import guard, rounds, synthetic, table  # noqa: E402


def result(ours: list[float], peer: list[float], goal: float | None = None, better: str = "low") -> rounds.Result:
    return rounds.Result("made up", "s", {"ours": ours, "peer": peer}, ("ours", "peer"), goal, better)


def test_contestants_are_asked_in_turn_and_the_warm_up_is_lost():
    asked = []

    def contestant(name):
        def measure():
            asked.append(name)
            return float(len(asked))

        return measure

    figures = rounds.in_turn({"a": contestant("a"), "b": contestant("b")}, rounds=2)
    assert asked == ["a", "b"] * 3 and figures == {"a": [3.0, 5.0], "b": [4.0, 6.0]}


def test_a_ratio_is_taken_round_by_round():
    """The machine was twice as slow in the second round: each ratio is 2 all the same."""
    found = result([2.0, 4.0, 2.0], [1.0, 2.0, 1.0]).quotient
    assert found == {"median": 2.0, "min": 2.0, "max": 2.0}


@pytest.mark.parametrize(
    ("goal", "better", "met"),
    [(2.0, "low", True), (1.9, "low", False), (2.0, "high", True), (2.1, "high", False), (None, "low", None)],
)
def test_a_goal_is_at_most_or_at_least(goal, better, met):
    one = result([2.0], [1.0], goal, better)
    assert one.met is met and one.plain()["met"] is met
    json.dumps(one.plain())


def test_the_table_says_what_was_missed():
    report = {"results": {"step": result([2.0, 2.2], [1.0, 1.0], 1.05).plain()}}
    assert table.as_markdown([report]).splitlines()[-1] == (
        "| step | ours 2.1, peer 1 s | ours / peer: **2.1** (2 to 2.2) | ≤ 1.05 | **no** |"
    )


@pytest.mark.parametrize(
    ("better", "now", "fails"),
    [("low", 1.14, False), ("low", 1.16, True), ("low", 0.5, False)]
    + [("high", 1 / 1.14, False), ("high", 1 / 1.16, True), ("high", 2.0, False)],
)
def test_a_loss_of_more_than_15_percent_fails(better, now, fails):
    lines = guard.losses({"step": {"ratio": 1.0, "better": better}}, {"step": {"ratio": now, "better": better}})
    assert bool(lines) == fails
    assert not fails or ("step" in lines[0] and "16% worse" in lines[0])


def test_what_is_missing_on_either_side_fails():
    one = {"ratio": 1.0, "better": "low"}
    assert guard.losses({"step": one}, {}) == ["step: was not measured"]
    assert "--update" in guard.losses({}, {"step": one})[0]


def test_the_committed_ratios_are_those_that_are_guarded():
    committed = guard.read()
    assert {name.split(" of ")[0].split(",")[0] for name in committed} >= {"step", "loader", "inference", "memory"}
    assert all(entry["better"] in ("low", "high") and entry["ratio"] > 0 for entry in committed.values())


def test_synthetic_cases_are_all_different_and_complete(tmp_path):
    datalist = json.loads(open(synthetic.make_cases(tmp_path / "cases", 3)).read())
    items = datalist["training"]
    contents = [(tmp_path / "cases" / path).read_bytes() for item in items for path in item["image"]]
    assert len(items) == 3 and len(set(contents)) == 12 and {item["fold"] for item in items} == {0, 1, 2}


def test_the_peer_of_the_zoo_changes_only_the_pipeline():
    """Its file leaves network, loss, schedule and crops as they are."""
    kept = {"network_def", "loss_function", "lr_scheduler", "batch_size", "patch_size", "learning_rate", "amp"}
    assert not kept & {key.split("::")[0] for key in read_yaml(REPO / "benchmarks" / "peers" / "zoo.yaml")}


def test_the_command_lists_every_benchmark_and_refuses_what_is_not_there(tmp_path):
    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", "benchmarks", *words], cwd=REPO, capture_output=True, text=True)

    said = run("--help").stdout
    for name in ("step", "throughput", "loader", "inference", "first_epoch", "memory", "growth", "guard", "profile"):
        assert f"\n  {name} " in said
    refused = run("step", "--data", str(tmp_path / "absent"))
    assert refused.returncode == 1 and refused.stderr.strip() == (
        f"benchmarks: {tmp_path / 'absent'}: no such folder. Check --data."
    )
