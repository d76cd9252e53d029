"""What makes a CT's bone doubtful as a whole: values that were cut, thin bone, a child's head."""

from __future__ import annotations

import numpy as np

from calvaria.skull.foreign.shell import Shell
from calvaria.volume.volume import Volume

CUT_SHARE, USUAL_TOP_HU = 0.02, 3000.0
"""The scan's highest value on more of the bone's voxels than this share: values were cut there. Scanners cut at 3071
and above, which only metal reaches."""

LOW_PEAK_HU = 550.0
"""Of ordinary adult vaults the rays' highest values have a median of 900 to 1500 HU."""

CHILD_RADIUS_MM = 68.0
"""Median distance of the vault from the middle of the braincase; adults have 74 to 86, a child of two 0.88 of that."""


def doubts_of(ct: Volume, bone: Volume, offset_hu: float, shell: Shell | None) -> list[str]:
    """A line for each doubt.

    Args:
        ct: in HU + ``offset_hu``.
        bone: mask on its grid, not empty.
        offset_hu: what has to be taken from the values to have HU.
        shell: the vault; None where there is too little of it.
    """
    lines = []
    top = float(ct.data.max())
    if top - offset_hu < USUAL_TOP_HU:
        at_top = int(np.count_nonzero(ct.data == ct.data.dtype.type(top)))
        share = at_top / max(int(np.count_nonzero(bone.mask)), 1)
        if share > CUT_SHARE:
            lines.append(
                f"the values are cut at {top - offset_hu:.0f} HU ({share:.0%} of the bone has that value): the "
                "bone's edge and metal are less certain; export the CT with its full range"
            )
    if shell is None:
        return lines
    bony = shell.known & shell.counted.any(axis=2)
    if np.count_nonzero(bony) < 1000:
        return lines
    peak = float(np.median(shell.hu[bony].max(axis=1)))
    if peak < LOW_PEAK_HU and top - offset_hu > peak + 100:
        lines.append(
            f"the vault is thin or of low density (highest values of {peak:.0f} HU, adults' 900 to 1500): bone may be "
            "missing where it is thinnest; a lower --threshold-hu takes more"
        )
    radius = float(np.median(shell.surface_mm[bony]))
    if radius < CHILD_RADIUS_MM:
        lines.append(
            f"the vault lies {radius:.0f} mm from its middle, adults' 74 to 86: a child's head is completed by a model "
            "of adult ones, and open sutures or a fontanelle may be taken for holes"
        )
    return lines


__all__ = ["doubts_of"]
