"""Attacks on what is shared: configs that run code in unusual ways, odd archives, odd servers, odd bundles.

Each config here does run its code under MONAI: the first test shows it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
import yaml
from helpers_share import INFERENCE, TRAIN, weights, write_bundle
from monai.bundle import ConfigParser
from test_fetch import files_of, sha256

from autoconf.errors import AutoconfError
from autoconf.fetch import fetch
from autoconf.pack import pack
from autoconf.packaging import freeze, probe
from autoconf.packaging.listing import is_usual, what_runs
from tools.bump import bump

# Configs. RAN is a file; the config makes it when `x` is asked for.
RUNS = {
    "a function of MONAI without dots": "x: {_target_: run_cmd, cmd_list: [touch, RAN]}",
    "a function of MONAI with dots": "x: {_target_: monai.utils.run_cmd, cmd_list: [touch, RAN]}",
    "a module of Python without dots": "m: {_target_: subprocess}\nx: \"$@m.run(['touch', 'RAN'])\"",
    "a builtin": 'm: {_target_: exec, _mode_: callable}\nx: "$@m(\'open(\\"RAN\\", \\"w\\")\')"',
    "an import of MONAI": "m: {_target_: optional_import, module: os, name: system}\nx: \"$@m[0]('touch RAN')\"",
    "a target that is referred to": "t: os.system\nx: {_target_: '@t', command: touch RAN}",
    "a target that is computed": "x: {_target_: \"$'os' + '.system'\", command: touch RAN}",
    "a target that is copied": "t: os.system\nx: {_target_: '%t', command: touch RAN}",
    "a target that is a part": "x: {_target_: {_target_: str, object: os.system}, command: touch RAN}",
    "a target in a merged key": "x: {_target_: scripts.none, command: touch RAN}\nx#_target_: os.system",
    "what a script imports": "x: {_target_: scripts.helper.os.system, command: touch RAN}",
    "what MONAI imports": "x: {_target_: monai.data.dataset.shutil.copyfile, src: /dev/null, dst: RAN}",
    "a reader": "x: {_target_: LoadImage, reader: [os.system], command: touch RAN}",
    "a reader that is referred to": "r: os.system\nx: {_target_: LoadImage, reader: '@r', command: touch RAN}",
    "what starts a training": "x: {_target_: torch.distributed.run.run_script_path, training_script: SCRIPT}",
    "a variable of a builtin's name": "x: \"$[open for open in []] or open('RAN', 'w')\"",
    "a lambda of a builtin's name": "x: \"$[lambda open: 0, open('RAN', 'w')]\"",
    "hidden globals": "x: \"$[1 for __builtins__ in []] or __builtins__['open']('RAN', 'w')\"",
    "a comment that becomes code": "x: \"$[0, 1][#open('RAN', 'w').fileno()\\n+0]\"",
    "a key that becomes code": "z: 0\n\"z or open('RAN','w').fileno()\": {x: \"$[0][@#0]\"}",
    "MONAI's own parser": (
        "x: \"$monai.bundle.ConfigParser({'y': '$open(\\\"RAN\\\", \\\"w\\\")'}).get_parsed_content('y')\""
    ),
    "numpy that runs text": 'x: "$np.testing.runstring(\'open(\\"RAN\\", \\"w\\")\', {})"',
}


def config(tmp_path: Path, text: str, name: str = "configs/more.yaml") -> Path:
    home = write_bundle(tmp_path, with_weights=False)
    (home / "scripts" / "helper.py").write_text("import os\n")
    script = home / "scripts" / "start.py"
    script.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (home / name).write_text(text.replace("RAN", str(tmp_path / "ran")).replace("SCRIPT", str(script)))
    return home


@pytest.mark.parametrize("how", RUNS)
@pytest.mark.filterwarnings("ignore:(Component|Preferably)")
def test_monai_would_run_it(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = config(tmp_path, RUNS[how])
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    parser = ConfigParser()
    parser.read_config(str(home / "configs" / "more.yaml"))
    key = next((f"{key}::x" for key, value in parser.get().items() if isinstance(value, dict) and "x" in value), "x")
    with contextlib.suppress(Exception):  # what follows the code may fail
        parser.get_parsed_content(key)
    for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
        del sys.modules[name]
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("how", RUNS)
def test_what_a_config_would_run_is_listed(how: str, tmp_path: Path) -> None:
    home = config(tmp_path, RUNS[how])
    (home / "configs" / "none.yaml").write_text("x: {_target_: UNet, spatial_dims: 2}")
    assert any(line.startswith("configs/more.yaml: ") for line in what_runs(home))
    assert not any(line.startswith("configs/none.yaml: ") for line in what_runs(home))
    assert not (tmp_path / "ran").exists()


LOG = "[loggers]\nkeys=root\n[handlers]\nkeys=h\n[formatters]\nkeys=\n[logger_root]\nhandlers=h\n[handler_h]\n"
FILES = {  # name -> content of a file beside which everything is sound
    "docs/more.yaml": "x: {_target_: os.system}",
    "configs/write.yaml": "x: {_target_: SaveImage, writer: subprocess.Popen}",
    "configs/deep/more.yml": "x: {_target_: os.system}",
    "more.JSON": '{"x": 1, "x": {"_target_": "os.system"}}',
    "configs/more.yaml": "x: '%../../other.yaml::x'",
    "configs/logging.conf": LOG + "class=StreamHandler\nargs=(open('RAN', 'w'),)\n",
    "configs/log.conf": LOG + "class=FileHandler\nargs=('.bashrc', 'w')\n",
    "monai.py": "",
    "monai/__init__.py": "",
    "scripts/__pycache__/checks.cpython-311.pyc": "",
    "scripts/fast.so": "",
    "configs/loop.yaml": "x: &x [*x, '$open(1)']",
}


@pytest.mark.parametrize("name", FILES)
def test_code_in_an_odd_place_is_listed(name: str, tmp_path: Path) -> None:
    home = write_bundle(tmp_path, with_weights=False)
    before = set(what_runs(home))
    (home / name).parent.mkdir(parents=True, exist_ok=True)
    (home / name).write_text(FILES[name])
    assert {line.split(": ")[0] for line in set(what_runs(home)) - before} == {name}


@pytest.mark.parametrize("text", ["[" * 100_000, "# " + "x" * 2_000_001, "a: [", "\x00"])
def test_a_config_that_cannot_be_read_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(AutoconfError, match="configs/more.yaml: .*Nothing was kept"):
        what_runs(config(tmp_path, text))


def test_a_log_to_the_screen_is_usual(tmp_path: Path) -> None:
    before = what_runs(config(tmp_path, "{}"))
    config(tmp_path / "more", LOG + "class=StreamHandler\nargs=(sys.stderr,)\n", "configs/logging.conf")
    assert what_runs(tmp_path / "more" / "tiny") == before


def test_parts_that_are_named_again_and_again_are_read_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 ['$open(1)']", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
    assert sum("open(1)" in line for line in what_runs(config(tmp_path, "\n".join(lines)))) == 1


@pytest.mark.parametrize(
    "target",
    [
        *(
            "AddGuidanceSignalDeepEditd",
            "AutoencoderKlMaisi",
            "UNet",
            "LoadImage",
            "torch.optim.Adam",
            "torch.nn.Identity",
        ),
        *("ignite.metrics.Accuracy", "torch.utils.data.DataLoader", "monai.transforms.signal.array.SignalRandDrop"),
    ],
)
def test_parts_of_monai_and_torch_are_usual(target: str) -> None:
    assert is_usual(target) is (
        target not in ("AddGuidanceSignalDeepEditd", "AutoencoderKlMaisi")
    )  # of monai.apps, where others start programs


def test_a_finding_is_one_line_whatever_the_key(tmp_path: Path) -> None:
    listed = what_runs(config(tmp_path, '"a\\n\\e[2Jfetched": $open(1)'))
    assert all(line.isprintable() and len(line) < 200 for line in listed) and "open(1)" in " ".join(listed)


# Archives


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is asked in this process, without waiting for another one."""
    monkeypatch.setattr(probe, "probe", probe.ask)


