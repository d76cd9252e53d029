"""Every metric by name: what it is, its unit, which way is better, where it was defined.

The names are the keys of `measure`, the columns of every table and file, and what `compare` and rankings look up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", "zero"]
"""Which value is good; "zero": the nearer to zero, from either side."""

Scope = Literal["whole", "border", "symmetry"]
"""What a metric covers: all of the patch, where it meets the skull, or the two sides of the head."""


UNDEFINED = "n/a"
"""Stands in tables for the value of a metric that a case has not."""


def shown(value: float, form: str) -> str:
    """A figure as tables show it: formatted, and ``n/a`` for NaN.

    >>> shown(0.5, ".2f"), shown(math.nan, ".2f")
    ('0.50', 'n/a')
    """
    return UNDEFINED if math.isnan(value) else format(value, form)


@dataclass(frozen=True)
class Metric:
    """One metric.

    Args:
        name: key in Python and heading in files; ends in its unit.
        title: heading on a terminal.
        form: format of its values.
        better: which way is better.
        scope: what it covers.
        definition: in one or two sentences, with the choices made where a source leaves some open.
        source: where it was defined.
    """

    name: str
    title: str
    form: str
    better: Better
    scope: Scope
    definition: str
    source: str

    def text(self, value: float, sign: str = "") -> str:
        """A value as tables show it; ``n/a`` where there is none (NaN).

        Args:
            value: in the metric's unit; may be infinite.
            sign: ``+`` to show that of positive values, too.

        >>> METRICS["dsc"].text(0.98765), METRICS["hd95_mm"].text(math.inf), METRICS["border_mm"].text(math.nan)
        ('0.988', 'inf', 'n/a')
        """
        return shown(value, sign + self.form.removeprefix(sign))


CHALLENGE = "AutoImplant 2021, official evaluation code"
NIKOLOV = "Nikolov et al. 2018, arXiv:1809.04430 (surface-distance)"
KODYM = "Kodym et al. 2021, doi:10.1016/j.compbiomed.2021.104766"
MEDPY = "MedPy, medpy.metric.binary"

_ALL = (
    Metric(
        "dsc",
        "DSC",
        ".3f",
        "higher",
        "whole",
        "Dice overlap: 2 |P & T| / (|P| + |T|). 1 when both are empty.",
        CHALLENGE,
    ),
    Metric(
        "bdsc",
        "bDSC",
        ".3f",
        "higher",
        "border",
        "Dice over the voxels whose centre is at most 10 mm from a voxel of the defective skull.",
        CHALLENGE,
    ),
    Metric(
        "hd_mm",
        "HD mm",
        ".2f",
        "lower",
        "whole",
        "Hausdorff distance between surface voxels (those that a 6-neighbour erosion takes away).",
        CHALLENGE,
    ),
    Metric(
        "hd95_mm",
        "HD95 mm",
        ".2f",
        "lower",
        "whole",
        "95th percentile of both directed distance sets between surface voxels, pooled.",
        CHALLENGE,
    ),
    Metric(
        "hd95_max_mm",
        "HD95 max mm",
        ".2f",
        "lower",
        "whole",
        "The larger of the 95th percentiles of the two directed distance sets between surface voxels.",
        "as MONAI and most others compute it",
    ),
    Metric(
        "hd95_area_mm",
        "HD95 area mm",
        ".2f",
        "lower",
        "whole",
        "The same with surfels, each counting by its area.",
        NIKOLOV,
    ),
    Metric(
        "sdsc_0.5mm",
        "SDSC 0.5",
        ".3f",
        "higher",
        "whole",
        "Share of both surfaces' area within 0.5 mm of the other.",
        NIKOLOV,
    ),
    Metric(
        "sdsc_1mm",
        "SDSC 1",
        ".3f",
        "higher",
        "whole",
        "Share of both surfaces' area within 1 mm of the other.",
        NIKOLOV,
    ),
    Metric(
        "msd_mm",
        "MSD mm",
        ".3f",
        "lower",
        "whole",
        "Mean surface distance: the mean of the two directed means over surfels, each counting by its area.",
        NIKOLOV,
    ),
    Metric(
        "assd_mm",
        "ASSD mm",
        ".3f",
        "lower",
        "whole",
        "Average symmetric surface distance: the mean of the two directed means over surface voxels.",
        MEDPY,
    ),
    Metric(
        "volume_error_percent",
        "volume error %",
        "+.1f",
        "zero",
        "whole",
        "Predicted less true volume, in percent of the true one.",
        "-",
    ),
    Metric(
        "outer_mm",
        "outer mm",
        ".3f",
        "lower",
        "whole",
        "Mean distance between the outer surfaces of the two patches, all outer voxels of both pooled. Outer: a face "
        "on air once patch and skull are joined, and the surface blurred by 2 mm faces away from the head centre.",
        KODYM,
    ),
    Metric(
        "border_mm",
        "border mm",
        ".3f",
        "lower",
        "border",
        "Mean distance to the true outer surface from the outer voxels of the prediction that have bone of the skull "
        "among their 26 neighbours. NaN where none has.",
        KODYM,
    ),
    Metric(
        "border_curvature_mse_mm4",
        "border curvature MSE mm^-4",
        ".2e",
        "lower",
        "border",
        "Mean squared difference of the Gaussian curvature (eq. 7-8, blur of 2 mm) over the same voxels, mm^-4, less "
        "those where the gradient of the blur is under a quarter of that at a plane surface; times 0.0256 it is per "
        "voxel^4 at 0.4 mm.",
        KODYM,
    ),
    Metric(
        "gap_mm",
        "gap mm",
        ".3f",
        "lower",
        "border",
        "Mean over the skull's cut face (bone with a face on the true patch) of how much farther the prediction is "
        "than the true patch; 0 for a patch that touches wherever the true one does.",
        "ours",
    ),
    Metric(
        "overlap_ml",
        "overlap ml",
        ".3f",
        "lower",
        "whole",
        "Volume of the prediction that lies in the defective skull.",
        "ours",
    ),
    Metric(
        "asymmetry_mm",
        "asymmetry mm",
        ".3f",
        "lower",
        "symmetry",
        "Mean distance from the prediction's outer voxels, reflected about the mid-sagittal plane, to the outside of "
        "the skull with the prediction in it. Only where a plane is given.",
        "ours, after Wodzinski et al. 2024, arXiv:2411.17342",
    ),
    Metric(
        "asymmetry_excess_mm",
        "asymmetry excess mm",
        "+.3f",
        "zero",
        "symmetry",
        "The same less that of the true patch: no head is quite symmetric.",
        "ours",
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""All metrics in the order in which tables show them."""

__all__ = ["METRICS", "UNDEFINED", "Better", "Metric", "Scope", "shown"]
