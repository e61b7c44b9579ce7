"""The split: whole patients, the shares that it promises, and nothing but names and seed decide."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoconf.errors import AutoconfError
from autoconf.inspect.split import TESTING, split

sizes = st.lists(st.integers(1, 6), min_size=3, max_size=60)  # cases per patient
seeds = st.integers(0, 10**6)


def cases_of(sizes: list[int]) -> list[str]:
    return [f"patient{number}" for number, size in enumerate(sizes) for _ in range(size)]


def sides(patients: list[str], seed: int = 0) -> set[tuple[str, int | str]]:
    """All (patient, side) that occur."""
    return set(zip(patients, split(patients, seed), strict=True))


@given(sizes, seeds, st.randoms(use_true_random=False))
def test_the_order_of_the_cases_does_not_matter(sizes: list[int], seed: int, shuffler: random.Random) -> None:
    patients = cases_of(sizes)
    shuffled = random.Random(shuffler.random()).sample(patients, len(patients))
    assert sides(patients, seed) == sides(shuffled, seed)


@given(sizes, seeds)
def test_no_patient_is_on_two_sides(sizes: list[int], seed: int) -> None:
    patients = cases_of(sizes)
    assert len(sides(patients, seed)) == len(sizes)


@given(sizes, seeds)
def test_every_side_has_somebody(sizes: list[int], seed: int) -> None:
    found = set(split(cases_of(sizes), seed))
    assert {TESTING, 0, 1} <= found <= {TESTING, 0, 1, 2, 3, 4}


@given(st.integers(3, 300), seeds)
def test_shares_of_single_case_patients_are_15_15_70(patients: int, seed: int) -> None:
    count = Counter(split(cases_of([1] * patients), seed))
    for side in (TESTING, 0):
        assert abs(count[side] - 0.15 * patients) <= 0.55 or count[side] == 1
    folds = [count[fold] for fold in (1, 2, 3, 4)]
    assert max(folds) - min(folds) <= 1


@given(st.lists(st.integers(1, 6), min_size=40, max_size=80), seeds)
def test_shares_of_patients_with_several_cases_are_near(sizes: list[int], seed: int) -> None:
    count = Counter(split(cases_of(sizes), seed))
    for side in (TESTING, 0):
        assert abs(count[side] - 0.15 * sum(sizes)) <= 3  # half of the largest patient
    folds = [count[fold] for fold in (1, 2, 3, 4)]
    assert max(folds) - min(folds) <= 6  # one patient


def test_one_huge_patient_is_for_training() -> None:
    patients = ["huge"] * 100 + ["a", "b"]
    assert ("huge", 1) in sides(patients)


def test_another_seed_gives_another_split() -> None:
    patients = cases_of([1] * 30)
    assert split(patients, 0) != split(patients, 1)


def test_the_split_of_these_names_never_changes() -> None:
    """A published test set stays a test set when this program is updated."""
    patients = [f"BraTS2021_{number:05d}" for number in range(8)]
    assert split(patients, seed=0) == [2, 2, 1, 4, 0, 1, TESTING, 3]


@pytest.mark.parametrize("patients", [[], ["a"], ["a", "a", "b"]])
def test_fewer_than_three_patients_are_refused(patients: list[str]) -> None:
    with pytest.raises(AutoconfError, match="at least 3"):
        split(patients)
