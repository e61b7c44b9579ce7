"""The command line: what a shell user expects of it, before any command does its work."""

import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from helpers_volumes import REPO, assert_refused, autoconf, write_cases

from autoconf import __version__, output
from autoconf.__main__ import COMMANDS, check_words, help_of, main, run, usage
from autoconf.errors import AutoconfError
from autoconf.output import table, to_csv, to_json, write_files


def sample(data: str, out: str, seed: int = 0, share: float = 0.5, deep: bool = False, set: tuple[str, ...] = ()):
    """Do nothing."""
    CALLS.append((data, out, seed, share, deep, set))


CALLS: list[tuple] = []


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch):
    """Run `sample` through the whole command line and return what it was called with."""
    monkeypatch.setitem(COMMANDS, "sample", "do nothing")
    monkeypatch.setitem(sys.modules, "autoconf.sample", types.SimpleNamespace(sample=sample))

    def run_sample(*words: str) -> tuple:
        CALLS.clear()
        run(["sample", *words])
        return CALLS[0]

    return run_sample


# --- help -------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_lists_the_verbs_in_the_order_of_use(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    commands = [line.split()[0] for line in lines if line.startswith("  ")]
    assert commands == [
        *("phantom", "inspect", "plan", "tune", "crossval", "efficiency", "segment"),
        *("score", "doctor", "report", "view", "pack", "fetch", "layout", "env"),
    ]


def test_help_loads_nothing_heavy() -> None:
    """Of a command: neither torch nor MONAI, which take seconds; of the overview: nothing that a command needs."""
    helps = [f"main(['{command}', '--help'])" for command in COMMANDS]
    for calls, heavy in ((["main([])"], {"numpy", "scipy", "matplotlib"}), (helps, {"optuna", "distributed"})):
        code = f"import sys; from autoconf.__main__ import main; {'; '.join(calls)}; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
        assert not {"torch", "monai", *heavy} & set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_verb_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[0].split()[:5] == ["usage:", "python", "-m", "autoconf", command] and len(lines) > 3


def test_usage_shows_what_is_needed_and_every_default() -> None:
    assert usage("sample", sample) == (
        "python -m autoconf sample DATA --out OUT [--seed 0] [--share 0.5] [--deep] [--set SET]"
    )
    assert help_of("sample", sample).endswith("Do nothing.")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["2024_01", "1e3", "None", "[a]", "{a: 1}", "True", "a,b", "with space", "a=b", "~x"])
def test_a_folder_may_have_any_name(call, name: str) -> None:
    assert call(name, "--out", name)[:2] == (name, name)
    assert call(name, f"--out={name}")[:2] == (name, name)


def test_words_may_come_in_any_order(call) -> None:
    expected = ("d", "o", 3, 0.25, True, ("a=1", "b=2"))
    assert call("d", "o", "3", "0.25", "--deep", "--set", "a=1", "--set", "b=2") == expected
    assert call("--deep", "--set=a=1", "--share=0.25", "--out", "o", "--seed", "3", "--set", "b=2", "d") == expected
    assert call("d", "o", "--seed", "-7", "--deep=false") == ("d", "o", -7, 0.5, False, ())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["d", "o", "--sed", "3"], "sample has no flag '--sed'. Did you mean '--seed'?"),
        (["d", "o", "--quite-other"], "There are: --data, --out, --seed"),
        (["d", "o", "-s", "3"], "no flag '-s'"),
        (["d"], "sample needs OUT. Usage: python -m autoconf sample"),
        (["d", "--out"], "--out needs a value"),
        (["d", "--out", "--seed", "3"], "--out needs a value"),
        (["d", "--out", "o", "--out", "p"], "given twice"),
        (["d", "o", "1", "0.5", "true", "x", "y"], "no use for 'y'"),
    ],
)
def test_mistyped_words_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(AutoconfError) as error:
        check_words("sample", sample, words)
    assert said in str(error.value)


@pytest.mark.parametrize(("flag", "value"), [("seed", "x"), ("seed", "1.5"), ("share", "half"), ("deep", "perhaps")])
def test_values_of_another_type_are_refused(call, flag: str, value: str) -> None:
    with pytest.raises(AutoconfError, match=f"--{flag} must be .*, not '{value}'"):
        call("d", "o", f"--{flag}={value}")
    assert not CALLS


# --- failing ----------------------------------------------------------------------------------


