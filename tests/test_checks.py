"""What a bundle refuses before it loads or writes anything, and what it must let pass."""

from __future__ import annotations

import sys

import pytest
import torch
from helpers_bundles import BUNDLES, read_yaml, scripts, write_yaml

from autoconf.bundle import rules

checks = scripts("unetr3d", "checks")
UNETR3D = BUNDLES / "unetr3d" / "configs"


def check(*words: object, config: str = "train.yaml") -> None:
    """Check a command line `run training --config_file CONFIG WORDS`."""
    given = [] if "config_file" in str(words) else ["--config_file", str(UNETR3D / config)]
    checks.check_keys(["monai.bundle", "run", "training", *given, *map(str, words)])


def with_override(tmp_path, content: dict, config: str = "train.yaml") -> str:
    """The value of --config_file for a config of the bundle and an override file."""
    return f"['{UNETR3D / config}','{write_yaml(tmp_path / 'plan.yaml', content)}']"


def refusal(function, *args, **kwargs) -> str:
    """The one line with which the bundle stops."""
    with pytest.raises(SystemExit) as stopped:
        function(*args, **kwargs)
    message = str(stopped.value.code)
    assert message.startswith(("unetr3d: ", "pseudo2d: ")) and "\n" not in message and message.endswith((".", "?"))
    return message


# Keys


@pytest.mark.parametrize(
    "words",
    [
        ("--max_epochs", 3),
        ("--max_epochs=3",),
        ("--max-epochs", 3),
        ("-max_epochs", 3),
        ("--learning_rate", "-1"),  # a value, not a key
        ("--train::trainer::max_epochs", 3),
        ("--train#trainer#max_epochs", 3),
        ("--network_def::qkv_bias", True),  # a new argument of a component
        ("--train::handlers::0::max_norm", 3),
        ("--meta_file", "m.json", "--logging_file=l.conf", "--run_id", "x"),
    ],
)
def test_a_key_of_the_bundle_passes(words):
    check(*words)


@pytest.mark.parametrize(
    ("words", "key", "near"),
    [
        (("--max_epoch", 3), "max_epoch", "max_epochs"),
        (("--max_epoch=3",), "max_epoch", "max_epochs"),
        (("--max-epoch", 3), "max_epoch", "max_epochs"),
        (("-max_epoch", 3), "max_epoch", "max_epochs"),
        (("--seed", 1, "--patch_sise", "[32,32,32]"), "patch_sise", "patch_size"),
        (("--train::trainr::max_epochs", 3), "train::trainr::max_epochs", "trainer"),
        (("--train#trainr#max_epochs", 3), "train#trainr#max_epochs", "trainer"),
    ],
)
def test_a_mistyped_key_is_refused_with_the_nearest(words, key, near):
    message = refusal(check, *words)
    assert f"no key '{key}'" in message and f"Did you mean '{near}'?" in message


def test_a_key_near_to_none_is_refused_with_all_there_are():
    assert "It has: datalist, dataset_dir" in refusal(check, "--zzz", 1)


@pytest.mark.parametrize("config", ["train.yaml", "evaluate.yaml", "inference.yaml"])
def test_a_plan_for_training_passes_with_every_config(config, tmp_path):
    plan = {"patch_size": [32, 32, 32], "batch_size": 2, "max_epochs": 3, "+train::augmentation::transforms": []}
    check("--config_file", with_override(tmp_path, plan, config))
    check("--config_file=" + with_override(tmp_path, plan, config))
    assert "'batch_sise'" in refusal(check, "--config_file", with_override(tmp_path, {"batch_sise": 2}, config))


def test_a_key_of_an_overlay_passes_on_the_command_line():
    files = [str(UNETR3D / name) for name in ("train.yaml", "multi_gpu_train.yaml")]
    check("--config_file", str(files), "--distributed::x", 1)
    assert "'distributed::x'" in refusal(check, "--distributed::x", 1)


