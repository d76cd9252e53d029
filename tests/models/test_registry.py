"""The index of models: found, checked by hash, refused when damaged."""

from __future__ import annotations

import json
import math
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from calvaria.errors import FormatError, InputError
from calvaria.models import Calibration, available, find, load_arrays, load_shape_arrays, register, write_arrays
from calvaria.models.calibration import MEASURES, Cues, Expected, Regression
from calvaria.reconstruction.engines import load_engine


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "first.safetensors"
    save_file({"a": np.arange(6, dtype=np.int16).reshape(2, 3), "b": np.array([0.5])}, path)
    path.with_suffix(".md").write_text("# Made from nothing\n", encoding="utf-8")
    return path


def test_what_was_registered_is_found_with_its_card(weights):
    told = register(weights, "first", "shape-prior", "CC-BY-NC-SA-4.0")
    found = find("first", weights.parent)
    assert found == told
    assert found.card.startswith("# Made from nothing")
    assert found.size_bytes == weights.stat().st_size
    assert available(weights.parent) == [found]


def test_arrays_come_back_as_they_were_stored(weights):
    arrays = load_arrays(register(weights, "first", "shape-prior", "MIT"))
    assert sorted(arrays) == ["a", "b"]
    np.testing.assert_array_equal(arrays["a"], [[0, 1, 2], [3, 4, 5]])
    assert arrays["a"].dtype == np.int16


def test_a_file_is_written_as_the_library_writes_it(tmp_path):
    arrays = {"a": np.arange(24, dtype=np.float16).reshape(2, 3, 4).transpose(2, 0, 1), "b": np.array([1, 2], np.int8)}
    about = {"calvaria": "{}", "licence": "none"}
    write_arrays(tmp_path / "new" / "ours.safetensors", arrays, about)
    save_file({"a": np.ascontiguousarray(arrays["a"]), "b": arrays["b"]}, tmp_path / "theirs.safetensors", about)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["ours.safetensors"]
    ours, theirs = tmp_path / "new" / "ours.safetensors", tmp_path / "theirs.safetensors"
    found = [{name: file.get_tensor(name) for name in file.keys()} for file in map(opened, (ours, theirs))]  # noqa: SIM118
    assert opened(ours).metadata() == opened(theirs).metadata() == about
    for name, array in arrays.items():
        assert found[0][name].dtype == found[1][name].dtype == array.dtype
        assert np.array_equal(found[0][name], array) and np.array_equal(found[1][name], array)


def test_a_written_file_may_be_read_by_whoever_may_read_its_folder(tmp_path):
    before = os.umask(0o022)
    try:
        write_arrays(tmp_path / "a.safetensors", {"a": np.zeros(3)}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o644


def opened(path):
    return safe_open(path, framework="numpy")


def test_a_model_may_be_named_by_its_file(weights):
    register(weights, "first", "shape-prior", "MIT")
    assert find(str(weights)).name == "first"


def test_registering_again_replaces_the_entry_and_keeps_the_others(weights):
    other = weights.with_name("second.safetensors")
    save_file({"c": np.zeros(2)}, other)
    register(weights, "first", "shape-prior", "MIT")
    register(other, "second", "network", "MIT")
    save_file({"a": np.ones(1)}, weights)
    register(weights, "first", "shape-prior", "MIT")
    assert sorted(model.name for model in available(weights.parent)) == ["first", "second"]
    assert sorted(load_arrays(find("first", weights.parent))) == ["a"]


def test_trainings_that_end_at_once_all_enter(weights):
    files = [weights.with_name(f"{number}.safetensors") for number in range(40)]
    for file in files:
        save_file({"a": np.zeros(1)}, file)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda file: register(file, file.stem, "network", "MIT"), files))
    assert sorted(model.name for model in available(weights.parent)) == sorted(file.stem for file in files)


def test_a_file_without_a_card_has_an_empty_one(weights):
    weights.with_suffix(".md").unlink()
    assert register(weights, "first", "shape-prior", "MIT").card == ""


def test_a_folder_without_an_index_has_no_models(tmp_path):
    assert available(tmp_path) == []
    with pytest.raises(InputError, match="there is no model called 'x'; installed: none"):
        find("x", tmp_path)


def test_an_unknown_name_is_answered_with_the_known_ones(weights):
    register(weights, "first", "shape-prior", "MIT")
    with pytest.raises(InputError, match="there is no model called 'last'; installed: first"):
        find("last", weights.parent)


def test_a_changed_file_is_refused(weights):
    model = register(weights, "first", "shape-prior", "MIT")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(
        InputError, match=r"first\.safetensors: the weights are damaged .*wanted .*install calvaria again"
    ):
        load_arrays(model)


def test_a_missing_file_is_named(weights):
    model = register(weights, "first", "shape-prior", "MIT")
    weights.unlink()
    assert find("first", weights.parent).size_bytes == 0
    with pytest.raises(InputError, match=r"first\.safetensors: the weights of 'first' are missing"):
        load_arrays(model)


