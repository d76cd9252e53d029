"""The head's one centre; the model head's shape is tested with the defects that are placed on it."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import calvaria
from calvaria.skull import head


def test_the_centre_lies_on_the_midline_and_cannot_be_changed() -> None:
    assert head.HEAD_CENTRE_MM[0] == 0
    top = head.on_head(0.0, 90.0) - head.HEAD_CENTRE_MM
    np.testing.assert_allclose(top, [0, 0, head.HEAD_HALF_AXES_MM[2]], atol=1e-9)
    with pytest.raises(ValueError, match="read-only"):
        head.HEAD_CENTRE_MM[2] = 0.0


def test_no_other_module_has_a_centre_of_its_own() -> None:
    """Nobody else spells its numbers out."""
    wanted = head.HEAD_CENTRE_MM.tolist()
    root = Path(calvaria.__path__[0])
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.List | ast.Tuple) and len(node.elts) == 3:
                try:
                    values = ast.literal_eval(node)
                except ValueError:
                    continue
                if list(values) == wanted:
                    found.add(path.relative_to(root).as_posix())
    assert found == {"skull/head.py"}
