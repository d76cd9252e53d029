"""A constant's name means one thing in the package, and stands where it is looked for: on top of its module."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import calvaria.reconstruction

MODULES = sorted(Path(calvaria.reconstruction.__file__).parent.rglob("*.py"))


def constants(tree: ast.Module) -> list[tuple[str, int]]:
    """Name and line of every constant of a module."""
    found = []
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
        found += [(name, node.lineno) for name in names if name.isupper() and not name.startswith("_")]
    return found


def test_no_two_modules_define_a_constant_of_the_same_name():
    where = defaultdict(list)
    for path in MODULES:
        for name, _ in constants(ast.parse(path.read_text(encoding="utf-8"))):
            where[name].append(path.name)
    assert len(where) > 50
    assert {name: paths for name, paths in where.items() if len(paths) > 1} == {}


def test_constants_of_numbers_stand_above_functions_and_classes():
    late = []
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        first = min((n.lineno for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)), default=10**6)
        late += [f"{path.name}: {name}" for name, line in constants(tree) if line > first]
    # Tables of functions stand below what they name.
    assert late == ["engines.py: LOADERS", "forms.py: FORMS", "zoo.py: ZOO"]