def test_a_shape_prior_without_its_arrays_is_refused(weights):
    register(weights, "first", "shape-prior", "MIT")
    with pytest.raises(InputError, match="these weights are no shape model"):
        load_engine(str(weights))


ONE = Regression((-2.5, 0.5, 0.1, 1.0, 0.1), 0.3, 0.4)
CALIBRATION = Calibration(dict.fromkeys(MEASURES, ONE), 0.3, 60.0, 5.0, "made-up cases")
ENTRY = CALIBRATION.to_entry()


def broken(**changes: object) -> dict:
    """The entry with another Dice."""
    return ENTRY | {"measures": ENTRY["measures"] | {"dsc": ENTRY["measures"]["dsc"] | changes}}


def test_a_calibration_is_stored_with_its_model(weights):
    register(weights, "first", "network", "MIT", calibration=CALIBRATION)
    assert find("first", weights.parent).calibration == CALIBRATION


def test_an_expectation_follows_the_cues_and_stays_a_figure():
    told = Cues(0.2, math.e, 0.5, 1.0)
    dsc, _, hd95, _ = CALIBRATION.expected(told)
    log_loss = -2.5 + 0.5 * math.log(0.2) + 0.1 + 0.5
    assert dsc == Expected("dsc", *(pytest.approx(1 - math.exp(log_loss + off)) for off in (0, 0.4, -0.3)))
    assert hd95 == Expected("hd95_mm", *(pytest.approx(math.exp(log_loss + off)) for off in (0, -0.3, 0.4)))
    assert CALIBRATION.expected(replace(told, area_cm2=0.0))[0].value > dsc.value  # as of 1 cm2
    for extreme in (Cues(0.0, 0.0, 0.0, 0.0), Cues(1e9, 1e9, 1.0, 1e9)):
        for one in CALIBRATION.expected(extreme, 2.0):
            assert math.isfinite(one.low + one.value + one.high)
            assert one.low <= one.value <= one.high
    assert CALIBRATION.expected(Cues(1e9, 1e9, 1.0, 1e9))[0].value == 0


def test_registering_the_same_weights_again_keeps_their_calibration_and_other_weights_have_none(weights):
    register(weights, "first", "network", "MIT", calibration=CALIBRATION)
    other = weights.with_name("second.safetensors")
    save_file({"c": np.zeros(2)}, other)
    register(other, "second", "network", "MIT")
    assert find("first", weights.parent).calibration == CALIBRATION
    assert register(weights, "first", "network", "MIT").calibration == CALIBRATION
    save_file({"a": np.ones(1)}, weights)
    assert register(weights, "first", "network", "MIT").calibration is None


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (ENTRY | {"largest_cm2": "high"}, "a calibration's largest_cm2 is a number; got 'high'"),
        (ENTRY | {"worst_misfit_mm": float("nan")}, "a calibration's worst_misfit_mm is a number; got nan"),
        (ENTRY | {"more": 1.0}, "a calibration holds largest_cm2, .*; got .*more"),
        (ENTRY | {"measures": {}}, "a calibration's measures are dsc, bdsc, hd95_mm, outer_mm; got {}"),
        (broken(weights=[1.0]), r"a calibration's dsc has 5 numbers as weights; got \[1.0\]"),
        (broken(weights=[1.0, 1.0, 1.0, 1.0, True]), "a calibration's dsc has 5 numbers as weights"),
        (broken(low=-0.1), "a calibration's dsc has a low and a high of 0 or more"),
        (broken(more=1), "a calibration's dsc holds weights, low and high"),
        (0.9, "a calibration holds largest_cm2, .*; got 0.9"),
    ],
)
def test_a_broken_calibration_is_said(weights, entry, words):
    register(weights, "first", "network", "MIT")
    index = weights.parent / "index.json"
    content = json.loads(index.read_text(encoding="utf-8"))
    content["models"][0]["calibration"] = entry
    index.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(FormatError, match=rf"index\.json: {words}"):
        find("first", weights.parent)


def test_the_shipped_prior_has_a_calibration_and_what_makes_no_patches_has_none():
    assert {model.name: model.calibration is not None for model in available()} == {
        "shape-prior": True,
        "symmetry-resnet": False,
        "symmetry-vit": False,
    }
    expected = find("shape-prior").calibration.expected(Cues(0.2621, 51.97, 0.0, 0.625))
    assert expected[0].value == pytest.approx(0.934, abs=0.01)


def test_the_index_names_files_and_hashes(weights):
    register(weights, "first", "shape-prior", "MIT")
    entry = json.loads((weights.parent / "index.json").read_text(encoding="utf-8"))["models"][0]
    assert set(entry) == {"name", "kind", "file", "sha256", "licence"}
    assert entry["file"] == weights.name
    assert len(entry["sha256"]) == 64


def test_what_ships_is_whole_and_has_its_licence_and_card():
    for model in available():
        assert model.licence == "CC-BY-NC-SA-4.0"
        assert len(model.card) > 200
        assert model.size_bytes < 15e6
        assert load_arrays(model)
    assert load_shape_arrays() is load_shape_arrays()
