"""Whatever is wrong with data: the right answer, or one line that names the file and the cure.

The kinds of bad input are tables in bad_*.py; docs/bad_inputs.md shows them, and what happens.
"""

from __future__ import annotations

import pytest
from bad_inputs import HEAD, KINDS, PAGE, SECTIONS, plain, row


@pytest.fixture(scope="module")
def page() -> list[str]:
    return [plain(line) for line in PAGE.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: ascii(kind.what))
def test_it_ends_as_is_promised_and_as_the_page_says(kind, page) -> None:
    assert plain(row(kind)) in page, "run: python tests/bad_inputs.py"


def test_the_page_has_a_row_for_every_kind_and_no_other(page) -> None:
    rows = [line for line in page if line.startswith("| ") and not line.startswith(("| given", "| ---"))]
    assert len(rows) == len(KINDS) == len({kind.what for kind in KINDS}) >= 60
    assert page[: len(HEAD.splitlines())] == [plain(line) for line in HEAD.splitlines()]
    assert [line for line in page if line.startswith("## ")] == [f"## {title}" for title in SECTIONS]
