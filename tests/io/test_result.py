import hashlib
import json
import math
from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calvaria.errors import InputError
from calvaria.io import sha256_of, write_result_json
from calvaria.io.result import json_ready

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def test_a_record_is_sorted_and_twice_the_same_bytes(tmp_path):
    record = {"b": 0.1, "a": {"y": [1, 2.5], "x": None, "ü": True}}
    write_result_json(tmp_path / "a.json", record)
    write_result_json(tmp_path / "b.json", dict(reversed(record.items())))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    text = (tmp_path / "a.json").read_text("utf-8")
    assert " ".join(text.split()) == '{ "a": { "x": null, "y": [ 1, 2.5 ], "ü": true }, "b": 0.1 }'
    assert text.endswith("}\n")


def test_numpy_values_tuples_and_paths_become_plain(tmp_path):
    record = {
        "f4": np.float32(0.1),
        "f8": np.float64(1 / 3),
        "i": np.int64(2**60),
        "b": np.bool_(True),
        "array": np.array([[1, 2], [3, 4]], np.uint8),
        "scalar": np.array(1.5, np.float32),
        "tuple": (1, "two"),
        "empty": {},
    }
    write_result_json(tmp_path / "a.json", record)
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "f4": 0.1,
        "f8": 1 / 3,
        "i": 2**60,
        "b": True,
        "array": [[1, 2], [3, 4]],
        "scalar": 1.5,
        "tuple": [1, "two"],
        "empty": {},
    }
    write_result_json(tmp_path / "a.json", {"p": PurePosixPath("x/y")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"p": "x/y"}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"scores": {"dsc": float("nan")}}, r"scores\.dsc is nan"),
        ({"a": [0.0, float("inf")]}, r"a\[1\] is inf"),
        ({"a": np.array([0.0, np.nan], np.float32)}, r"a\[1\] is nan"),
        ({"a": {1: 2}}, "names must be text; found 1 in a"),
        ({"a": object()}, "a is a object, which JSON cannot say"),
        ({"a": 1j}, "a is a complex"),
        ({"a": {1, 2}}, "a is a set"),
    ],
)
def test_what_json_cannot_say_is_refused_by_its_name_and_the_old_file_stays(tmp_path, record, message):
    (tmp_path / "result.json").write_text("old")
    with pytest.raises(InputError, match=r"^result\.json: " + message):
        write_result_json(tmp_path / "result.json", record)
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    assert (tmp_path / "result.json").read_text() == "old"


def test_the_hash_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"calvaria" * 100_000)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"calvaria" * 100_000).hexdigest()
    with pytest.raises(InputError, match="there is no such file"):
        sha256_of(tmp_path / "b")


@given(VALUES)
def test_whatever_is_made_json_ready_is_strict_json(value):
    ready = json_ready(value)
    assert json.loads(json.dumps(ready, allow_nan=False)) == ready


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_becomes_null(value):
    assert json_ready({"a": [value, 1.0]}) == {"a": [None, 1.0]}
