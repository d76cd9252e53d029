"""Synthetic defects: shapes drawn as parameters, cut out of complete skulls, their rims aged, written as a data set."""

from calvaria.synthesis.defects.cutting import (
    ALL_KINDS,
    KINDS,
    DefectSpec,
    Spec,
    apply_defect,
    cut_defect,
    defect_area_cm2,
    sample_defect,
)

__all__ = [
    "ALL_KINDS",
    "KINDS",
    "DefectSpec",
    "Spec",
    "apply_defect",
    "cut_defect",
    "defect_area_cm2",
    "sample_defect",
]
