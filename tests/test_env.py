"""`autoconf env` says what a bug report needs, and keeps what is nobody's business."""

from __future__ import annotations

import getpass
import os
import platform
from importlib.metadata import version
from pathlib import Path

import pytest
from helpers_volumes import autoconf

from autoconf import env as verb


def shown() -> dict[str, str]:
    return dict(verb.lines())


def test_it_names_the_versions_that_are_installed() -> None:
    found = shown()
    for package in ("torch", "monai", "nibabel", "pytorch-ignite"):
        assert found[package] == version(package)
    assert found["python"].endswith(platform.python_version())
    assert not any(name.startswith("extra") for name in found)


def test_a_package_that_is_missing_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "requires", lambda _: ["monai>=1", "nosuchpackage>=1", 'noextra>=1; extra == "x"'])
    found = shown()
    assert found["nosuchpackage"] == "not installed" and "noextra" not in found


def test_where_the_project_is_not_installed_the_core_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "PROJECT", "nosuchproject")
    assert set(verb.CORE) <= shown().keys()


def test_it_counts_the_cores_that_it_may_use() -> None:
    assert shown()["cores"] == f"{verb.usable_cores()} usable of {os.cpu_count()}"
    assert 1 <= verb.usable_cores() <= (os.cpu_count() or 1)


XEON = "model name\t: Intel(R) Xeon(R) Processor\nflags\t\t: fpu sse2 avx2 avx512f avx512_bf16 amx_bf16 amx_tile\n"
EPYC = "model name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512f avx512_bf16\n"
OLD = "model name\t: Old\nflags\t\t: fpu sse2 avx512fp16\n"
GRAVITON = "processor\t: 0\nBogoMIPS\t: 2100.00\nFeatures\t: fp asimd sve bf16\nCPU implementer\t: 0x41\n"


@pytest.mark.parametrize(
    ("cpuinfo", "said"),
    [
        (XEON * 2, "Intel(R) Xeon(R) Processor with AMX, AVX512-BF16, AVX512, AVX2"),
        (EPYC, "AMD EPYC with AVX512-BF16, AVX512, AVX2"),
        (OLD, "Old"),
        (GRAVITON, "aarch64 with SVE"),
        ("", "aarch64"),
    ],
    ids=["AMX", "AVX512", "neither", "ARM", "empty"],
)
def test_it_names_the_instruction_sets_that_matter(cpuinfo: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert verb.described(cpuinfo) == said


def test_where_there_is_no_cpuinfo_the_system_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: Path) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(verb.Path, "read_text", missing)
    assert verb.processor() == (platform.processor() or platform.machine())


def test_it_shows_what_forbids_instruction_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "AVX512_CORE_BF16", "ATEN_CPU_CAPABILITY": "default"}
    for name, value in limits.items():
        monkeypatch.setenv(name, value)
    assert limits.items() <= shown().items()


def test_it_shows_settings_but_no_secret_user_or_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    text = autoconf("env").stdout
    assert "OMP_NUM_THREADS" in text and "hf_secret" not in text
    for private in (str(Path.home()), platform.node(), str(Path.cwd())):
        assert len(private) < 4 or private not in text
    assert len(getpass.getuser()) < 5 or getpass.getuser() not in text
