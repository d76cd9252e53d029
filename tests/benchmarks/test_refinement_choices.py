"""What a refinement's evidence is worth, and how choices compare: the tables, from figures that were made up."""

from __future__ import annotations

import numpy as np
import pytest

from calvaria.benchmarks.refinement_choices import CHOICES, KINDS, Tried, Worth, main, tried_lines, worth_lines
from calvaria.refinement.refine import PAPER, Settings

RNG = np.random.default_rng(4)
TRUE = RNG.normal(0, 1, 4000)
OFF = RNG.normal(0, 0.5, 4000)


def columns(line: str) -> list[str]:
    return line.split()


class TestWorth:
    def test_evidence_that_knows_the_truth_explains_all_and_noise_nothing(self):
        noise = TRUE - OFF + RNG.normal(0, 2, 4000)
        lines = worth_lines([Worth(TRUE, TRUE - OFF, TRUE, noise, np.full(4000, np.nan))])
        prior, mirror, evened, rim = (columns(line) for line in lines[1:])
        assert float(prior[-3]) == pytest.approx(0.5, abs=0.02)
        assert mirror[-2:] == ["100.0%", "1.000"]
        assert abs(float(evened[-2].rstrip("%"))) < 1
        assert rim == ["the", "rim", "0"]

    def test_only_nodes_where_it_says_something_count(self):
        half = np.where(np.arange(4000) < 1000, TRUE + 1, np.nan)
        line = worth_lines([Worth(TRUE, TRUE - OFF, half, TRUE, TRUE)])[2]
        assert columns(line)[3:6] == ["1000", "1.00", "1.00"]

    def test_cases_are_taken_together(self):
        parts = [
            Worth(*(values[some] for values in (TRUE, TRUE - OFF, TRUE, TRUE, TRUE)))
            for some in np.split(np.arange(4000), 4)
        ]
        assert worth_lines(parts) == worth_lines([Worth(TRUE, TRUE - OFF, TRUE, TRUE, TRUE)])


class TestChoices:
    def test_the_papers_and_the_defaults_are_among_them(self):
        assert (PAPER, False) in CHOICES.values()
        assert CHOICES["default"] == (Settings(), True)
        assert len({(repr(settings), prior) for settings, prior in CHOICES.values()}) == len(CHOICES)

    def test_the_table_has_the_start_and_every_choice_with_its_worst_change(self):
        before = [{"dsc": dsc, "hd95_mm": 3.0, "border_mm": 2.0} for dsc in (0.5, 0.7)]
        after = [{"dsc": dsc, "hd95_mm": 1.0, "border_mm": 1.0, "seconds": 2.0} for dsc in (0.9, 0.6)]
        rows = [Tried(choice, "runet", b, a) for b, a in zip(before, after, strict=True) for choice in ("one", "two")]
        head, start, one, two = tried_lines(rows)
        assert columns(head)[0] == "runet"
        assert columns(start) == ["as", "it", "is", "2", "0.6000", "3.00", "2.00"]
        assert columns(one) == ["one", "2", "0.7500", "-0.1000", "1.00", "1.00", "2.0"]
        assert columns(two)[1:] == columns(one)[1:]

    def test_an_empty_patch_does_not_make_the_mean_infinite(self):
        figures = {"dsc": 0.0, "hd95_mm": np.inf, "border_mm": np.nan}
        good = {"dsc": 0.8, "hd95_mm": 2.0, "border_mm": 1.0}
        rows = [Tried("one", "s", b, b | {"seconds": 1.0}) for b in (figures, good)]
        assert columns(tried_lines(rows)[1])[-2:] == ["2.00", "1.00"]


def test_a_folder_that_is_not_there_is_one_line(tmp_path, capsys):
    assert main(["--data", str(tmp_path / "none"), "--worth"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert KINDS[0] == "official"
