"""Which label values are tumour, for every scheme that BraTS and others have used."""

import pytest

from autoconf.data.labels import FAMILIES, SCHEMES, choose_scheme, scheme_of_names
from autoconf.errors import AutoconfError


@pytest.mark.parametrize(
    ("family", "masks", "scheme"),
    [
        ("brats2018-2021", [{0, 1, 2, 4}, {0, 2}], "brats2018-2021"),
        ("brats-gli", [{0, 1, 2, 3}, {0, 2}], "brats2023"),
        ("brats-gli", [{0, 1, 2, 3}, {0, 2, 4}], "brats2024-post"),
        ("brats-met", [{0, 1, 2, 3, 4}], "brats2024-post"),
        ("brats-ped", [{0, 1, 2, 3}], "brats2023"),
        ("brats-ped", [{0, 1, 2, 3}, {0, 1, 4}], "brats2024-ped"),
        ("brats-men-rt", [{0, 1}], "binary"),
        ("decathlon", [{0, 1, 2, 3}], "decathlon"),
        ("", [{0, 1}, {1}], "binary"),
        ("", [{0, 1, 2}, {0, 4}], "brats2018-2021"),
        ("", [{0, 1, 2, 3}, {0, 1}], "brats2023"),
        ("brats2018-2021", [{0, 1, 2, 4}, {0, 1, 2, 4}, {0, 7}], "brats2018-2021"),  # one is odd
    ],
)
def test_the_values_of_a_whole_collection_decide(family: str, masks: list[set[int]], scheme: str) -> None:
    assert choose_scheme(family, masks).name == scheme


def test_a_cavity_is_no_tumour_and_the_paediatric_oedema_is() -> None:
    assert 4 not in SCHEMES["brats2024-post"].regions["wt"] and 4 in SCHEMES["brats2024-post"].values
    assert 4 in SCHEMES["brats2024-ped"].regions["wt"] and 4 not in SCHEMES["brats2024-ped"].regions["tc"]


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_regions_are_nested_and_within_the_values(scheme) -> None:
    wt, tc, et = (set(scheme.regions.get(region, ())) for region in ("wt", "tc", "et"))
    assert et <= tc <= wt <= scheme.values - {0} and wt


def test_every_family_names_known_schemes() -> None:
    assert all(name in SCHEMES for names in FAMILIES.values() for name in names)


def test_values_that_no_scheme_has_are_refused_with_the_flag() -> None:
    with pytest.raises(AutoconfError, match=r"values 0, 1, 2, 3, 4, .*--labels .*brats2024-ped"):
        choose_scheme("", [{0, 1, 2, 3, 4}])


def test_a_person_has_the_last_word() -> None:
    assert choose_scheme("brats2018-2021", [{0, 1, 2, 4}], "brats2023").name == "brats2023"
    with pytest.raises(AutoconfError, match=r"no such scheme. There are: auto, brats2018-2021"):
        choose_scheme("", [], "brats")


@pytest.mark.parametrize(
    ("names", "regions"),
    [
        (
            {"edema": [1], "non-enhancing tumor": [2], "enhancing tumour": [3]},
            {"wt": (1, 2, 3), "tc": (2, 3), "et": (3,)},
        ),
        (
            {"whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]},
            {"wt": (1, 2, 3), "tc": (2, 3), "et": (3,)},
        ),
        (
            {"NETC": [1], "SNFH": [2], "ET enhancing": [3], "resection cavity": [4]},
            {"wt": (1, 2, 3), "tc": (1, 3), "et": (3,)},
        ),
        ({"tumour": [1]}, {"wt": (1,)}),
        ({"NETC": [1], "SNFH": [2], "ET": [3], "RC": [4]}, {"wt": (1, 2, 3), "tc": (1, 3), "et": (3,)}),
        ({"WT": [1, 2, 3], "TC": [2, 3], "ET": [3]}, {"wt": (1, 2, 3), "tc": (2, 3), "et": (3,)}),
    ],
)
def test_names_of_labels_say_what_they_are(names: dict, regions: dict) -> None:
    assert scheme_of_names(names).regions == regions
