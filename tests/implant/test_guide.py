"""docs/implant.md: its tables say what the parameters and the checks are."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from tests.implant.shapes import cap

from calvaria.cli.implant_options import PANELS
from calvaria.implant.checks import check
from calvaria.implant.settings import ImplantSettings

GUIDE = (Path(__file__).parents[2] / "docs" / "implant.md").read_text(encoding="utf-8")

PARAMETERS = {one.name: one for one in fields(ImplantSettings)}


def section(title: str) -> str:
    """What stands below a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", GUIDE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/implant.md has no section {title}"
    return found[1]


def rows(text: str) -> dict[str, list[str]]:
    """The rows of tables by what stands in their first cell between backquotes."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return {row[0].strip("`"): row[1:] for row in cells if row[0].startswith("`")}


def parameters() -> str:
    """From the section on parameters to the next of its rank."""
    return GUIDE.split("\n## Parameters\n")[1].split("\n## ")[0]


@pytest.mark.parametrize(("panel", "names"), PANELS.items(), ids=list(PANELS))
def test_the_parameters_are_grouped_as_in_the_help(panel, names):
    table = parameters().split(f"\n### {panel}\n")[1].split("\n### ")[0]
    assert tuple(rows(table)) == names


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_has_its_range_and_default(name):
    one = PARAMETERS[name]
    span, default = rows(parameters())[name][:2]
    if "low" in one.metadata:
        low, high = (f"{one.metadata[end]:.15g}" for end in ("low", "high"))
        assert span == f"{low} to {high} {one.metadata['unit']}".strip()
        assert float(default) == one.default
    elif isinstance(one.default, bool):
        assert (span, default) == ("yes, no", "yes" if one.default else "no")
    else:
        choices = ", ".join(get_args(get_type_hints(ImplantSettings)[name])) or "text"
        assert (span, default) == (choices, one.default or "none")


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_has_its_source(name):
    source = PARAMETERS[name].metadata["source"]
    said = rows(parameters())[name][-1]
    words = re.findall(r"K\d{6}|our choice|Nout and Mommaerts 2018|Ridwan-Pramana et al. 2016", source)
    assert words
    assert all(word in said for word in words)


def test_every_check_stands_in_the_table():
    table = section("Checks")
    said = set(re.findall(r"`([^`]+)`", table))
    assert {one.name for one in check(cap()).checks} <= said
    assert "overlap with other implants" in said
