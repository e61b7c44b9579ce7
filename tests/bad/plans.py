"""Override files, as a training run, `plan --show`, `pack` and `doctor` read them."""

from __future__ import annotations

from pathlib import Path

from helpers_bundles import UNETR3D, scripts
from helpers_share import write_bundle

from autoconf.__main__ import main
from bad.ends import Ran, of_bundle, ran
from bad.row import Row, content, row
from bad.ways import refuses


def a_plan(one: Row, tmp: Path) -> str:
    one.make(tmp / "plan.yaml")
    return str(tmp / "plan.yaml")


def train(one: Row, tmp: Path) -> Ran:
    files = f"['{UNETR3D / 'configs' / 'train.yaml'}','{a_plan(one, tmp)}']"
    words = ["monai.bundle", "run", "training", "--config_file", files]
    return of_bundle(ran(lambda: scripts("unetr3d", "checks").check_keys(words)))


def show(one: Row, tmp: Path) -> Ran:
    path = a_plan(one, tmp)
    return ran(lambda: main(["plan", path, "--show"]))


def pack(one: Row, tmp: Path) -> Ran:
    words = ["pack", str(write_bundle(tmp)), "--out", str(tmp / "dist"), "--plan", a_plan(one, tmp)]
    return ran(lambda: main(words))


def doctor(one: Row, tmp: Path) -> Ran:
    words = ["doctor", "--bundle", str(UNETR3D), "--plan", a_plan(one, tmp), "--out", str(tmp / "checks")]
    return ran(lambda: main(words))


PLANS = {"training": refuses(train), "plan --show": refuses(show), "pack": refuses(pack), "doctor": refuses(doctor)}
ABSENT = ("Check --config_file", *["Make it with: autoconf plan"] * 2, "no such file. Check the path")
NO_LINES = ("holds no `key: value` lines. An override", *["holds no `key: value` lines. Give a file"] * 3)
NO_YAML = ("is no YAML (", *["is no YAML ("] * 3)
NO_NAME = ("which is no name. Put it in quotes", *NO_LINES[1:])
NO_TEXT = ("is no YAML ('utf-8' codec can't decode", *["plan.yaml: is no text. Give a file that plan wrote"] * 3)
NO_KEY = "to override. Did you mean 'patch_size'?"
UNKNOWN = ("plan.yaml). Did you mean 'patch_size'?", None, NO_KEY, NO_KEY)
LENGTH = [f"'patch_size' of bundle '{name}' has 3 values; [8, 8] has 2" for name in ("tiny", "unetr3d")]
OTHER = ("plan.yaml), but 'unetr' would run", None, "is for segresnet; this bundle's own network is")
OVERRIDES = [
    row("an override file that is not there", "plan", Path.exists, *ABSENT),
    row("an override file of a list", "plan", content("- a\n"), *NO_LINES),
    row("a list that does not end", "plan", content("a: [1"), *NO_YAML),
    row("lists nested 3,000 deep", "plan", content("a: " + "[" * 3000), *NO_YAML),
    row("a date that cannot be", "plan", content("a: 2020-99-99\n"), *NO_YAML),
    row("a number of 5,000 digits", "plan", content("a: " + "9" * 5000), *NO_YAML),
    row("a list as a key", "plan", content("? [1]\n: 2"), *NO_YAML),
    row("a zero byte", "plan", content("\0"), *NO_YAML),
    row("two documents in one file", "plan", content("a: 1\n---\nb: 2"), *NO_YAML),
    row("a name that stands for nothing", "plan", content("a: *b"), *NO_YAML),
    row("a number as a key", "plan", content("1: 2\n"), *NO_NAME),
    row("null as a key", "plan", content("null: 3\n"), *NO_NAME),
    row("an override file in Latin-1", "plan", content(b"max_epochs: \xe4\n"), *NO_TEXT),
    row("keys that are merged", "plan", content("seed: 3\n<<: {amp: false}\n"), None, "line 2 merges keys with `<<`"),
    row("a mistyped key", "plan", content("patch_sise: [4, 4, 4]\n"), *UNKNOWN),
    row("a key that only looks like a path", "plan", content("train#x: 1\n"), None, None, None, "has no 'train#x'"),
    row("another network", "plan", content("network_name: segresnet\n"), *OTHER),
    row("a value of another length", "plan", content("patch_size: [8, 8]\n"), None, None, *LENGTH),
    row("a component without its others", "plan", content("optimizer: {lr: 0.1}"), "Write `optimizer::lr: VALUE`"),
    row("a part without its others", "plan", content("train: {trainer: {x: 3}}"), "Write `train::trainer: VALUE`"),
    row("an unknown argument", "plan", content("network_def::feature_sise: 8"), "has no argument 'feature_sise'"),
]
