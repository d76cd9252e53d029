"""Errors begin with the name of what they are about, once."""

from __future__ import annotations

import pytest

from calvaria.errors import CalvariaError, FormatError, GeometryError, InputError, QualityError, naming


@pytest.mark.parametrize("kind", [CalvariaError, InputError, FormatError, GeometryError, QualityError])
def test_the_name_is_put_before_the_message_and_the_kind_stays(kind):
    with pytest.raises(kind, match=r"^a\.nrrd: what is this$") as caught, naming("a.nrrd"):
        raise kind("what is this")
    assert type(caught.value) is kind
    assert str(caught.value.__cause__) == "what is this"


def test_a_name_that_is_there_is_not_put_twice():
    with pytest.raises(InputError, match=r"^a: a thing$"), naming("a"), naming("a"):
        raise InputError("a thing")


def test_what_is_no_error_of_ours_passes():
    with pytest.raises(ValueError, match=r"^bug$"), naming("a"):
        raise ValueError("bug")
