"""Bone as the checks see it, found once: what was looked at for one implant serves the next, and changes no figure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.implant.caps import fine_ball, the_cap

from calvaria.implant import measure
from calvaria.implant.around import Around
from calvaria.implant.parts import Part
from calvaria.volume import Grid, Mesh, Volume

TRAVEL_MM = 30.0


def test_what_was_looked_at_serves_the_next_implant_and_changes_no_figure():
    part, bone = the_cap(), fine_ball()
    wide = Around(6.0)
    surface = wide.surface(part, bone, TRAVEL_MM)
    moved = replace(part, body=replace(part.body, vertices_mm=part.body.vertices_mm + 2.0))
    alone = measure.surface_around(moved, bone, TRAVEL_MM)
    assert wide.surface(moved, bone, TRAVEL_MM) is surface
    spots = moved.body.vertices_mm[::50]
    np.testing.assert_allclose(measure.bone_distances(surface, spots), measure.bone_distances(alone, spots))
    found = measure.collision(moved, surface, TRAVEL_MM, wide.way)
    assert found == pytest.approx(measure.collision(moved, alone, TRAVEL_MM), abs=1e-3)
    ends = moved.body.vertices_mm.min(axis=0), moved.body.vertices_mm.max(axis=0)
    assert wide.way(*ends) is wide.way(*ends)


def test_other_bone_or_another_place_is_looked_at_anew():
    mask = np.zeros((60, 60, 60), bool)
    mask[20:40, 20:40, 20:40] = True
    bone = Volume(mask, Grid.isotropic((60, 60, 60), 2.0, np.zeros(3)))
    corners = np.array([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 5.0]])

    def at(x_mm: float) -> Part:
        return replace(the_cap(), body=Mesh(corners + np.array([x_mm, 60.0, 60.0]), np.array([[0, 2, 1]])))

    around = Around()
    surface = around.surface(at(40.0), bone, 10.0)
    assert around.surface(at(40.0), bone, 10.0) is surface
    assert around.surface(at(60.0), bone, 10.0) is not surface
    surface = around.surface(at(60.0), bone, 10.0)
    assert around.surface(at(60.0), bone, 40.0) is not surface
    surface = around.surface(at(60.0), bone, 40.0)
    assert around.surface(at(60.0), bone.with_data(mask.copy()), 40.0) is not surface


def test_distances_are_asked_of_a_surface():
    with pytest.raises(ValueError, match="there is no surface yet"):
        Around().way(np.zeros(3), np.ones(3))
