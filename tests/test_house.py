"""What holds for the package as a whole: quick and quiet to import, a public surface, layers that are kept."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

import calvaria
from calvaria import errors

CHECKOUT = Path(__file__).resolve().parents[1]

IMPORT_LIMIT_S = 0.3
"""How long `import calvaria` may take, above the bare interpreter."""

HEAVY = ("torch", "vtk", "pyvista", "openvino", "scipy", "skimage", "trimesh", "nibabel", "PIL", "matplotlib", "numpy")
"""None of these may be loaded before there is work for it."""


def python(code: str) -> str:
    """What a fresh interpreter prints; warnings are errors there too."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True)
    return done.stdout


def test_the_import_is_quick():
    timed = "import time; t = time.process_time(); import calvaria; print(time.process_time() - t)"
    assert min(float(python(timed)) for _ in range(3)) < IMPORT_LIMIT_S


IMPORT = "import calvaria"
HELP = "from calvaria.cli import main; main(['reconstruct', '--help'])"


@pytest.mark.parametrize("code", [IMPORT, HELP], ids=["import", "help"])
def test_nothing_heavy_is_loaded_before_there_is_work(code):
    loaded = python(f"{code}\nimport json, sys; print(); print(json.dumps(sorted(sys.modules)))").splitlines()[-1]
    assert not set(json.loads(loaded)) & set(HEAVY)


def test_importing_every_module_asks_no_server():
    code = """
import importlib, pkgutil, socket
def refuse(*args, **kwargs):
    raise SystemExit(f"looked up {args}")
socket.getaddrinfo = refuse
import calvaria
for module in pkgutil.walk_packages(calvaria.__path__, "calvaria."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("done")
"""
    assert python(code) == "done\n"


def test_the_public_names_are_listed_sorted_and_there():
    names = calvaria.__all__
    assert names == sorted(names, key=str)
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(calvaria, name) is not None
        assert name in dir(calvaria)


def test_every_error_is_public():
    assert set(errors.__all__) <= set(calvaria.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'calvaria' has no attribute 'skul'"):
        calvaria.skul  # noqa: B018 - the access is what is tested


def test_types_see_the_same_names_as_the_program():
    source = ast.parse(Path(calvaria.__file__).read_text(encoding="utf-8"))
    block = next(node for node in source.body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == calvaria._HOMES


def modules() -> list[str]:
    found = pkgutil.walk_packages(calvaria.__path__, "calvaria.")
    return sorted(module.name for module in found if not module.name.endswith("__main__"))


@pytest.mark.parametrize("name", modules())
def test_what_a_module_exports_is_there_and_described(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    for exported in getattr(module, "__all__", []):
        thing = getattr(module, exported)
        if inspect.isroutine(thing) or inspect.isclass(thing):
            assert thing.__doc__, f"{name}.{exported} has no docstring"


def layer_table() -> dict[str, set[str]]:
    """The table of docs/architecture.md: part -> the parts it may import, those of its parts included."""
    text = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)` \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)
    table: dict[str, set[str]] = {}
    for part, allowed in rows:
        if allowed.strip() == "nothing":
            table[part] = set()
        elif allowed.strip() == "all above":
            table[part] = set(table)
        else:
            named = {word.strip() for word in allowed.split(",")}
            table[part] = named.union(*(table[word] for word in named))
    return table


@pytest.fixture(scope="module")
def imports() -> set[tuple[str, str]]:
    """Which part imports which."""
    graph = grimp.build_graph("calvaria", exclude_type_checking_imports=True, cache_dir=None)
    pairs = set()
    for module in graph.modules:
        for other in graph.find_modules_directly_imported_by(module):
            if module.count(".") and other.count("."):
                pairs.add((module.split(".")[1], other.split(".")[1]))
    return {(one, two) for one, two in pairs if one != two}


def test_every_part_imports_only_what_its_row_allows(imports):
    table = layer_table()
    assert {one for pair in imports for one in pair} <= set(table), "a part is missing in docs/architecture.md"
    assert not {(one, two) for one, two in imports if two not in table[one]}


def test_the_table_names_the_parts_that_exist():
    parts = {module.name for module in pkgutil.iter_modules(calvaria.__path__)}
    assert parts == set(layer_table())


def pins(file: str = "constraints.txt") -> dict[str, str]:
    lines = (CHECKOUT / file).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_every_requirement_is_pinned():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    others = [line for line in wanted if not line.startswith("calvaria[")]  # an extra may hold another one
    assert {re.split(r"[><=,\[ ]", line)[0] for line in others} <= set(pins())


def test_the_lowest_versions_tested_are_the_lowest_promised():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = dict(re.match(r"([\w-]+)>=([\d.]+)", line).groups() for line in project["dependencies"])  # type: ignore[union-attr]
    tested = pins("constraints-lowest.txt")
    assert tested.keys() == promised.keys()
    for name, version in tested.items():
        assert (version + ".0.0").startswith(promised[name] + "."), f"{name}: {version} is not {promised[name]}"


def test_this_is_the_version_at_the_head_of_the_changelog():
    text = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", text, re.MULTILINE)[0] == calvaria.__version__
