"""The one rule of soundness, by figures alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from calvaria.skull.canonical import LANDMARK_MM
from calvaria.synthesis.defects.soundness import Figures, in_place, is_sound, right_size
from calvaria.synthesis.defects.specs import ALL_KINDS

FINE = Figures(volume_ml=50.0, piece_share=1.0, part_ml=50.0, stray_ml=0.0)


@dataclass
class Told:
    """A patch whose measures are said; None: nobody may ask."""

    left: float | None = None
    lowest: float | None = None
    area: float | None = None

    def left_share(self) -> float:
        return self._said(self.left)

    def lowest_mm(self) -> float:
        return self._said(self.lowest)

    def area_cm2(self) -> float:
        return self._said(self.area)

    @staticmethod
    def _said(value: float | None) -> float:
        if value is None:
            pytest.fail("a measure was asked for that its kind is not judged by")
        return value


GOOD = {
    "bilateral": Told(left=0.5),
    "frontoorbital": Told(lowest=LANDMARK_MM),
    "hemicraniectomy": Told(area=120.0),
    "bifrontal": Told(area=120.0, left=0.5),
}


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, True),
        ({"piece_share": 0.85}, True),
        ({"piece_share": 0.84}, False),
        ({"part_ml": 2.0}, True),
        ({"part_ml": 1.9}, False),
        ({"stray_ml": 3.1}, False),
        ({"volume_ml": 3.9}, False),
        ({"volume_ml": 151.0}, False),
    ],
)
def test_every_kind_is_judged_by_its_figures(kind: str, change: dict[str, float], verdict: bool) -> None:
    assert is_sound(kind, replace(FINE, **change), GOOD.get(kind, Told())) is verdict


@pytest.mark.parametrize(
    ("kind", "patch", "verdict"),
    [
        ("hemicraniectomy", Told(area=94.9), False),
        ("hemicraniectomy", Told(area=95.0), True),
        ("hemicraniectomy", Told(area=155.0), True),
        ("hemicraniectomy", Told(area=155.1), False),
        ("bifrontal", Told(area=79.9, left=0.5), False),
        ("bifrontal", Told(area=80.0, left=0.5), True),
        ("bifrontal", Told(area=160.0, left=0.5), True),
        ("bifrontal", Told(area=160.1, left=0.5), False),
        ("bifrontal", Told(area=120.0, left=0.19), False),
        ("bifrontal", Told(area=120.0, left=0.81), False),
        ("bilateral", Told(left=0.19), False),
        ("bilateral", Told(left=0.2), True),
        ("bilateral", Told(left=0.81), False),
        ("frontoorbital", Told(lowest=LANDMARK_MM - 6.0), True),
        ("frontoorbital", Told(lowest=LANDMARK_MM - 6.1), False),
        ("craniotomy", Told(), True),
    ],
)
def test_where_a_kind_belongs(kind: str, patch: Told, verdict: bool) -> None:
    assert in_place(kind, patch) is verdict
    assert is_sound(kind, FINE, patch) is verdict


def test_nothing_is_measured_of_a_patch_whose_figures_are_wrong() -> None:
    assert not is_sound("hemicraniectomy", replace(FINE, volume_ml=10.0), Told())


def test_sizes_of_kinds_and_their_slack() -> None:
    assert right_size("random_1", 15.0)
    assert not right_size("random_1", 14.9)
    assert right_size("random_1", 13.6, slack=0.1)
    assert not right_size("random_1", 13.4, slack=0.1)
    assert right_size("craniotomy", 4.0)
    assert right_size("hemicraniectomy", 150.0)
    assert not right_size("hemicraniectomy", 151.0)
    assert right_size("hemicraniectomy", 164.0, slack=0.1)
