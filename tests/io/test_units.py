"""Words for units of length."""

import pytest

from calvaria.errors import GeometryError
from calvaria.io.units import mm_per_unit, quoted_words


@pytest.mark.parametrize(
    ("word", "mm"), [("mm", 1), ("MM", 1), (" cm ", 10), ("Metres", 1000), ("inch", 25.4), ("\xb5m", 0.001), ("???", 1)]
)
def test_a_unit_is_known_in_any_case(word, mm):
    assert mm_per_unit("a", "units", word) == mm


def test_an_unknown_one_is_named():
    with pytest.raises(GeometryError, match=r"^a\.nrrd: the field 'units' says 'ell', which is no unit .*export"):
        mm_per_unit("a.nrrd", "units", "ell")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ('"mm" "two words" ""', ["mm", "two words", ""]),
        ("mm, cm,m", ["mm", "cm", "m"]),
        ("('mm' 'cm')", ["mm", "cm"]),
        ("\xc2\xb5m", ["\xb5m"]),
        ("\xb5m", ["\xb5m"]),
    ],
)
def test_lists_are_split_however_they_are_quoted(text, words):
    assert quoted_words(text) == words
