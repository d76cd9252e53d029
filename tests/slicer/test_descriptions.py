"""The XML of the modules for 3D Slicer: what its schema and its parser allow, and what calvaria has."""

from __future__ import annotations

import ast
import re
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest
import typer

from calvaria.cli.app import app
from calvaria.implant.settings import ImplantSettings
from calvaria.results.settings import Settings

FOLDER = Path(__file__).resolve().parents[2] / "slicer"
MODULES = {"CalvariaReconstruct": "reconstruct", "CalvariaDesign": "design"}

# What follows is ModuleDescriptionParser/ModuleDescription.xsd of Slicer/SlicerExecutionModel (6cc5271, the newest), a
# table. The schema itself is no valid one: it has an attribute in enumerationType where none may stand. libxml2, with
# this one line left out, agrees with what is said here; enumerations are not used for its sake.
EXECUTABLE = ("category", "title", "description", "version", "documentation-url", "license", "contributor")
"""Each once and in this order, and then one or more groups of parameters."""

PARAMETER = {"name", "flag", "longflag", "description", "label", "default"}
"""In paramType: any of them, in any order."""

INDEXED = {"name", "label", "description", "channel", "index"}
"""In indexedParamType: each once, in any order."""

CONSTRAINTS = ["minimum", "maximum", "step"]
"""In constraintsType, in this order; it is the last of a scalarType."""

SCALARS = {f"{name}{ending}" for name in ("integer", "boolean", "float", "double") for ending in ("", "-vector")}
POINTS = {"point", "pointfile", "point-vector", "region", "region-vector"}
TYPED = {"transform", "image", "geometry", "table", "measurement"}
TEXTS = {"string", "string-vector", "directory"}
"""Slicer's field for a directory can never be empty: a folder that need not be named is a string."""

VARIABLE = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
"""What ModuleDescriptionParser.cxx takes for a name and a long flag: no hyphens."""


def wrong(root: ET.Element) -> list[str]:
    """What the schema does not allow in a description."""
    found = [] if root.tag == "executable" else [f"<{root.tag}> at the top"]
    tags = [one.tag for one in root]
    groups = [one for one in root if one.tag == "parameters"]
    if tags != [*EXECUTABLE, *["parameters"] * len(groups)] or not groups:
        found.append(f"executable: {tags}")
    for group in groups:
        found += [f"parameters: {name}" for name in group.attrib]
        for one in group:
            if one.tag not in {"label", "description"}:
                found += [f"{one.tag} {one.findtext('name')}: {text}" for text in _wrong(one)]
    return found


def _wrong(one: ET.Element) -> list[str]:
    tags = [child.tag for child in one]
    if one.tag in TYPED | {"file"}:
        allowed = {"fileExtensions"} | ({"reference", "type", "hidden"} if one.tag in TYPED else set())
        found = [f"attribute {name}" for name in one.attrib if name not in allowed]
        if Counter(tags) != Counter(INDEXED):
            found.append(f"has {sorted(tags)}")
        if one.findtext("channel") not in {"input", "output"} or not (one.findtext("index") or "").isdigit():
            found.append("channel or index")
        return found
    if one.tag not in SCALARS | POINTS | TEXTS:
        return ["no such tag"]
    found = [f"attribute {name}" for name in one.attrib if name not in {"multiple", "hidden"}]
    if one.tag in SCALARS and tags and tags[-1] == "constraints":
        tags.pop()
        limits = list(one[-1])
        if [limit.tag for limit in limits] != CONSTRAINTS or not all(_is_number(limit.text) for limit in limits):
            found.append("constraints")
    return found + [f"has {tag}" for tag in tags if tag not in PARAMETER]


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def parameters(root: ET.Element) -> list[ET.Element]:
    return [one for one in root.findall("parameters/*") if one.tag not in {"label", "description"}]


@pytest.fixture(params=MODULES)
def module(request):
    return request.param


@pytest.fixture
def root(module):
    return ET.parse(FOLDER / f"{module}.xml").getroot()


