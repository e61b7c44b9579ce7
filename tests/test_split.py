"""The split: whole groups, the shares that it promises, fair in every stratum; only names and seed decide."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoconf.data.split import FOLDS, TESTING, _in_turn, _take, group_sides, join, quartiles, split
from autoconf.errors import AutoconfError

sizes = st.lists(st.integers(1, 6), min_size=3, max_size=60)  # cases per patient
seeds = st.integers(0, 10**6)
folds = st.integers(2, 8)


def cases_of(sizes: list[int]) -> list[str]:
    return [f"patient{number}" for number, size in enumerate(sizes) for _ in range(size)]


def dealt(patients: list[str], seed: int = 0, strata: list | None = None, **shares) -> list[int | str]:
    return split(patients, strata or [0] * len(patients), seed, **shares)


def sides(patients: list[str], seed: int = 0) -> set[tuple[str, int | str]]:
    """All (patient, side) that occur."""
    return set(zip(patients, dealt(patients, seed), strict=True))


@given(sizes, seeds, st.randoms(use_true_random=False))
def test_the_order_of_the_cases_does_not_matter(sizes: list[int], seed: int, shuffler: random.Random) -> None:
    patients = cases_of(sizes)
    shuffled = random.Random(shuffler.random()).sample(patients, len(patients))
    assert sides(patients, seed) == sides(shuffled, seed)


@given(sizes, seeds)
def test_no_patient_is_on_two_sides(sizes: list[int], seed: int) -> None:
    patients = cases_of(sizes)
    assert len(sides(patients, seed)) == len(sizes)


@given(sizes, seeds, folds)
def test_every_side_has_somebody(sizes: list[int], seed: int, folds: int) -> None:
    found = set(dealt(cases_of(sizes), seed, folds=folds))
    assert {TESTING, 0, 1} <= found
    left = len(sizes) - len({p for p, side in sides(cases_of(sizes), seed) if side == TESTING})
    assert found - {TESTING} == set(range(min(folds, left)))


@given(st.integers(3, 300), seeds, st.floats(0.05, 0.5))
def test_single_cases_are_shared_out_evenly(patients: int, seed: int, test: float) -> None:
    count = Counter(dealt(cases_of([1] * patients), seed, test=test))
    assert abs(count[TESTING] - test * patients) <= 0.55 or count[TESTING] in (1, patients - 2)
    of_folds = [count[fold] for fold in range(FOLDS)]
    assert max(of_folds) - min(of_folds) <= 1


@given(st.lists(st.integers(1, 6), min_size=40, max_size=80), seeds)
def test_patients_with_several_cases_are_shared_out_nearly_evenly(sizes: list[int], seed: int) -> None:
    count = Counter(dealt(cases_of(sizes), seed))
    assert abs(count[TESTING] - 0.15 * sum(sizes)) <= 3  # half of the largest patient
    of_folds = [count[fold] for fold in range(FOLDS)]
    assert max(of_folds) - min(of_folds) <= 6  # one patient


@given(st.lists(st.integers(5, 60), min_size=1, max_size=6), seeds)
def test_every_stratum_gives_its_part_to_the_test_and_to_each_fold(of_stratum: list[int], seed: int) -> None:
    patients = [f"{stratum}-{n}" for stratum, count in enumerate(of_stratum) for n in range(count)]
    strata = [int(patient.split("-")[0]) for patient in patients]
    found = Counter(zip(strata, dealt(patients, seed, strata), strict=True))
    for stratum, count in enumerate(of_stratum):
        assert abs(found[stratum, TESTING] - 0.15 * count) <= 1.01
        of_folds = [found[stratum, fold] for fold in range(FOLDS)]
        assert max(of_folds) - min(of_folds) <= 1


def test_one_huge_patient_is_for_training() -> None:
    found = sides(["huge"] * 100 + ["a", "b"])
    assert ("huge", 1) in found


def test_another_seed_gives_another_split() -> None:
    patients = cases_of([1] * 30)
    assert dealt(patients, 0) != dealt(patients, 1)


def test_the_split_of_these_names_never_changes() -> None:
    """A published test set stays a test set when this program is updated."""
    patients = [f"BraTS2021_{number:05d}" for number in range(8)]
    assert dealt(patients, seed=0) == [3, TESTING, 2, 0, 3, 4, 4, 1]


@pytest.mark.parametrize("patients", [[], ["a"], ["a", "a", "b"]])
def test_fewer_than_three_patients_are_refused(patients: list[str]) -> None:
    with pytest.raises(AutoconfError, match="at least 3 are needed. Add cases of other patients.$"):
        dealt(patients)


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=50))
def test_quartiles_follow_the_order_and_are_equally_full(values: list[float]) -> None:
    found = quartiles(values)
    assert all(0 <= quarter <= 3 for quarter in found)
    assert [quarter for _, quarter in sorted(zip(values, found, strict=True))] == sorted(found)
    if len(set(values)) == len(values):
        count = Counter(found)
        assert max(count.values()) <= -(-len(values) // 4)


def test_joined_groups_bear_the_first_name_and_chains_are_followed() -> None:
    assert join(["d", "c", "b", "a", "z"], [(0, 1), (1, 2)]) == ["b", "b", "b", "a", "z"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=15), st.randoms(use_true_random=False))
def test_joining_does_not_depend_on_the_order_of_the_pairs(pairs: list[tuple[int, int]], shuffler) -> None:
    groups = [f"patient{n // 2}" for n in range(10)]
    joined = join(groups, pairs)
    shuffled = [pair[::-1] for pair in shuffler.sample(pairs, len(pairs))]
    assert joined == join(groups, shuffled)
    assert all(joined[a] == joined[b] for a, b in pairs)


def test_a_patient_counts_as_the_commonest_stratum_of_his_cases() -> None:
    """The lower one where two are as common."""
    last = [f"last{number}" for number in range(6)]  # twice in stratum 2, once in 1
    first = [f"first{number}" for number in range(6)]  # as often in 3 as in 1
    groups = [*(name for name in last for _ in range(3)), *(name for name in first for _ in range(2))]
    strata = [2, 2, 1] * 6 + [3, 1] * 6
    turns = _in_turn(groups, strata, 0)
    assert sorted(turns[:6]) == first and sorted(turns[6:]) == last


def test_groups_are_taken_evenly_from_the_whole_queue() -> None:
    assert _take(list("abcd"), Counter("abcd"), 0.5) == ["b", "d"]
    assert _take(list("abc"), Counter(a=10, b=10, c=9), 0.15) == ["c"]  # each is too large: the least of them
    assert _take(list("abcdef"), Counter("abcdef"), 0.99) == list("abcd")  # two are left to train and validate


def test_data_with_a_test_set_of_their_own_lose_no_case_to_another() -> None:
    assert set(split(list("abcdefgh"), [0] * 8, test=0)) == set(range(FOLDS))
    assert split(list("abcdefgh"), [0] * 8) == split(list("abcdefgh"), [0] * 8, seed=0)


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ([None, None, None, None], [None, None, None, None]),
        ([1, None, None, 2], [1, 1, None, 2]),
        ([None, 0, TESTING, None], [0, 0, TESTING, None]),
        ([TESTING, 3, None, None], [TESTING, TESTING, None, None]),
        ([3, TESTING, None, None], [TESTING, TESTING, None, None]),
    ],
)
def test_kin_are_on_one_side_and_in_the_test_set_if_one_of_them_is(sides: list, expected: list) -> None:
    assert group_sides(["a", "a", "b", "c"], sides) == expected
