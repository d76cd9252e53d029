"""The documentation site: built strictly, every link and anchor in it resolves, and it reads without a network."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import typer

import calvaria
from calvaria.cli.app import app

CHECKOUT = Path(__file__).resolve().parents[1]

LOADED = {("link", "href"), ("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src")}
"""What a browser fetches by itself."""

MAX_IMAGE_BYTES = 150_000
"""Of a picture of the tutorial: the repository stays small."""


class Page(HTMLParser):
    """The anchors of a page, its links, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if (tag, name) in LOADED and value and dict(attrs).get("rel") != "canonical":
                self.loaded.append(value)
            if name in ("href", "src") and value:
                self.links.append(value)


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Run mkdocs as `make docs` does."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(site)]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=CHECKOUT, env=dict(os.environ))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = build(CHECKOUT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_every_page_of_docs_is_on_the_site(site):
    sources = [path.relative_to(CHECKOUT / "docs") for path in (CHECKOUT / "docs").rglob("*.md")]
    assert sources
    assert not [str(path) for path in sources if not (site / path.with_suffix(".html")).exists()]


def test_every_link_and_anchor_of_the_site_resolves(pages):
    lost = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file() or (
                parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids
            ):
                lost.append(f"{path.name}: {link}")
    assert not lost


def test_nothing_is_loaded_from_a_network(site, pages):
    assert not [f"{path.name}: {url}" for path, page in pages.items() for url in page.loaded if urlsplit(url).netloc]
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name


def test_the_reference_has_every_public_name(pages):
    reference = next(page for path, page in pages.items() if path.name == "reference.html")
    names = {f"calvaria.{name}" for name in calvaria.__all__ if not name.startswith("__")}
    assert names <= reference.ids


def test_the_commands_page_has_every_command(pages):
    commands = next(page for path, page in pages.items() if path.name == "commands.html")
    assert {"calvaria-reconstruct", "calvaria-design", "calvaria-dicom-fetch", "calvaria-data-cache"} <= commands.ids


def called() -> list[tuple[str, list[str]]]:
    """Every call of the command line in the documentation: (page, its words)."""
    sources = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
    found = []
    for source in sources:
        text = source.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^ *\$ calvaria (.+)$", text, re.MULTILINE):
            found.append((source.name, shlex.split(line, comments=True)))
    return found


def test_the_documentation_calls_commands_and_options_that_there_are():
    wrong = []
    for page, words in called():
        command, rest = typer.main.get_command(app), words
        while rest and rest[0] in getattr(command, "commands", {}):
            command, rest = command.commands[rest[0]], rest[1:]  # type: ignore[attr-defined]
        known = {"-h", "--help"}.union(*(option.opts + option.secondary_opts for option in command.params))
        options = {word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        if options - known:
            wrong.append(f"{page}: calvaria {' '.join(words)}: {sorted(options - known)}")
    assert len(called()) > 100
    assert not wrong


def test_the_benchmarks_that_reviewers_are_told_of_are_there():
    text = (CHECKOUT / "docs" / "reviewers.md").read_text(encoding="utf-8")
    modules, scripts = re.findall(r"python -m ([\w.]+)", text), re.findall(r"python (benchmarks/\w+\.py)", text)
    assert len(modules) > 5
    assert len(scripts) > 3
    assert not [name for name in modules if importlib.util.find_spec(name) is None]
    assert not [name for name in scripts if not (CHECKOUT / name).is_file()]


def test_the_tutorials_pictures_are_small():
    pictures = list((CHECKOUT / "docs" / "images").glob("tutorial-*"))
    assert pictures
    assert not [path.name for path in pictures if path.stat().st_size > MAX_IMAGE_BYTES]


def test_a_lost_anchor_stops_the_build(tmp_path):
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "mkdocs.yml"):
        shutil.copy(CHECKOUT / name, tmp_path / name)
    shutil.copytree(CHECKOUT / "docs", tmp_path / "docs")
    (tmp_path / "src").symlink_to(CHECKOUT / "src")
    page = tmp_path / "docs" / "how-to" / "metal.md"
    page.write_text(page.read_text(encoding="utf-8") + "\n[lost](../dicom.md#nowhere)\n", encoding="utf-8")
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0
    assert "no such anchor" in done.stderr or "does not contain an anchor" in done.stderr, done.stderr
