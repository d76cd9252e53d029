"""The page in a real browser: from a skull to an implant, as somebody who sees it for the first time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from calvaria.io import write_volume
from calvaria.synthesis.sample import sample_case

CHECKOUT = Path(__file__).resolve().parents[2]

PICTURES = CHECKOUT / "build" / "page"
"""Where pictures of the page are kept, to be looked at."""

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]

LONG_MS = 240_000
"""On a machine that is busy with other tests."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a page, and the folder of its cases."""
    folder = tmp_path / "cases"
    command = [sys.executable, "-m", "calvaria.cli", "serve", "--port", "0", "--folder", str(folder)]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    try:
        assert program.stdout is not None
        line = program.stdout.readline()
        assert line.startswith("open http://127.0.0.1:"), line
        yield line.split()[1], folder
    finally:
        program.terminate()
        out, errors = program.communicate(timeout=30)
    assert (program.returncode, out, errors) == (0, "stopped\n", "")
    assert list(folder.iterdir()) == []


@pytest.fixture
def page(served: tuple[str, Path]) -> Iterator[object]:
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        pytest.skip("NO PLAYWRIGHT: pip install playwright, to try the page in a browser")
    if CHROMIUM is None:
        pytest.skip("NO BROWSER: install Debian's chromium (make tools), to try the page in one")
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        found = browser.new_page(viewport={"width": 1400, "height": 1000})
        found.set_default_timeout(LONG_MS)
        found.wrong = []  # type: ignore[attr-defined]
        found.on("console", lambda one: found.wrong.append(one.text) if one.type == "error" else None)  # type: ignore[attr-defined]
        found.on("pageerror", lambda one: found.wrong.append(str(one)))  # type: ignore[attr-defined]
        found.asked = []  # type: ignore[attr-defined]
        found.on("request", lambda one: found.asked.append(one.url))  # type: ignore[attr-defined]
        yield found
        browser.close()


def keep(page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def nameless(page) -> list[str]:
    """Controls that a screen reader has no name for."""
    return page.evaluate(
        """() => [...document.querySelectorAll('button, a, input, select, progress, canvas, img, [role=img]')]
            .filter((one) => one.checkVisibility() || one.type === 'file')
            .filter((one) => !(one.textContent.trim() || one.getAttribute('aria-label') || one.alt
                || [...(one.labels || [])].some((label) => label.textContent.trim())))
            .map((one) => one.outerHTML.slice(0, 100))"""
    )


def focus_by_tab(page, count: int) -> list[str]:
    """What has the focus after each of so many Tabs, and that one sees it."""
    seen = []
    for _ in range(count):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                "() => document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
            )
        )
    return seen


@pytest.mark.timeout(600)
def test_from_a_skull_to_an_implant(served: tuple[str, Path], page, tmp_path: Path):
    address, folder = served
    skull = tmp_path / "doe-john.nrrd"
    write_volume(skull, sample_case(seed=0)[0])

    page.goto(address)
    assert "token" not in page.url
    page.get_by_text("None yet.").wait_for()
    keep(page, "1-new")
    assert focus_by_tab(page, 4) == ["skip", "files", "folder", "SUMMARY"]
    assert nameless(page) == []

    began = time.monotonic()
    page.locator("#files").set_input_files(skull)
    page.get_by_role("progressbar", name="Progress of this case").wait_for()
    page.get_by_role("heading", name="Case 1: doe-john.nrrd").wait_for()
    assert page.locator("#live").get_attribute("aria-live") == "polite"
    page.wait_for_function("() => document.getElementById('live').textContent.startsWith('Case 1:')")
    keep(page, "2-running")
    page.get_by_role("heading", name="Missing bone").wait_for()
    took_s = time.monotonic() - began
    page.get_by_text(re.compile("Expected accuracy: DSC 0.9")).wait_for()
    page.wait_for_function("() => document.querySelectorAll('.stage canvas').length === 2")
    assert not [path for path in folder.rglob("*") if "doe" in path.name], "the file's name stays in the browser"

    # The implant, by the keyboard alone.
    page.get_by_label("Thickness", exact=True).focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text(
        re.compile(r"Designed and checked in [\d.]+ s\. Its files are written when you save them")
    ).wait_for()
    assert page.get_by_label("Thickness", exact=True).get_attribute("aria-valuetext") == "4.1 mm"
    page.get_by_role("cell", name="watertight").wait_for()
    page.get_by_role("cell", name=re.compile("thickness as asked")).wait_for()
    assert page.get_by_role("checkbox", name="Missing bone").is_checked() is False  # it would hide the implant
    lit = (
        "(name) => { const at = document.querySelector(`canvas[aria-label^='${name}']`); return at.width * at.height; }"
    )
    assert page.evaluate(lit, "Slices") > 0 and page.evaluate(lit, "Skull") > 0
    page.wait_for_timeout(2000)
    page.screenshot(path=PICTURES / "3-sliders.png")
    keep(page, "3-implant")
    assert nameless(page) == []

    with page.expect_download() as saving:
        page.get_by_role("link", name="Save all as one zip").click()
    names = set(zipfile.ZipFile(saving.value.path()).namelist())
    assert {
        "patch.nrrd",
        "patch.stl",
        "result.json",
        "implant.stl",
        "implant.3mf",
        "design.json",
        "report.html",
    } <= names

    # Without 3-D: slices as pictures, and the hole pointed at.
    page.get_by_role("button", name="Plain slices").click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.slices img')].filter((one) => one.naturalWidth).length === 3"
    )
    page.get_by_text("Wrong hole, or none found? Point at it").click()
    page.locator(".slices .frame").first.click(position={"x": 40, "y": 30})
    place = [page.get_by_label(f"{axis} of the place, LPS mm").input_value() for axis in "xyz"]
    page.get_by_role("button", name="Fill the hole here").click()
    page.get_by_text(f"fill {', '.join(f'{float(one):g}' for one in place)}").wait_for()
    assert page.get_by_role("button", name="Run again with these").is_enabled()
    keep(page, "4-plain")

    # A scan from before that is none: said, and the way out beside it.
    page.get_by_text("Is there a scan from before, or of the removed piece?").click()
    page.get_by_label("Choose its file").set_input_files(
        {"name": "x.nrrd", "mimeType": "", "buffer": b"NRRD0004\nx\n\n"}
    )
    said = "The scan from before: line 'x' of the NRRD header is not 'field: value'"
    page.get_by_role("alert").get_by_text(said).wait_for()
    page.get_by_role("button", name="Run again without it").wait_for()
    assert nameless(page) == []
    keep(page, "5-own-bone")

    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete this case").click()
    page.get_by_text("None yet.").wait_for()
    assert not list(folder.glob("*/*"))

    assert page.wrong == []
    assert {url.split("/")[2] for url in page.asked if url.startswith("http")} == {address.split("/")[2]}
    sys.stdout.write(f"from the skull to the result in {took_s:.1f} s; pictures in {PICTURES}\n")
