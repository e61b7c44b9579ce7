"""Bundles from elsewhere: what is kept, what is refused, and that nothing of them runs."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers_bundles import BUNDLES, NAMES
from helpers_processes import run_module
from helpers_share import INFERENCE, served, weights, write_bundle
from helpers_volumes import assert_refused, autoconf
from test_pack import Harm

from autoconf.errors import AutoconfError
from autoconf.fetch import fetch
from autoconf.pack import pack
from autoconf.packaging import archive, probe
from autoconf.packaging.listing import what_runs
from tools.bump import bump

PROMISE = pytest.mark.promise(
    "Security", "Another hash, or a download cut short, is refused before anything is unpacked"
)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with versions 0.1.0 and 0.10.0 and 0.9.0 of one bundle, as pack leaves them."""
    home = tmp_path_factory.mktemp("shelf")
    bundle = write_bundle(home)
    quick = pytest.MonkeyPatch()
    quick.setattr(probe, "probe", probe.ask)  # without a new process for each
    pack(str(bundle), str(home / "dist"))
    for part, seed in (("minor", 9), ("minor", 10)):
        torch.save(weights(seed), bundle / "models" / "model.pt")
        bump(str(bundle), part, "x")
        if seed == 9:
            metadata = bundle / "configs" / "metadata.json"
            metadata.write_text(metadata.read_text().replace("0.2.0", "0.9.0"))
        pack(str(bundle), str(home / "dist"))
    quick.undo()
    return home / "dist"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def inside(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as found:
        return {name.removeprefix("tiny/"): found.read(name) for name in found.namelist()}


# From where


def test_from_a_file_a_folder_and_an_address_the_same_files_come(shelf: Path, tmp_path: Path) -> None:
    path = shelf / "tiny_v0.1.0.zip"
    with served(shelf) as address:
        for place, (name, source) in enumerate(
            [
                ("tiny", str(path)),
                ("tiny_v0.1.0", str(shelf)),
                ("tiny", f"{address}/{path.name}"),
                ("tiny_v0.1.0", address),
            ]
        ):
            into = tmp_path / f"to +{place}"
            fetch(name, source, sha256(path).upper(), str(into))
            assert files_of(into / "tiny") == inside(path) and os.listdir(into) == ["tiny"]


def test_without_a_version_the_newest_is_fetched_as_numbers_go(shelf: Path, tmp_path: Path) -> None:
    with served(shelf) as address:
        for source in (str(shelf), address):
            fetch("tiny", source, sha256(shelf / "tiny_v0.10.0.zip"), str(tmp_path / source.replace("/", "_")))


def test_from_a_hub(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(shelf, tmp_path / "www" / "someone" / "tiny" / "resolve" / "main")
    with served(tmp_path / "www") as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        fetch("someone/tiny", "hub", sha256(shelf / "tiny_v0.10.0.zip"), str(tmp_path / "a"))
        fetch("someone/tiny_v0.1.0", "hub", sha256(shelf / "tiny_v0.1.0.zip"), str(tmp_path / "b"))
    assert files_of(tmp_path / "b" / "tiny") == inside(shelf / "tiny_v0.1.0.zip")
    with pytest.raises(AutoconfError, match="owner/bundle"):
        fetch("tiny", "hub", "0" * 64, str(tmp_path / "c"))


def test_monai_downloads_the_archive_too(shelf: Path, tmp_path: Path) -> None:
    with served(shelf) as address:
        words = ["download", "--name", "tiny", "--bundle_dir", str(tmp_path), "--url", f"{address}/tiny_v0.1.0.zip"]
        done = run_module("monai.bundle", words, None, {})
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "tiny") == inside(shelf / "tiny_v0.1.0.zip")


def test_its_network_is_asked_only_on_request_and_its_answer_compared(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shelf / "tiny_v0.1.0.zip"
    fetch("tiny", str(path), sha256(path), str(tmp_path), check=True)
    assert "checked its network answers" in capsys.readouterr().out
    torch.save(weights(1), tmp_path / "tiny" / "models" / "model.pt")
    other = tmp_path / "other"
    fetch("tiny", str(path), sha256(path), str(other))
    shutil.copy(tmp_path / "tiny" / "models" / "model.pt", other / "tiny" / "models" / "model.pt")
    with pytest.raises(AutoconfError, match="holds tiny_v0.1.0 with other files"):
        fetch("tiny", str(path), sha256(path), str(other), check=True)


# Versions


def test_another_version_is_never_replaced_in_silence(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = shelf / "tiny_v0.1.0.zip", shelf / "tiny_v0.10.0.zip"
    fetch("tiny", str(old), sha256(old), str(tmp_path))
    fetch("tiny", str(old), sha256(old), str(tmp_path))
    assert "holds tiny_v0.1.0 already" in capsys.readouterr().out
    words = ("fetch", "tiny", "--source", new, "--sha256", sha256(new), "--into", tmp_path)
    assert_refused(autoconf(*words), "holds version 0.1.0", "--replace")
    assert files_of(tmp_path / "tiny") == inside(old)
    fetch("tiny", str(new), sha256(new), str(tmp_path), replace=True)
    assert files_of(tmp_path / "tiny") == inside(new) and files_of(tmp_path / "tiny_v0.1.0") == inside(old)
    with pytest.raises(AutoconfError, match="is there too"):
        (tmp_path / "tiny_v0.10.0").mkdir()
        fetch("tiny", str(old), sha256(old), str(tmp_path), replace=True)
    assert sorted(os.listdir(tmp_path)) == ["tiny", "tiny_v0.1.0", "tiny_v0.10.0"]


# Attacks: each is refused in one line, and leaves nothing


def made(
    path: Path, add: Callable[[zipfile.ZipFile], None], skip: tuple[str, ...] = (), source: Path | None = None
) -> Path:
    """An archive like the shelf's, with something more."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in inside(source or path.parent / "good.zip").items():
            if name not in skip:
                target.writestr(f"tiny/{name}", content)
        add(target)
    return path


def linked(target: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo("tiny/docs/link.md")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    target.writestr(entry, "/etc/passwd")


def harmful(target: zipfile.ZipFile) -> None:
    target.writestr("tiny/models/model.pt", pickle.dumps(Harm(Path(target.filename).parent / "ran")))


def config(line: str) -> Callable[[zipfile.ZipFile], None]:
    return lambda target: target.writestr("tiny/configs/inference.yaml", f"{INFERENCE}more: {line}\n")


def with_metadata(text: str) -> Callable[[zipfile.ZipFile], None]:
    return lambda target: target.writestr("tiny/configs/metadata.json", text)


ATTACKS = {
    "a name that climbs": (lambda t: t.writestr("tiny/../../evil.txt", "x"), "leads outside", ()),
    "a name from the root": (lambda t: t.writestr("/tmp/evil.txt", "x"), "leads outside", ()),
    "a name of Windows": (lambda t: t.writestr("tiny/C:evil.txt", "x"), "leads outside", ()),
    "a link": (linked, "is a link", ()),
    "a name twice": (lambda t: t.writestr("tiny/License", "x"), "is there twice", ()),
    "a file and a folder of one name": (lambda t: t.writestr("tiny/LICENSE/x.txt", "x"), "share a name", ()),
    "a second folder": (lambda t: t.writestr("other/x.txt", "x"), "holds 2 folders", ()),
    "a lone file": (lambda t: t.writestr("evil.py", "x"), "lies in no folder", ()),
    "a bomb": (lambda t: t.writestr("tiny/docs/long.txt", bytes(60_000_000)), "zip bomb", ()),
    "too many files": (lambda t: [t.writestr(f"tiny/docs/{n}.md", "") for n in range(2_001)], "more than 2000", ()),
    "weights with code": (harmful, "does not load as plain tensors", ("models/model.pt",)),
    "another name": (
        with_metadata('{"name": "other", "version": "0.1.0"}'),
        "holds other_v0.1.0",
        ("configs/metadata.json",),
    ),
    "a long name": (lambda t: t.writestr(f"tiny/docs/{'x' * 300}.md", ""), "too long", ()),
    "many folders": (lambda t: t.writestr(f"tiny/{'a/' * 50}x.md", ""), "too deep", ()),
    "a memory bomb": (lambda t: t.writestr("tiny/docs/x.md", bytes(99), zipfile.ZIP_BZIP2), "unusual way", ()),
    "two names that are one on a Mac": (
        lambda t: [t.writestr(f"tiny/docs/{name}.md", "") for name in ("e\u0301", "\u00e9")],
        "is there twice",
        (),
    ),
    "a pickle of another name": (
        lambda t: t.writestr("tiny/models/best.dat", pickle.dumps(Harm(Path(t.filename).parent / "ran"))),
        "does not load as plain tensors",
        (),
    ),
    "metadata of many digits": (with_metadata("9" * 5000), "cannot be read", ("configs/metadata.json",)),
    "metadata of many brackets": (with_metadata("[" * 99_999), "cannot be read", ("configs/metadata.json",)),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.promise(
    "Security",
    "An archive that climbs out of its folder, links, grows, or holds code in weights or configs is "
    "refused, and leaves nothing",
)
def test_an_attack_is_refused_and_leaves_nothing(shelf: Path, tmp_path: Path, attack: str) -> None:
    add, said, skip = ATTACKS[attack]
    shutil.copy(shelf / "tiny_v0.1.0.zip", tmp_path / "good.zip")
    bad = made(tmp_path / "bad.zip", add, skip)
    with pytest.raises(AutoconfError) as refused:
        fetch("tiny", str(bad), sha256(bad), str(tmp_path / "into" / "deep"))
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert os.listdir(tmp_path / "into" / "deep") == []
    assert sorted(os.listdir(tmp_path)) == ["bad.zip", "good.zip", "into"]


def test_sizes_are_counted_not_believed(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_BYTES", 1_000)
    path = shelf / "tiny_v0.1.0.zip"
    (tmp_path / "out").mkdir()
    with pytest.raises(AutoconfError, match="zip bomb"):
        archive.unpack(path, tmp_path / "out")


@PROMISE
def test_a_wrong_hash_is_refused_before_anything_is_unpacked(shelf: Path, tmp_path: Path) -> None:
    path = shelf / "tiny_v0.1.0.zip"
    words = ("fetch", "tiny", "--source", path, "--into", tmp_path / "x")
    assert_refused(autoconf(*words, "--sha256", "0" * 64), "its SHA-256 is", "nothing was kept")
    assert os.listdir(tmp_path / "x") == []
    assert_refused(autoconf(*words, "--sha256", "abc"), "is no SHA-256")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_an_archive_that_was_cut_is_refused_even_if_its_hash_was_made_of_the_rest(
    shelf: Path, tmp_path: Path, share: float
) -> None:
    content = (shelf / "tiny_v0.1.0.zip").read_bytes()
    (tmp_path / "half.zip").write_bytes(content[: int(share * len(content))])
    with pytest.raises(AutoconfError, match="is damaged, or no zip archive"):
        fetch("tiny", str(tmp_path / "half.zip"), sha256(tmp_path / "half.zip"), str(tmp_path / "into"))
    assert os.listdir(tmp_path / "into") == []


@PROMISE
def test_a_download_that_ends_early_is_refused(shelf: Path, tmp_path: Path) -> None:
    shutil.copy(shelf / "tiny_v0.1.0.zip", tmp_path / "cut.zip")
    with served(tmp_path) as address, pytest.raises(AutoconfError, match="cut short|cannot be fetched"):
        fetch("tiny", f"{address}/cut.zip", sha256(tmp_path / "cut.zip"), str(tmp_path / "into"))
    assert os.listdir(tmp_path / "into") == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("ftp://host/x.zip", "only http"),
        ("http://127.0.0.1:1/x.zip", "cannot be fetched"),
        ("no such folder", "no such folder or file"),
        (".", "holds no tiny_v....zip"),
    ],
)
def test_a_place_that_has_nothing_is_one_line(tmp_path: Path, source: str, said: str) -> None:
    with pytest.raises(AutoconfError) as refused:
        fetch("tiny", source, "0" * 64, str(tmp_path))
    assert said in str(refused.value)


def test_what_lies_there_and_is_no_bundle_is_left_alone(shelf: Path, tmp_path: Path) -> None:
    path = shelf / "tiny_v0.1.0.zip"
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "thesis.txt").write_text("years of work")
    for replace in (False, True):
        with pytest.raises(AutoconfError, match="is no bundle"):
            fetch("tiny", str(path), sha256(path), str(tmp_path), replace=replace)
    assert files_of(tmp_path) == {"tiny/thesis.txt": b"years of work"}


# What a config would run


def test_what_a_config_would_run_is_said_before_anything_runs(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(shelf / "tiny_v0.1.0.zip", tmp_path / "good.zip")
    text = "{_target_: other.Network}\neven: $open('x')"
    odd = made(tmp_path / "odd.zip", config(text), ("configs/inference.yaml",))
    fetch("tiny", str(odd), sha256(odd), str(tmp_path / "into"))
    said = capsys.readouterr().out
    for line in ("configs/inference.yaml: _target_ other.Network", "configs/inference.yaml: even: $open('x')"):
        assert f"it would run: {line}\n" in said and said.index(line) < said.index("fetched tiny")


@pytest.mark.parametrize(
    ("into", "said"),
    [
        ("afile/x", "afile is a file, not a folder. Give --into another folder."),
        ("", "--into is empty. Give it a folder."),
    ],
)
def test_a_folder_that_is_none_is_named_by_this_verbs_flag(
    into: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").write_text("")
    with pytest.raises(AutoconfError, match=said):
        fetch("tiny", "nowhere", "0" * 64, into)


@pytest.mark.parametrize("name", NAMES)
def test_of_our_own_bundles_expressions_and_scripts_are_listed(name: str) -> None:
    listed = what_runs(BUNDLES / name)
    assert all(" scripts." in line or "$" in line or "operator.lt" in line for line in listed), listed
    assert len(listed) == len(set(listed)) > 30
