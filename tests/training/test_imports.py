"""Modules of the training import each other in one direction, at their top."""

from __future__ import annotations

import ast
from pathlib import Path

import grimp
import pytest

import calvaria.training

MODULES = sorted(Path(calvaria.training.__file__).parent.rglob("*.py"))


def test_no_module_imports_itself_through_others():
    graph = grimp.build_graph("calvaria", exclude_type_checking_imports=False, cache_dir=None)
    names = {name for name in graph.modules if name.startswith("calvaria.training.")}
    assert names
    for name in names:
        for imported in graph.find_modules_directly_imported_by(name) & names:
            assert not graph.chain_exists(imported, name), f"{name} imports {imported}, which leads back to it"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_function_imports_another_part_of_the_training(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node) for function in ast.walk(tree) if isinstance(function, ast.FunctionDef) for node in ast.walk(function)
    }
    hidden = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and id(node) in inside]
    assert not [name for name in hidden if name and name.startswith("calvaria.training")]
