"""The correction of the shape prior: the network that was trained, alike in the mirror, around the hole only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.heads import SIDE, Ball, Head, boxed, family_engine

from calvaria.errors import InputError
from calvaria.reconstruction.box import BoxField
from calvaria.reconstruction.correction import (
    CHANNELS,
    MOST_MM,
    PREFIX,
    SHOWN_MM,
    Correction,
    channels,
    shown_box,
)
from calvaria.reconstruction.correction import (
    SIDE as SIDEWAYS,
)
from calvaria.reconstruction.shape_prior import ShapePrior, distance_mm
from calvaria.training.correction import CorrectionNet


@pytest.fixture(scope="module")
def network():
    """One that answers something everywhere."""
    torch.manual_seed(3)
    made = CorrectionNet(4).eval()
    torch.nn.init.normal_(made.o.weight, std=0.2)
    return made


@pytest.fixture(scope="module")
def arrays(network):
    return {name: value.numpy() for name, value in network.state_dict().items()}


@pytest.fixture(scope="module")
def completion():
    head = Head(20, (SIDE,))
    hole = (boxed(Head(20)).distance_mm < 0) & (boxed(head).distance_mm > 0)
    return family_engine().completion(boxed(head), distance_mm(hole, 3.0))[0]


def test_it_is_the_network_that_was_trained(network, arrays, completion):
    box = shown_box(completion.gap_mm)
    x = channels(completion.crop(box), box)
    assert x.shape[0] == CHANNELS
    step = [(0, -n % 8) for n in x.shape[1:]]

    def run(shown):
        padded = np.pad(shown, [(0, 0), *step], mode="edge")
        with torch.no_grad():
            return network(torch.from_numpy(padded)[None])[0].numpy()[tuple(slice(0, n) for n in x.shape[1:])]

    mirrored = x[:, ::-1].copy()
    mirrored[SIDEWAYS] *= -1
    wanted = completion.values.copy()
    near = completion.gap_mm[box] <= SHOWN_MM
    wanted[box] += np.where(near, (run(x) + run(mirrored)[::-1]) / 2, 0)
    found = Correction(arrays)(completion)
    np.testing.assert_allclose(found, wanted, atol=2e-4)
    changed = np.abs(found - completion.values)
    assert changed.max() > 0.05
    assert changed.max() <= MOST_MM
    assert not changed[completion.gap_mm > SHOWN_MM].any()


def test_the_mirrored_skull_gets_the_mirrored_correction(arrays):
    head = Head(20, (SIDE,))
    field = boxed(head)
    hole = (boxed(Head(20)).distance_mm < 0) & (field.distance_mm > 0)
    other = BoxField(field.distance_mm[::-1].copy(), field.known[::-1].copy())
    prior = family_engine()
    corrected = ShapePrior(prior.model, prior.template, correction=Correction(arrays))
    one = corrected.complete_known(field, distance_mm(hole, 3.0))
    two = corrected.complete_known(other, distance_mm(hole[::-1].copy(), 3.0))
    np.testing.assert_allclose(two.distance_mm[::-1], one.distance_mm, atol=2e-3)
    plain = prior.complete_known(field, distance_mm(hole, 3.0))
    assert np.abs(plain.distance_mm - one.distance_mm)[one.region].max() > 0.05
    np.testing.assert_array_equal(plain.region, one.region)


def test_what_the_other_side_shows_reaches_the_network(completion):
    """A hole at the side is faced by bone, whose misfit is shown; one across the midline faces itself."""
    box = shown_box(completion.gap_mm)
    x = channels(completion.crop(box), box)
    part = completion.crop(box)
    near = part.gap_mm <= SHOWN_MM
    assert x[9][near].mean() > 0.9
    assert np.abs(x[8][near]).mean() > 0.01
    head = Head(21, (Ball((0.0, 76.0, 45.0), 28.0),))
    hole = (boxed(Head(21)).distance_mm < 0) & (boxed(head).distance_mm > 0)
    found, _ = family_engine().completion(boxed(head), distance_mm(hole, 3.0))
    box = shown_box(found.gap_mm)
    inside = found.gap_mm[box] <= 0
    assert channels(found.crop(box), box)[9][inside].mean() < 0.1


def test_without_a_hole_nothing_is_corrected(arrays, completion):
    far = completion._replace(gap_mm=np.full_like(completion.gap_mm, 40))
    np.testing.assert_array_equal(Correction(arrays)(far), completion.values)


def test_a_file_has_a_correction_or_none(arrays):
    assert Correction.found_in({"mean": np.zeros(3)}) is None
    both = {"mean": np.zeros(3), **{PREFIX + name: array for name, array in arrays.items()}}
    assert isinstance(Correction.found_in(both), Correction)


def test_a_correction_that_lacks_something_is_refused(arrays):
    part = {name: array for name, array in arrays.items() if name != "b.two.bias"}
    with pytest.raises(InputError, match=r"no correction: b\.two\.bias is missing; install them again"):
        Correction(part)
