"""The list of words keeps new text out of the old idiom."""

from __future__ import annotations

from tools import words

PATTERN = r"by heart"


def test_a_word_may_be_said_as_often_as_before_and_no_more():
    found = words.said({"a.md": "learn it by heart\n", "b.md": "x\nby heart, by heart"})
    assert found[PATTERN] == ["a.md:1", "b.md:2", "b.md:2"]
    assert words.complaints(found, {PATTERN: 3}, set()) == []
    (line,) = words.complaints(found, {PATTERN: 2}, {"b.md"})
    assert "said 1 times more than before, e.g. b.md:2: say overfit one case" in line


def test_a_word_within_a_word_and_a_compound_are_not_meant():
    found = words.said({"a.md": "Adverbs of a training set; a training step"})
    assert not any(found.values())
    assert any(words.said({"a.md": "a training ends; the verb"}).values())