@pytest.mark.parametrize("config", ["train.yaml", "evaluate.yaml", "inference.yaml"])
def test_a_network_of_the_bundle_may_replace_the_network(config, tmp_path):
    files = [
        UNETR3D / config,
        UNETR3D / "networks" / "dynunet.yaml",
        write_yaml(tmp_path / "plan.yaml", {"overlap": 0}),
    ]
    check("--config_file", str([str(file) for file in files]), "--network_def::deep_supr_num", 2)
    own = write_yaml(tmp_path / "mine.yaml", {"network_deff": {"_target_": "DynUNet"}})  # not in the bundle's folder
    message = refusal(check, "--config_file", str([str(files[0]), str(own)]))
    assert "'network_deff'" in message and "Did you mean 'network_def'?" in message


@pytest.mark.parametrize("config", ["train.yaml", "evaluate.yaml", "inference.yaml"])
def test_a_plan_for_another_network_is_refused_with_the_file_that_lacks(config, tmp_path):
    message = refusal(check, "--config_file", with_override(tmp_path, {"network_name": "segresnet"}, config))
    assert f"network_name is 'segresnet' (in {tmp_path / 'plan.yaml'}), but 'unetr' would run" in message
    assert "give segresnet.yaml" in message


def test_a_plan_passes_with_the_network_that_it_was_made_for(tmp_path):
    plan = write_yaml(tmp_path / "plan.yaml", {"network_name": "segresnet"})
    check("--config_file", str([str(UNETR3D / "train.yaml"), str(UNETR3D / "networks" / "segresnet.yaml"), str(plan)]))
    check("--config_file", with_override(tmp_path, {"network_name": "unetr"}))


def test_a_name_alone_does_not_change_the_network():
    assert "'unetr' would run" in refusal(check, "--network_name", "segresnet")


@pytest.mark.parametrize(
    "words",
    ["pytest", "server start --max_epoch 3", "x run --args_file a.json --max_epoch 3", "x verify"],
)
def test_a_command_line_that_names_no_config_of_the_bundle_is_left_alone(words):
    checks.check_keys(words.split())


# Values

GOOD_AND_BAD = {
    "max_epochs": ([1, 20], [0, -1, 1.5, "3", True, None]),
    "batch_size": ([1], [0, 2.0]),
    "accumulation_steps": ([1, 4], [0, 1.5]),
    "crops_per_case": ([1], [0]),
    "val_interval": ([1], [0]),
    "image_size": ([32, 224], [16, 100, 224.0, [224, 224]]),
    "join_gap": ([0, 15], [-1, 1.5]),
    "smooth_mm": ([0, 1.5], [-1, "1"]),
    "unsure": ([[0.35, 0.65], (0, 1)], [0.5, [0.7, 0.3], [0.1], [-1, 0.5], ["a", "b"]]),
    "num_workers": ([0, 4], [-1]),
    "seed": ([0], [-1, "x"]),
    "fold": ([0, 4, "all"], [-1, 0.5, "none"]),
    "learning_rate": ([1e-4, 1], [0, -1e-4, float("nan"), "1e-4"]),
    "weight_decay": ([0, 1e-5], [-1e-5]),
    "dropout": ([0, 0.99], [1, -0.1]),
    "modality_dropout": ([0, 0.1, 1], [2, -0.1, "0.1"]),
    "encoder": (["vit", "", ["vit", "encoder"], ("vit", "out")], [3, None, [3]]),
    "encoder_factor": ([0.1, 1, 2.0], [0, -0.1, float("inf"), "0.1"]),
    "freeze_epochs": ([0, 5], [-1, 0.5, True]),
    "pretrained_patch_size": ([[], (), [64, 80, 64]], [[64, 64], [65, 64, 64], "", None]),
    "masking_ratio": ([0.5, 0.75], [0, 1, "0.5"]),
    "parts": (["training", ["training", "unlabelled"], ("training", "validation")], [1, None]),
    "on_nan": (["stop", "skip"], ["go on", True, None]),
    "max_grad_norm": ([1, float("inf")], [0, None]),
    "dice_weight": ([0, 0.5, 1], [-0.1, 1.1]),
    "overlap": ([0, 0.5], [1, -0.5]),
    "cache_rate": ([0, 1], [1.5, -1]),
    "augmentation_strength": ([0, 1.0, 10], [-0.1, 11, "1"]),
    "resume": ([True, False], ["true", 1]),
    "ema_decay": ([0, 0.0, 0.999], [1, -0.1, "0.9"]),
    "compile": ([True, False], ["true", 1]),
    "deterministic": ([True, False], ["false", None]),
    "patch_size": ([[128, 128, 128], (32, 48, 16)], [128, [128, 128], [100, 128, 128], [0, 16, 16], [16.0, 16, 16]]),
    "amp": ([True, False], ["false", "True", 1, None]),  # the runner hands over `--amp false` as a text, a true one
    "normalize_nonzero": ([True, False], ["false"]),
    "save_probability": ([True, False], ["true", 0]),
    "tta": ([True, False], ["True", 1, None]),
    "min_component_mm3": ([0, 250, 0.5], [-1, "250", None, True]),
    "device": (["cpu", torch.device("cpu")], ["gpu", "cuda:99", 7.5]),
    "target_spacing": ([[1, 1.5, 2.0]], [1.0, [1, 1], [0, 1, 1], [-1, 1, 1], ["1", 1, 1]]),
}
# Each is tried with the first bundle that has it.
OF = {name: bundle for bundle in ("pseudo2d", "unetr3d") for name in scripts(bundle, "checks").SETTINGS}
CASES = [(knob, value, True) for knob, (good, _) in GOOD_AND_BAD.items() for value in good]
CASES += [(knob, value, False) for knob, (_, bad) in GOOD_AND_BAD.items() for value in bad]


