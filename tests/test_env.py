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


def test_it_shows_settings_but_no_secret_user_or_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    text = autoconf("env").stdout
    assert "OMP_NUM_THREADS" in text and "hf_secret" not in text
    for private in (str(Path.home()), platform.node(), str(Path.cwd())):
        assert len(private) < 4 or private not in text
    assert len(getpass.getuser()) < 5 or getpass.getuser() not in text