def test_a_mistake_is_one_line_on_stderr_and_nothing_runs(tmp_path: Path) -> None:
    assert_refused(autoconf("inspct", tmp_path), "autoconf: no command 'inspct'. Did you mean 'inspect'?")
    done = autoconf("inspect", write_cases(tmp_path / "data"), "--out", tmp_path / "out", "--sed", 1)
    assert_refused(done, "'--sed'", "'--seed'")
    assert done.stdout == "" and not (tmp_path / "out").exists()


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = autoconf("inspect", tmp_path / "nowhere", "--out", tmp_path / "out", "--debug")
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_an_error_of_the_system_is_one_line_that_names_the_path(
    call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(data: str) -> None:
        open(data).close()

    monkeypatch.setattr(sys.modules["autoconf.sample"], "sample", fail)
    assert main(["sample", "/no/such/file"]) == 1
    assert capsys.readouterr().err.startswith("autoconf: /no/such/file: No such file or directory. ")


def test_interrupt_is_one_line(call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(data: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr(sys.modules["autoconf.sample"], "sample", interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        assert main(["sample", "x"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "autoconf: stopped by the keyboard\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m autoconf --help | true"],
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""


# --- output -----------------------------------------------------------------------------------


def test_all_files_are_written_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(str(tmp_path), {"a": "old", "b": "old"})

    def full(path: str, mode: str, opened=open):
        if os.path.basename(path).startswith("b.") and path.endswith(".partial"):
            raise OSError(28, "No space left on device")
        return opened(path, mode)

    monkeypatch.setattr(output, "open", full, raising=False)
    with pytest.raises(AutoconfError, match="/b: No space left on device"):
        write_files(str(tmp_path), {"a": "new", "b": "new"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old", "b": "old"}


def test_workers_that_write_the_same_file_at_once_leave_a_whole_one(tmp_path: Path) -> None:
    """The other one writes while this one does: with one name aside it would take this one's file away."""

    class Late(str):
        def encode(self, *_: object) -> bytes:
            write_files(str(tmp_path), {"a": "other"})
            return super().encode()

    write_files(str(tmp_path), {"a": "first", "b": Late("own")})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "first", "b": "own"}


def test_rows_are_csv_under_their_columns() -> None:
    assert to_csv([{"a": 1, "b": "x,y"}, {"b": "", "a": 2}]) == 'a,b\n1,"x,y"\n2,\n'
    assert to_csv([], ("a", "b")) == "a,b\n"


def test_json_is_read_back_and_short_lists_stay_on_one_line() -> None:
    content = {"shape": [240, 240, 155], "names": ["x" * 40] * 4, "empty": {}, "é": [[], {"a": None}]}
    text = to_json(content)
    assert json.loads(text) == content
    assert '  "shape": [240, 240, 155],\n' in text and text.count("x" * 40 + '",\n') == 3


def test_numbers_of_a_table_are_aligned_to_the_right() -> None:
    assert table([("a", 1.0, "x"), ("bc", 10.5, "")], ("name", "n", "")) == (
        "name       n\n----  ------  -\na      1.000  x\nbc    10.500"
    )


def test_no_file_of_the_benchmarks_hides_a_standard_module() -> None:
    """The folder of a script comes first on the path."""
    assert not {path.stem for path in (REPO / "benchmarks").glob("*.py")} & sys.stdlib_module_names


@pytest.mark.parametrize("script", ["inspect_cost.py", "memory.py", "score_cost.py"])
def test_each_benchmark_of_its_own_starts(script: str) -> None:
    path = REPO / "benchmarks" / script
    done = subprocess.run([sys.executable, path, "--help"], cwd=REPO, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


def test_help_beside_a_bundle_lists_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    bundle = Path(__file__).parents[1] / "bundles" / "unetr3d"
    assert main(["crossval", "--help", "--bundle", str(bundle)]) == 0
    said = capsys.readouterr().out
    assert "learning_rate" in said and "peak of warm-up and cosine" in said
    assert not [line for line in said.splitlines() if line.startswith("output_dir ")]  # of each run: crossval sets it
    assert main(["crossval", "--help"]) == 0
    assert "With --bundle BUNDLE beside --help" in capsys.readouterr().out
    assert main(["score", "--help"]) == 0
    assert "--bundle BUNDLE beside" not in capsys.readouterr().out