def test_every_rule_is_tried():
    paths = {"datalist", "dataset_dir", "mask_dir", "output_dir", "cache_dir", "checkpoint", "pretrained"}
    assert set(GOOD_AND_BAD) | paths == set(OF)


@pytest.mark.parametrize(("knob", "value", "good"), CASES)
def test_a_value_out_of_range_is_refused(knob, value, good):
    of = scripts(OF[knob], "checks")
    if good:
        of.check_settings(**{knob: value})
    else:
        message = refusal(of.check_settings, **{knob: value})
        assert f"{knob} is {value!r}. It must be " in message


def test_a_number_that_yaml_reads_as_text_gets_a_hint():
    assert "YAML reads 1e-4 as text: write 1.0e-4" in refusal(checks.check_settings, learning_rate="1e-4")


@pytest.mark.parametrize("knob", ["checkpoint", "pretrained"])
def test_a_checkpoint_that_is_not_there_is_refused(knob, tmp_path):
    (tmp_path / "model.pt").touch()
    checks.check_settings(**{knob: str(tmp_path / "model.pt")})
    for path in (tmp_path, tmp_path / "model"):
        assert str(path) in refusal(checks.check_settings, **{knob: str(path)})


@pytest.mark.parametrize("knob", [name for name in OF if name.endswith(("dir", "list", "checkpoint", "pretrained"))])
def test_a_path_that_fire_read_as_a_number_is_refused_with_the_cure(knob):
    said = refusal(scripts(OF[knob], "checks").check_settings, **{knob: 202401})
    assert "Write ./202401 or an absolute path" in said


@pytest.mark.parametrize("bundle", ["pseudo2d", "unetr3d"])
def test_every_setting_is_checked_by_a_config_and_every_checked_one_is_a_setting(bundle):
    """A run that no command line started, MONAI Label's say, is checked by the `checks` of its config."""
    checked = set()
    for path in (BUNDLES / bundle / "configs").glob("*.yaml"):
        content = read_yaml(path) or {}
        checked |= set(content.get("checks") or {})
        checked |= {key.removeprefix("checks::") for key in content if key.startswith("checks::")}
    by_their_own_code = {"checkpoints", "regions", "format", "export_path", "kind", "exported"}
    assert checked - by_their_own_code - {"_target_"} == set(scripts(bundle, "checks").SETTINGS)


