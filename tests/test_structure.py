"""The layout of the code: what a command may import, and that names are unique. tools/structure.py reads it."""

from __future__ import annotations

from pathlib import Path

from helpers_bundles import REPO

from tools import structure


def test_no_command_imports_another_but_for_the_metrics_of_score():
    assert structure.forbidden(REPO) == []


def test_modules_import_each_other_in_one_direction():
    assert structure.cycles(REPO) == []


def test_imports_stand_at_the_top_but_for_what_is_slow_to_load():
    assert structure.late_imports(REPO) == []


def test_an_import_inside_a_function_is_found(tmp_path):
    late = "def f():\n    import torch\n    from autoconf import b\n    try: import z\n    except ImportError: ...\n"
    assert structure.late_imports(checkout(tmp_path, a=late, b="")) == ["autoconf/a.py:3"]


def test_a_class_name_is_unique():
    assert structure.class_names(REPO) == {}


def test_bundles_hold_no_copies_of_each_other():
    assert structure.copies(REPO) == 0


def checkout(tmp_path: Path, **files: str) -> Path:
    """A checkout of these modules of autoconf: name with __ for dots -> text."""
    (tmp_path / "autoconf").mkdir(parents=True)
    (tmp_path / "autoconf" / "__init__.py").touch()
    for name, text in files.items():
        path = tmp_path / "autoconf" / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_an_import_that_is_not_allowed_is_found_wherever_it_stands(tmp_path):
    root = checkout(
        tmp_path,
        plan__inner="def f():\n    from autoconf.inspect.sets import assign_sides\n",
        inspect__sets="from autoconf.score.metrics import overlap\nfrom autoconf.data.volumes import read\n",
        score__metrics="class Twice: ...\n",
        data__volumes="from autoconf.plan import inner\nclass Twice: ...\n",
        __main__="from autoconf.plan.inner import f\n",
    )
    assert structure.forbidden(root) == [
        ("autoconf.data.volumes", "autoconf.plan.inner", "inner"),
        ("autoconf.plan.inner", "autoconf.inspect.sets", "assign_sides"),
    ]
    assert structure.class_names(root) == {"Twice": ["autoconf.data.volumes", "autoconf.score.metrics"]}


def test_a_cycle_is_found(tmp_path):
    root = checkout(
        tmp_path, a="from autoconf.b import x\n", b="from autoconf import c\n", c="from autoconf.a import y\n"
    )
    assert structure.cycles(root) == [["autoconf.a", "autoconf.b", "autoconf.c"]]
