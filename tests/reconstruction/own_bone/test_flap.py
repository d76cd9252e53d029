"""The removed piece: found in any pose, refused where it does not belong."""

from __future__ import annotations

import numpy as np
import pytest
from tests.heads import BACK, Head, dice, rigid, scan, truth_of
from tests.reconstruction.own_bone.parts import STEP, defective, done, piece, surface, truth

from calvaria.errors import InputError
from calvaria.reconstruction.box import AIR_MM
from calvaria.reconstruction.own_bone.fill import fill
from calvaria.reconstruction.own_bone.flap import lay_flap
from calvaria.reconstruction.own_bone.piece import piece_of
from calvaria.reconstruction.protocol import SoftField


def test_a_piece_in_any_pose_is_put_back_and_its_kerf_closed():
    pose = rigid((170, 20, -60), (50, 80, -20))
    own, fit = lay_flap(piece_of(piece(2.0, pose)), done(), surface())
    middle = truth().grid.to_world(np.argwhere(truth().mask)).mean(axis=0)
    back = own.to_skull @ pose
    assert np.linalg.norm(back[:3, :3] @ middle + back[:3, 3] - middle) < 0.7
    assert np.degrees(np.arccos(min(1.0, (np.trace(back[:3, :3]) - 1) / 2))) < 2.5
    assert 1.0 < fit.kerf_mm < 2.4  # a voxel of 1.6 mm was taken off
    assert fit.in_bone < 0.02
    found = fill(own, done(), surface(), defective(), 5.0)
    assert dice(found.patch, truth()) > 0.93
    assert not (found.patch.mask & defective().mask).any()
    assert 0.5 < found.share < 1.0


def test_a_piece_from_elsewhere_or_too_large_is_refused_with_figures():
    other = Head(27, (BACK,))
    there = scan(other, None, STEP)
    alien = truth_of(other, there)
    with pytest.raises(InputError, match=r"does not fit into the hole \(\d+ ml\): at best \d+% of the rim .* in bone"):
        lay_flap(piece_of(alien), done(), surface())


def test_without_a_hole_there_is_nothing_to_put_it_into():
    nothing = np.zeros(done().soft.region.shape, bool)
    whole = done()._replace(soft=SoftField(np.full(nothing.shape, AIR_MM, np.float32), nothing, 0.0))
    with pytest.raises(InputError, match="no hole was found in the skull"):
        lay_flap(piece_of(truth()), whole, surface())
