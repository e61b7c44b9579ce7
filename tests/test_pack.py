"""Archives of bundles: what gets in, the same bytes each time, a plan written into the configs, and new versions."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from helpers_bundles import BUNDLES, NAMES
from helpers_share import INFERENCE, weights, write_bundle
from helpers_volumes import assert_refused, autoconf

from autoconf.errors import AutoconfError
from autoconf.pack import pack
from autoconf.packaging import freeze, probe
from autoconf.packaging.contents import collect
from tools.bump import bump, in_metadata, raised


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_bundle(tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is asked in this process, without waiting for another one."""
    monkeypatch.setattr(probe, "probe", probe.ask)


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def text(path: Path, name: str) -> str:
    with zipfile.ZipFile(path) as archive:
        return archive.read(f"tiny/{name}").decode()


# What gets in


@pytest.mark.usefixtures("quick")
def test_the_same_files_give_the_same_bytes_wherever_and_whenever(tiny: Path, tmp_path: Path) -> None:
    pack(str(tiny), str(tmp_path / "one"))
    shutil.copytree(tiny, tmp_path / "elsewhere +" / "renamed")
    for path in (tmp_path / "elsewhere +").rglob("*"):
        os.utime(path, (10**9, 10**9))
        path.chmod(0o700)
    pack(str(tmp_path / "elsewhere +" / "renamed"), str(tmp_path / "two"))
    first, second = (tmp_path / where / "tiny_v0.1.0.zip" for where in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.usefixtures("quick")
def test_only_what_makes_a_bundle_gets_in_and_the_rest_is_named(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strangers = [
        "eval/mask.nii.gz",
        "docs/scan.png",
        "configs/scan.nii.gz",
        "models/old.pt",
        "scan.nii.gz",
        "scripts/a.so",
    ]
    for name in (*strangers, "scripts/__pycache__/x.pyc", "docs/.hidden.md"):
        (tiny / name).parent.mkdir(parents=True, exist_ok=True)
        (tiny / name).write_bytes(b"patient")
    (tiny / "docs" / "long.txt").write_bytes(bytes(3_000_000))
    (tiny / "docs" / "link.md").symlink_to(tiny / "LICENSE")
    pack(str(tiny), str(tmp_path / "dist"))
    path = tmp_path / "dist" / "tiny_v0.1.0.zip"
    parts = ["LICENSE", "configs/inference.yaml", "configs/metadata.json", "configs/train.yaml", "docs/README.md"]
    parts += ["docs/answer.json", "models/model.pt", "scripts/__init__.py"]
    assert names(path) == [f"tiny/{name}" for name in parts]
    said = capsys.readouterr().out
    for name in ("eval/", *strangers[1:], "docs/long.txt", "docs/link.md", "docs/.hidden.md"):
        assert f"left behind: {name}\n" in said
    assert "__pycache__" not in said and b"patient" not in path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_of_the_real_bundles_nothing_stays_behind(name: str) -> None:
    kept, left = collect(str(BUNDLES / name))
    assert [path for path in left if not path.startswith(("eval", "models"))] == []
    assert {"LICENSE", "configs/metadata.json", "docs/README.md", "scripts/checks.py"} <= set(kept)


@pytest.mark.usefixtures("quick")
def test_the_lists_beside_it_name_its_sums(tiny: Path, tmp_path: Path) -> None:
    pack(str(tiny), str(tmp_path), source="https://host/x")
    content = (tmp_path / "tiny_v0.1.0.zip").read_bytes()
    info = json.loads((tmp_path / "model_info.json").read_text())["tiny_v0.1.0"]
    assert info["checksum"] == hashlib.sha1(content).hexdigest()
    assert info["sha256"] == hashlib.sha256(content).hexdigest()
    assert info["source"] == "https://host/x/tiny_v0.1.0.zip"
    sums = dict(reversed(line.split("  ")) for line in (tmp_path / "SHA256SUMS").read_text().splitlines())
    assert all(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == found for name, found in sums.items())
    (large,) = yaml.safe_load((tmp_path / "large_files.yml").read_text())["large_files"]
    assert large["path"] == "models/model.pt" and large["hash_type"] == "sha256"
    lone = tmp_path / large["url"].removeprefix("https://host/x/")
    assert large["hash_val"] == sums[lone.name] and torch.load(lone, weights_only=True).keys() == weights(0).keys()


@pytest.mark.usefixtures("quick")
def test_a_version_never_changes_and_two_lie_side_by_side(tiny: Path, tmp_path: Path) -> None:
    pack(str(tiny), str(tmp_path / "dist"))
    before = (tmp_path / "dist" / "tiny_v0.1.0.zip").read_bytes()
    torch.save(weights(1), tiny / "models" / "model.pt")
    with pytest.raises(AutoconfError, match="is there with other content.*tools.bump"):
        pack(str(tiny), str(tmp_path / "dist"))
    assert (tmp_path / "dist" / "tiny_v0.1.0.zip").read_bytes() == before
    bump(str(tiny), "minor", "other weights")
    pack(str(tiny), str(tmp_path / "dist"))
    assert list(json.loads((tmp_path / "dist" / "model_info.json").read_text())) == ["tiny_v0.1.0", "tiny_v0.2.0"]


@pytest.mark.usefixtures("quick")
def test_without_weights_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack(str(write_bundle(tmp_path, with_weights=False)), str(tmp_path / "dist"))
    assert "holds no weights" in capsys.readouterr().out
    assert "tiny/docs/answer.json" not in names(tmp_path / "dist" / "tiny_v0.1.0.zip")


# A plan written into the configs


@pytest.mark.usefixtures("quick")
def test_a_plan_replaces_values_and_nothing_else(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        "patch_size: [8, 8, 4]  # fits\nlearning_rate: 2.0e-3  # tuned\nnetwork_name: plain\n"
    )
    torch.save(weights(3), tmp_path / "own.pt")
    pack(str(tiny), str(tmp_path / "dist"), plan=str(tmp_path / "plan.yaml"), weights=str(tmp_path / "own.pt"))
    path = tmp_path / "dist" / "tiny_v0.1.0.zip"
    assert text(path, "configs/inference.yaml") == INFERENCE.replace("[4, 6, 8]", "[8, 8, 4]")
    assert "learning_rate: 0.002    # peak\n" in text(path, "configs/train.yaml")
    formats = json.loads(text(path, "configs/metadata.json"))["network_data_format"]
    assert formats["inputs"]["image"]["spatial_shape"] == formats["outputs"]["pred"]["spatial_shape"] == [8, 8, 4]
    assert text(path, "docs/plan.yaml") == (tmp_path / "plan.yaml").read_text()
    assert (tiny / "configs" / "inference.yaml").read_text() == INFERENCE  # the bundle itself is as it was
    (tmp_path / "model.pt").write_bytes(zipfile.ZipFile(path).read("tiny/models/model.pt"))
    assert torch.equal(torch.load(tmp_path / "model.pt", weights_only=True)["bias"], weights(3)["bias"])


def test_parts_of_a_real_config_are_replaced_in_their_place() -> None:
    texts = freeze.read_texts(str(BUNDLES / "unetr3d"))
    values = {"patch_size": [96, 96, 64], "network_def::mlp_dim": 512, "dropout": 0.25, "regions": "wt,tc"}
    changed = freeze.freeze(texts, values)
    for name, old in texts.items():
        before, after = yaml.safe_load(old), yaml.safe_load(changed[name])
        assert changed[name].count("#") == old.count("#") and len(changed[name].splitlines()) == len(old.splitlines())
        if "network_def" in before:
            before["network_def"] = before["network_def"] | {"mlp_dim": 512}
        assert after == before | {key: value for key, value in values.items() if key in before}
    metadata = (BUNDLES / "unetr3d" / "configs" / "metadata.json").read_text()
    sized = json.loads(freeze.sized(metadata, values, True))["network_data_format"]
    assert sized["outputs"]["pred"]["spatial_shape"] == [96, 96, 64]


# What does not fit together


def test_windows_network_and_metadata_must_agree(tmp_path: Path) -> None:
    tiny = write_bundle(tmp_path)
    config = tiny / "configs" / "inference.yaml"
    config.write_text(INFERENCE.replace('roi_size: "@patch_size"', "roi_size: [4, 4, 4]"))
    assert_refused(autoconf("pack", tiny, "--out", tmp_path / "dist"), "windows are [4, 4, 4]", "[4, 6, 8]")
    assert not (tmp_path / "dist").exists()


@pytest.mark.usefixtures("quick")
def test_a_network_that_metadata_does_not_describe_is_refused(tmp_path: Path) -> None:
    tiny = write_bundle(tmp_path, with_weights=False)
    config = tiny / "configs" / "inference.yaml"
    config.write_text(INFERENCE.replace("out_channels: 1", "out_channels: 2"))
    with pytest.raises(AutoconfError, match=r"answers with \[1, 2, 4, 6, 8\]"):
        pack(str(tiny), str(tmp_path / "dist"))


def test_a_network_that_does_not_take_what_metadata_says_is_refused(tmp_path: Path) -> None:
    config = write_bundle(tmp_path, with_weights=False) / "configs" / "inference.yaml"
    config.write_text(INFERENCE.replace("in_channels: 2", "in_channels: 3"))
    with pytest.raises(AutoconfError, match="its network cannot be asked"):
        pack(str(config.parent.parent), str(tmp_path / "dist"))
    assert not (tmp_path / "dist").exists()


class Harm:
    """A pickle of this makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return Path(self.path).touch, ()


@pytest.mark.promise("Security", "Weights are loaded as plain tensors alone")
def test_weights_with_code_are_refused_and_never_run(tiny: Path, tmp_path: Path) -> None:
    with open(tmp_path / "bad.pt", "wb") as file:
        pickle.dump(Harm(tmp_path / "ran"), file)
    with pytest.raises(AutoconfError, match="does not load as plain tensors"):
        pack(str(tiny), str(tmp_path / "dist"), weights=str(tmp_path / "bad.pt"))
    assert not (tmp_path / "ran").exists() and not (tmp_path / "dist").exists()
    pickle.loads((tmp_path / "bad.pt").read_bytes())
    assert (tmp_path / "ran").exists()  # it would have


@pytest.mark.parametrize("name", ["../x", "a b", "", ".x"])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AutoconfError, match="its name is"):
        pack(str(write_bundle(tmp_path, name=name)), str(tmp_path / "dist"))


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    assert_refused(autoconf("pack", tmp_path, "--out", tmp_path / "dist"), "is no bundle", "metadata.json")


# New versions


def test_a_version_is_raised() -> None:
    assert [raised("1.2.9", part) for part in ("patch", "minor", "major")] == ["1.2.10", "1.3.0", "2.0.0"]


@pytest.mark.parametrize("name", NAMES)
def test_a_bump_changes_version_and_changelog_and_not_a_letter_more(name: str, tmp_path: Path) -> None:
    shutil.copytree(BUNDLES / name, tmp_path / name, ignore=shutil.ignore_patterns("models", "scripts"))
    path, page = tmp_path / name / "configs" / "metadata.json", tmp_path / name / "docs" / "README.md"
    before, page_before = path.read_text(), page.read_text()
    old = json.loads(before)["version"]
    new = raised(old, "minor")
    bump(str(tmp_path / name), "minor", 'a "note"  of\ntwo lines')
    after = json.loads(path.read_text())
    assert after["version"] == new and list(after["changelog"].items())[0] == (new, 'a "note" of two lines')
    lines = [line for line in path.read_text().splitlines() if new not in line]
    assert lines == [line for line in before.splitlines() if not line.strip().startswith('"version"')]
    added = f'- **{new}**: a "note" of two lines'
    assert [line for line in page.read_text().splitlines() if line != added] == page_before.splitlines()
    assert page.read_text().index(added) < page.read_text().index(f"- **{old}**")


def test_an_empty_changelog_gets_its_first_line() -> None:
    for old in ('{"version": "0.1.0", "changelog": {}}', '{"version": "0.1.0", "changelog": { }}'):
        assert json.loads(in_metadata(old, "0.1.0", "0.1.1", "x"))["changelog"] == {"0.1.1": "x"}


def test_a_bump_without_a_note_or_of_no_part_is_refused(tiny: Path) -> None:
    before = (tiny / "configs" / "metadata.json").read_text()
    with pytest.raises(AutoconfError, match="--note is empty"):
        bump(str(tiny), "patch", " ")
    with pytest.raises(AutoconfError, match="patch, minor, major"):
        bump(str(tiny), "tiny", "x")
    assert (tiny / "configs" / "metadata.json").read_text() == before