def test_the_schema_allows_it(root):
    assert wrong(root) == []


@pytest.mark.parametrize(
    ("path", "change", "said"),
    [
        (".", lambda one: one.remove(one.find("license")), "executable: "),
        (".", lambda one: one.append(ET.Element("index")), "executable: "),
        ("parameters", lambda one: one.set("advanced", "true"), "parameters: advanced"),
        (".//image", lambda one: one.append(ET.Element("longflag")), "image skull: has "),
        (".//image", lambda one: one.remove(one.find("index")), "image skull: has "),
        (".//image", lambda one: one.set("coordinateSystem", "lps"), "image skull: attribute coordinateSystem"),
        (".//image/channel", lambda one: setattr(one, "text", "both"), "image skull: channel or index"),
        (".//double", lambda one: one.append(ET.Element("step")), "double threshold_hu: has "),
        (".//double/constraints", lambda one: one.remove(one.find("step")), "double threshold_hu: constraints"),
        (".//boolean", lambda one: setattr(one, "tag", "yes-or-no"), "yes-or-no refine: no such tag"),
    ],
)
def test_what_the_schema_does_not_allow_is_found(path, change, said):
    root = ET.parse(FOLDER / "CalvariaReconstruct.xml").getroot()
    change(root.find(path))
    assert any(text.startswith(said) for text in wrong(root)), wrong(root)


def test_the_parser_takes_it(module, root):
    assert (FOLDER / f"{module}.xml").read_text(encoding="utf-8").startswith('<?xml version="1.0" encoding="utf-8"?>')
    found = parameters(root)
    names = [one.findtext("name") for one in found]
    assert len(set(names)) == len(names)
    for one in found:
        flag = one.findtext("longflag")
        assert VARIABLE.fullmatch(one.findtext("name"))
        assert (flag is None) != (one.find("index") is None)  # the parser refuses both, Slicer passes none of neither
        assert flag is None or VARIABLE.fullmatch(flag)
        assert all(one.findtext(key) for key in ("label", "description"))
        assert one.find("default") is not None or one.find("index") is not None or one.tag == "point"
    indices = [int(one.findtext("index")) for one in found if one.find("index") is not None]
    assert sorted(indices) == list(range(len(indices)))
    assert all(group.findtext("label") for group in root.iter("parameters"))


def test_slicer_takes_the_scripts_for_command_line_modules_and_nothing_else(module):
    scripts = sorted(path.stem for path in FOLDER.glob("*.py"))
    assert scripts == sorted(MODULES) == sorted(path.stem for path in FOLDER.glob("*.xml"))
    assert (FOLDER / f"{module}.py").read_bytes().startswith(b"#!/usr/bin/env python-real\n")


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.name)
def test_it_runs_on_slicers_python_without_any_package(path):
    """Slicer 5.0 to 5.6 have Python 3.9."""
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert imported <= sys.stdlib_module_names | {"calvaria_slicer"}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    strict = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "strict"]
    assert "from __future__ import annotations" in path.read_text() or path.name == "__init__.py"
    assert "aiter" not in called
    assert strict == []  # of zip: Python 3.10


def test_its_parameters_are_calvarias_with_their_ranges_and_defaults(module, root):
    command = typer.main.get_command(app).commands[MODULES[module]]
    options = {name for one in command.params for name in one.opts}
    fields = ImplantSettings.__dataclass_fields__
    for one in parameters(root):
        name = one.findtext("longflag")
        if name in {None, "folder", "calvaria_command", "bone_thickness"}:
            continue
        assert f"--{name.replace('_', '-')}" in options
        if name in fields:
            wanted, default = fields[name].metadata, one.findtext("default")
            assert str(fields[name].default).lower() == default or float(fields[name].default) == float(default)
            if "low" in wanted:
                limits = [float(one.findtext(f"constraints/{key}")) for key in ("minimum", "maximum")]
                assert limits == [wanted["low"], wanted["high"]]
    assert float(root.findtext(".//double[name='min_hole_ml']/default")) == Settings().min_hole_ml