def archive_of(home: Path, path: Path, kind: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as target:
        for name, content in files_of(home).items():
            target.writestr(f"{home.name}/{name}", content)
    return path


def test_what_points_before_the_beginning_is_refused(tmp_path: Path) -> None:
    whole = archive_of(write_bundle(tmp_path, with_weights=False), tmp_path / "odd.zip").read_bytes()
    place = whole.rindex(b"PK\5\6") + 16  # where the directory begins
    (tmp_path / "odd.zip").write_bytes(whole[:place] + b"\xff\xff\xff\x7f" + whole[place + 4 :])
    with pytest.raises(AutoconfError, match="is damaged"):
        fetch("tiny", str(tmp_path / "odd.zip"), sha256(tmp_path / "odd.zip"), str(tmp_path / "into"))


def test_every_damaged_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    home = write_bundle(tmp_path, with_weights=False)
    whole = archive_of(home, tmp_path / "whole.zip").read_bytes()
    for place in range(0, len(whole), 37):
        bad = tmp_path / "bad.zip"
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with contextlib.suppress(AutoconfError):
            fetch("tiny", str(bad), sha256(bad), str(tmp_path / f"into{place}"))
            assert files_of(tmp_path / f"into{place}" / "tiny") == files_of(home)
        assert set(os.listdir(tmp_path / f"into{place}")) <= {"tiny"}


@pytest.mark.usefixtures("quick")
def test_a_name_with_a_v_is_packed_and_fetched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack(str(write_bundle(tmp_path, name="brats_vnet")), str(tmp_path / "di st"))
    assert f"fetch brats_vnet --source '{tmp_path}/di st/brats_vnet_v0.1.0.zip'" in capsys.readouterr().out
    found = sha256(tmp_path / "di st" / "brats_vnet_v0.1.0.zip")
    for name in ("brats_vnet", "brats_vnet_v0.1.0"):
        fetch(name, str(tmp_path / "di st"), found, str(tmp_path / "into"))
    assert os.listdir(tmp_path / "into") == ["brats_vnet"]


# Servers


@contextlib.contextmanager
def answering(headers: dict[str, str], body: bytes, status: int = 200) -> Iterator[str]:
    class Odd(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

    server = HTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("place", "headers", "body", "said"),
    [
        ("/x.zip", {"Transfer-Encoding": "chunked"}, b"ff\r\nhalf", "cannot be fetched"),
        ("/x.zip", {"Content-Length": "many"}, b"x", "cut short|cannot be fetched"),
        ("/x.zip", {"Content-Length": "-1"}, b"x", "cut short|cannot be fetched"),
        ("", {}, b"[" * 99_999, "is no list of bundles"),
        ("", {}, b'{"tiny_v' + b"9" * 5000 + b'.0.0": {}}', "holds no tiny_v"),
        ("", {}, b" " * 10_000_001, "is larger than 10 MB"),
    ],
)
def test_an_odd_answer_is_one_line(tmp_path: Path, place: str, headers: dict, body: bytes, said: str) -> None:
    with answering(headers, body) as address, pytest.raises(AutoconfError, match=said) as refused:
        fetch("tiny", address + place, "0" * 64, str(tmp_path))
    assert "\n" not in str(refused.value) and os.listdir(tmp_path) == []


def test_a_server_cannot_send_us_to_our_own_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    elsewhere = {"Location": f"file://{tmp_path}/secret", "Content-Length": "0"}
    with answering(elsewhere, b"", 302) as address, pytest.raises(AutoconfError, match="cannot be fetched"):
        fetch("tiny", f"{address}/x.zip", sha256(tmp_path / "secret"), str(tmp_path / "into"))


# Pack


@pytest.mark.usefixtures("quick")
def test_a_scan_that_is_called_a_text_stays_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = write_bundle(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.py").write_text("")
    (home / "scripts" / "data").symlink_to(tmp_path / "data")
    for name in ("docs/scan.txt", "scripts/scan.py", "docs/.private/names.md"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_bytes(b"patient\0\xff")
    pack(str(home), str(tmp_path / "dist"))
    said = capsys.readouterr().out
    for name in ("docs/scan.txt", "scripts/scan.py", "docs/.private/", "scripts/data/"):
        assert f"left behind: {name}\n" in said
    assert b"patient" not in (tmp_path / "dist" / "tiny_v0.1.0.zip").read_bytes()


@pytest.mark.usefixtures("quick")
def test_the_sums_of_older_versions_stay(tmp_path: Path) -> None:
    home, dist = write_bundle(tmp_path), tmp_path / "dist"
    pack(str(home), str(dist), source="https://host/x")
    bump(str(home), "patch", "x")
    pack(str(home), str(dist), source="https://host/x")
    listed = [line.split("  ")[1] for line in (dist / "SHA256SUMS").read_text().splitlines()]
    stems = ("tiny_v0.1.0.zip", "tiny_v0.1.0_model.pt", "tiny_v0.1.1.zip", "tiny_v0.1.1_model.pt")
    assert listed == list(stems)


@pytest.mark.usefixtures("quick")
def test_what_stops_pack_leaves_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, dist = write_bundle(tmp_path), tmp_path / "dist"
    dist.mkdir()
    (dist / "model_info.json").write_text("[" * 99_999)
    with pytest.raises(AutoconfError, match="is damaged"):
        pack(str(home), str(dist))
    assert os.listdir(dist) == ["model_info.json"]
    (dist / "model_info.json").unlink()

    def full(made: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("autoconf.pack.shutil.copyfile", lambda a, b: full(a, b) if "dist" in str(b) else os.link(a, b))
        with pytest.raises(OSError, match="No space"):
            pack(str(home), str(dist))
    assert os.listdir(dist) == []


@pytest.mark.parametrize("source", ["dist", "file:///x", "https://", "https://h/a b", "https://h/\n"])
def test_a_source_that_is_no_address_is_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(AutoconfError, match="is no address"):
        pack(str(write_bundle(tmp_path)), str(tmp_path / "dist"), source=source)


@pytest.mark.usefixtures("quick")
def test_a_network_that_answers_with_no_number_is_refused(tmp_path: Path) -> None:
    home = write_bundle(tmp_path)
    torch.save(weights(0) | {"bias": torch.tensor([float("nan")])}, home / "models" / "model.pt")
    with pytest.raises(AutoconfError, match="no number"):
        pack(str(home), str(tmp_path / "dist"))
    with pytest.raises(AutoconfError, match="away from the recorded"):
        probe.compare({"shape": [2], "values": [0.0, 0.0]}, {"shape": [2], "values": [0.0, float("nan")]}, "x")


@pytest.mark.usefixtures("quick")
def test_metadata_without_outputs_is_refused(tmp_path: Path) -> None:
    part = {"image": {"num_channels": 2, "spatial_shape": [4, 6, 8]}}
    home = write_bundle(tmp_path, network_data_format={"inputs": part})
    with pytest.raises(AutoconfError, match="outputs"):
        pack(str(home), str(tmp_path / "dist"))


@pytest.mark.parametrize("value", ["a, b", "x}", "]", 'it\'s: "x" # y', "äö", "", None, [1] * 300, {"a": [1, "b, c"]}])
def test_any_value_of_a_plan_is_written_as_it_is(value: object) -> None:
    texts = {"a.yaml": INFERENCE, "b.yaml": TRAIN}
    changed = freeze.freeze(texts, {"inferer::overlap": value, "network_name": value})
    expected = yaml.safe_load(INFERENCE) | {"network_name": value}
    assert yaml.safe_load(changed["a.yaml"]) == expected | {"inferer": expected["inferer"] | {"overlap": value}}
    assert yaml.safe_load(changed["b.yaml"]) == yaml.safe_load(TRAIN) | {"network_name": value}


def test_a_value_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(AutoconfError, match="cannot be written"):
        freeze.freeze({"a.yaml": "a: 1\na: 2\n"}, {"a": 3})


# Bump


def test_a_bump_finds_the_bundles_own_version_and_keeps_line_ends(tmp_path: Path) -> None:
    home = write_bundle(tmp_path)
    path, page = home / "configs" / "metadata.json", home / "docs" / "README.md"
    content = json.loads(path.read_text())
    own = {"parts": {"version": "0.1.0", "changelog": {}}} | content
    path.write_bytes(json.dumps(own, indent="\t").replace("\n", "\r\n").encode())
    page.write_bytes(page.read_bytes().replace(b"\n", b"\r\n"))
    bump(str(home), "patch", 'a \\ "b" \\1')
    changed = json.loads(path.read_text())
    assert changed == own | {"version": "0.1.1", "changelog": {"0.1.1": 'a \\ "b" \\1'} | content["changelog"]}
    for file in (path, page):
        assert file.read_bytes().count(b"\n") == file.read_bytes().count(b"\r\n")
    assert b'- **0.1.1**: a \\ "b" \\1\r\n- **0.1.0**' in page.read_bytes()


@pytest.mark.parametrize(
    ("more", "note", "said"),
    [
        ({"changelog": {"0.1.1": "was there", "0.1.0": "first"}}, "x", "without one of 0.1.1"),
        ({"changelog": ["first"]}, "x", "as lines by version"),
        ({"version": "0.1.\u0663"}, "x", "three numbers"),
        ({}, "a\udcff", "cannot be shown"),
        ({}, "a\x1b[2J", "cannot be shown"),
    ],
)
def test_an_odd_bump_is_refused(tmp_path: Path, more: dict, note: str, said: str) -> None:
    home = write_bundle(tmp_path, **more)
    before = files_of(home)
    with pytest.raises(AutoconfError, match=said):
        bump(str(home), "patch", note)
    assert files_of(home) == before
