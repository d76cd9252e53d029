"""Simulated clinical cases: what their implants are made like.

No clinical set is public, so cases of the same form are made (Kodym, Spanel, Herout 2021: implants of constant
thickness with clearance along the rim): a large one-sided defect in a real skull, and an implant designed for it by
:mod:`calvaria.implant`. What differs from real cases is said in the folder that is written.
"""

from __future__ import annotations

import numpy as np

from calvaria.implant.design import ImplantSpec

THICKNESS_MM = (3.0, 5.0)
"""Constant thickness is drawn from here: cleared implants have 3 to 6 mm, typically 4 (K231834, K250334)."""

CLEARANCE_MM = (0.5, 1.5)
"""Gap to the bone at the outer surface, drawn from here: no figure is published, common practice is 0.3 to 1 mm and
more towards soft tissue."""

BEVEL = (0.0, 0.4)
"""The gap widens by this many mm per mm of depth: an angle of 0 to 22 degrees, so that the rim rests on no undercut
(Ridwan-Pramana 2016)."""


def sample_implant(rng: np.random.Generator) -> ImplantSpec:
    """Draw how an implant is made: thickness, clearance and bevel, evenly from their ranges."""
    thickness, clearance, bevel = (round(float(rng.uniform(*law)), 2) for law in (THICKNESS_MM, CLEARANCE_MM, BEVEL))
    return ImplantSpec(thickness, clearance, bevel)


__all__ = ["sample_implant"]
