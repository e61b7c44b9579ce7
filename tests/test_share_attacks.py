"""Attacks on what is shared: configs that run code in unusual ways, odd archives, odd servers, odd bundles.

Each config here does run its code under MONAI: the first test shows it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers_share import write_bundle
from monai.bundle import ConfigParser

from autoconf.share.audit import audit

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
    "what MONAI imports": "x: {_target_: monai.data.image_reader.Path.touch, self: {_target_: pathlib.Path}}",
    "a variable of a builtin's name": "x: \"$[open for open in []] or open('RAN', 'w')\"",
    "a lambda of a builtin's name": "x: \"$[lambda open: 0, open('RAN', 'w')]\"",
    "hidden globals": "x: \"$[1 for __builtins__ in []] or __builtins__['open']('RAN', 'w')\"",
    "a comment that becomes code": "x: \"$[0, 1][#open('RAN', 'w').fileno()\\n+0]\"",
    "a key that becomes code": "z: 0\n\"z or open('RAN','w').fileno()\": {x: \"$[0][@#0]\"}",
    "MONAI's own parser": "x: \"$monai.bundle.ConfigParser({'y': chr(36)}) or 1\"",
    "numpy that runs text": 'x: "$np.testing.runstring(\'open(\\"RAN\\", \\"w\\")\', {})"',
}
IDLE = ("what MONAI imports", "MONAI's own parser")  # these would need more


def config(tmp_path: Path, text: str, name: str = "configs/more.yaml") -> Path:
    home = write_bundle(tmp_path, with_weights=False)
    (home / "scripts" / "helper.py").write_text("import os\n")
    (home / name).write_text(text.replace("RAN", str(tmp_path / "ran")))
    return home


@pytest.mark.parametrize("how", [how for how in RUNS if how not in IDLE])
def test_monai_would_run_it(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = config(tmp_path, RUNS[how])
    monkeypatch.syspath_prepend(str(home))
    parser = ConfigParser()
    parser.read_config(str(home / "configs" / "more.yaml"))
    key = next((f"{key}::x" for key, value in parser.get().items() if isinstance(value, dict) and "x" in value), "x")
    try:
        parser.get_parsed_content(key)
    except Exception:  # noqa: BLE001 - what follows the code may fail
        pass
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("how", RUNS)
def test_a_config_that_runs_code_is_found(how: str, tmp_path: Path) -> None:
    home = config(tmp_path, RUNS[how])
    assert any(finding.is_code and "more.yaml" in finding.where for finding in audit(home))
    assert not (tmp_path / "ran").exists()