@pytest.mark.parametrize("bundle", ["pseudo2d", "unetr3d"])
def test_every_default_is_allowed_and_every_setting_explained(bundle):
    configs = [
        read_yaml(path) or {} for path in (BUNDLES / bundle / "configs").glob("*.yaml") if path.stem != "settings"
    ]
    for name, rule in scripts(bundle, "checks").SETTINGS.items():
        assert rule["help"] and "\n" not in rule["help"]
        values = [config[name] for config in configs if name in config and not str(config[name]).startswith(("$", "@"))]
        assert values or rule["kind"] in ("path", "file", "device")
        assert all(rules.is_allowed(rule, value) for value in values), name


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"kind": "int", "least": 1}, "a whole number of at least 1"),
        ({"kind": "int", "least": 0, "or": ["all"]}, "a whole number of at least 0, or all"),
        ({"kind": "float", "above": 0, "below": 1}, "a number above 0 and below 1"),
        ({"kind": "float", "least": 0, "below": 1}, "a number from 0 to below 1"),
        ({"kind": "float", "least": 0, "unit": "mm^3"}, "a number of at least 0, mm^3"),
        ({"kind": "int", "multiple_of": 16, "least": 32}, "a multiple of 16 of at least 32"),
        (
            {"kind": "int", "multiple_of": 16, "above": 0, "count": 3, "example": "[128,128,128]"},
            "three multiples of 16 above 0, such as [128,128,128]",
        ),
        (
            {"kind": "float", "least": 0, "most": 1, "count": 2, "rising": True},
            "two numbers from 0 to 1 that do not fall",
        ),
        ({"kind": "bool", "or": ["force"]}, "True or False, with a capital letter, or force"),
        ({"kind": "str", "one_of": ["stop", "skip"]}, "stop or skip"),
    ],
)
def test_a_rule_says_what_it_asks(rule, said):
    assert rules.described(rule) == said


def test_checking_an_output_folder_leaves_nothing_behind(tmp_path):
    checks.check_settings(output_dir=str(tmp_path / "new" / "run"))
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for folder in (tmp_path / "thesis.txt", tmp_path / "thesis.txt" / "run"):
        message = refusal(checks.check_settings, output_dir=str(folder))
        assert str(folder) in message and "--output_dir" in message
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_keys_of_an_args_file_are_checked_too(tmp_path):
    args = write_yaml(tmp_path / "args.yaml", {"config_file": "x", "max_epochz": 3})
    assert "'max_epochs'" in refusal(check, "--args_file", args)
    check("--args_file", write_yaml(tmp_path / "args.yaml", {"config_file": "x", "max_epochs": 3}))


def test_a_whole_new_component_and_a_known_argument_pass(tmp_path):
    content = {"optimizer": {"_target_": "torch.optim.SGD", "params": "$[]", "lr": 0.1}, "network_def::qkv_bias": True}
    check("--config_file", with_override(tmp_path, content))


def test_weights_of_another_network_are_refused_with_the_likely_reason(tmp_path):
    torch.save(torch.nn.Linear(2, 3).state_dict(), tmp_path / "model.pt")
    checks.check_weights(str(tmp_path / "model.pt"), torch.nn.Linear(2, 3))
    message = refusal(checks.check_weights, str(tmp_path / "model.pt"), torch.nn.Linear(2, 4))
    assert "'weight': (3, 2) in the file, (4, 2) in the network" in message and "plan" in message
    message = refusal(checks.check_weights, str(tmp_path / "model.pt"), torch.nn.Linear(2, 3, bias=False))
    assert "'bias': (3,) in the file, absent in the network" in message


@pytest.mark.parametrize("content", [b"", b"weights", b"PK"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    assert "holds no weights" in refusal(checks.check_weights, str(tmp_path / "model.pt"), torch.nn.Linear(2, 3))


def test_the_real_command_line_is_what_is_checked(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "run", "--config_file", str(UNETR3D / "train.yaml"), "--max_epoch", "1"])
    assert "'max_epoch'" in refusal(checks.check_settings)
