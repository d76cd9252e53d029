"""The report of a design: whole, offline, readable without a mouse, and what it says is what was found."""

import dataclasses
import json
import re
import shutil
import subprocess
from functools import lru_cache
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.implant.shapes import cap
from tests.report.test_design_picture import light, mapped, two_sided

from calvaria.errors import InputError
from calvaria.implant.parts import Check
from calvaria.implant.settings import ImplantSettings
from calvaria.report import design_page

MAX_BYTES = 6_000_000
"""What can be sent by mail everywhere."""

PICTURE = Image.new("RGB", (300, 200), (30, 40, 50))

CHECKS = (
    Check("watertight", True, "", "yes", "pass", "what a solid is", "implant"),
    Check("outer step at the rim", 0.41234, "mm", "at most 0.3", "fail", "ours", "implant"),
    Check("clearance, smallest", None, "mm", "at least 0.5", "warn", "ours", "implant"),
    Check("outer area", 47.1, "cm2", "", "pass", "measured", "implant"),
    Check("mass in PEEK", 24.0, "g", "", "pass", "handbook", "implant"),
)


class Page(HTMLParser):
    """Tags with their attributes, and the text of each table row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.unlabelled: list[dict[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "input" and "label" not in self.inside:
            self.unlabelled.append(dict(attrs))
        if tag not in ("meta", "img", "input"):
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "script" in self.inside or "style" in self.inside:
            return
        self.text += data
        if self.rows and ("td" in self.inside or "th" in self.inside):
            self.rows[-1][-1] += data


@lru_cache
def html() -> str:
    return design_page(dataclasses.replace(mapped(), checks=CHECKS), {}, PICTURE)


def row(page: Page, first: str) -> list[str]:
    return next(one for one in page.rows if one and one[0] == first)


def test_the_page_fetches_nothing():
    page = Page(html())
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith("data:"), (tag, name)
        assert tag not in ("link", "iframe", "object", "embed", "base")
    assert not re.search(r"url\(|@import|https?://", html())
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_the_viewer_asks_no_server():
    script = files("calvaria.report").joinpath("viewer.js").read_text(encoding="utf-8")
    assert not re.search(r"fetch\(|XMLHttpRequest|WebSocket|import\(|https?:|sendBeacon|\.src\b", script)


def test_the_page_says_what_was_found_with_words_and_colours():
    page = Page(html())
    assert page.text.count("Research software, not a medical device.") == 2
    assert "FAIL: outer step at the rim. Do not make it as it is." in page.text
    assert row(page, "outer step at the rim") == [
        "outer step at the rim",
        "FAIL",
        "0.4123 mm",
        "at most 0.3 mm",
        "ours",
    ]
    assert row(page, "watertight")[1:4] == ["pass", "yes", "yes"]
    assert row(page, "clearance, smallest")[1:3] == ["warning", "not measured"]
    assert row(page, "outer area")[2] == "47.1 cm²"
    for verdict in ("pass", "warn", "fail"):
        assert f'<td class="mark {verdict}">' in html()
        assert f".{verdict} {{ color: #" in html()


def test_key_figures_are_those_of_the_checks_or_of_the_mesh():
    text = Page(html()).text
    assert "outer area47.1 cm²" in text
    assert "mass in PEEK24 g" in text
    assert "mass in PMMA" not in text
    assert "thickness3.00 to 5.00 mm" in text
    unchecked = Page(design_page(light(), {}, None)).text
    volume = light().parts[0].mesh.volume_ml
    assert f"volume{volume:.1f} ml" in unchecked
    assert f"mass in Ti-6Al-4V{volume * 4.43:.1f} g" in unchecked
    assert "WARNING: nothing was checked." in unchecked


def test_the_record_counts_before_the_design():
    checks = [dataclasses.asdict(dataclasses.replace(one, verdict="pass")) for one in CHECKS]
    record = {
        "checks": checks,
        "parameters": {"clearance_mm": 0.9, "unheard_of": 3},
        "confidence": {"expected_dsc": 0.91, "reason": "like those it was measured on"},
        "files": {"implant.stl": "world LPS mm", "design.json": ""},
        "insertion": {"travel_mm": 41.0},
        "notes": ["The rim was relieved at the back."],
        "seconds": {"outer_surface": 1.25},
    }
    page = Page(design_page(dataclasses.replace(mapped(), checks=CHECKS, notes=("not this",)), record, None))
    assert "PASS: all 5 checks." in page.text
    assert row(page, "clearance_mm")[:4] == ["clearance_mm", "0.9 mm", "default 0.7", "0.2 to 4"]
    assert row(page, "unheard_of")[1].strip() == "3"
    assert row(page, "expected dsc")[1] == "0.91"
    insertion = next(one for one in page.rows if one[0] == "implant" and "direction (LPS)" not in one)
    assert insertion[1:4] == ["-1.000, +0.000, +0.000", "to the right", "41 mm"]
    for text in ("implant.stl: world LPS mm", "The rim was relieved at the back.", "outer surface 1.25 s"):
        assert text in page.text
    assert "not this" not in page.text


def test_a_confidence_may_be_a_sentence():
    assert "<p>far from &lt;what&gt; was seen</p>" in design_page(
        light(), {"confidence": "far from <what> was seen"}, None
    )


def test_all_parameters_stand_there_with_their_range_and_reason():
    page = Page(html())
    for name in ImplantSettings().to_json():
        assert row(page, name)[-1]
    assert row(page, "max_triangles")[3] == "2000 to 2000000"
    assert row(page, "thickness_mm")[-1].startswith("510(k) K250334")


def test_what_others_wrote_is_escaped():
    evil = "</script><img src=x onerror=alert(1)>"
    design = mapped()
    design = dataclasses.replace(
        design,
        parts=(dataclasses.replace(design.parts[0], name=evil),),
        settings=ImplantSettings(mark="<b>&amp;</b>"),
        checks=(Check(evil, evil, evil, evil, "fail", evil, evil),),
    )
    made = design_page(
        design, {"files": [evil], "notes": [evil], "confidence": {evil: evil}, "seconds": {evil: 1}}, None
    )
    assert "<img" not in made
    assert made.count("</script>") == 2
    assert row(Page(made), "mark")[1].strip() == "<b>&amp;</b>"


def test_the_data_cannot_end_their_element_early():
    data = re.search(r'id="design-data">(.*?)</script>', html(), re.DOTALL)
    assert data is not None
    assert "<" not in data[1]
    assert len(json.loads(data[1])["meshes"]) == 2


def test_everything_has_a_name_for_those_who_do_not_see_it():
    page = Page(html())
    assert page.unlabelled == []
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    canvas = next(attributes for tag, attributes in page.tags if tag == "canvas")
    assert canvas["tabindex"] == "0"
    assert "Arrow keys" in str(canvas["aria-label"])
    assert next(attributes for tag, attributes in page.tags if tag == "html")["lang"] == "en"
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_on_paper_the_picture_stands_for_the_figure():
    assert 'src="data:image/jpeg;base64,' in html()
    printed = html()[html().index("@media print") :]
    assert "#viewer, .screen { display: none }" in printed
    assert "break-inside: avoid" in printed
    assert "<figure>" not in design_page(light(), {}, None)


def test_each_implant_can_be_hidden():
    page = Page(design_page(two_sided(), {}, None))
    boxes = [a["id"] for t, a in page.tags if t == "input" and a.get("type") == "checkbox"]
    assert boxes == ["layer-bone", "layer-part-0", "layer-part-1"]
    assert not [a for t, a in page.tags if a.get("name") == "map" and a["value"] != "own"]  # it has no maps
    assert "Design of 2 implants" in page.text


def test_the_file_can_be_sent():
    design = dataclasses.replace(mapped(), host=cap().host)
    assert len(design.host.faces) > 400_000
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (980, 1524, 3), np.uint8), "RGB").convert("L")
    assert len(design_page(design, {}, noise)) < MAX_BYTES


def test_a_design_without_implants_is_refused():
    with pytest.raises(InputError, match="there is no implant in this design: there is nothing to report"):
        design_page(dataclasses.replace(light(), parts=()), {}, None)


NODE = shutil.which("node")

STUB = """
const fs = require("fs");
const page = fs.readFileSync(process.argv[2], "utf8");
const text = /id="design-data">(.*?)<\\/script>/s.exec(page)[1];
const drawn = [], listeners = {};
const gl = new Proxy({}, { get: (_, name) => {
  if (name === "getShaderParameter" || name === "getProgramParameter") return () => true;
  if (name === "getAttribLocation") return () => 0;
  if (name === "drawElements") return (kind, size) => drawn.push(size);
  if (/^[A-Z_0-9]+$/.test(String(name))) return String(name);
  return () => ({});
} });
const made = {};
function element(id) {
  return made[id] = made[id] || { id, style: {}, hidden: true, checked: true, value: "0", textContent: "",
    clientWidth: 800, clientHeight: 600, classList: { add: () => { throw new Error("switched off"); } },
    getContext: kind => kind === "webgl2" ? gl : null, setPointerCapture: () => {},
    addEventListener: (name, act) => { listeners[id + ":" + name] = act; },
    dispatchEvent: event => listeners[id + ":" + event.type](event),
    querySelectorAll: what => what.includes("checkbox") ? [element("layer-bone")] :
      what.includes("name=map") ? [element("map-own"), element("map-thickness")] :
      [element("bar-thickness"), element("bar-clearance")] };
}
global.document = { getElementById: id => id === "design-data" ? { textContent: text } : element(id) };
global.window = { requestAnimationFrame: act => act(), addEventListener: () => {}, devicePixelRatio: 2 };
global.WebGL2RenderingContext = Object;
global.Event = class { constructor(type) { this.type = type; } };
require(process.argv[3]);
const press = key => listeners["viewer-canvas:keydown"]({ key, preventDefault: () => {} });
const first = drawn.length, sides = ["left", "right", "top", "bottom"].map(s => made["side-" + s].textContent);
element("map-thickness").value = "thickness";
listeners["map-thickness:change"]();
press("ArrowLeft"); press("ArrowUp"); press("+"); press("-"); press("Home");
element("exploded").value = "25";
listeners["exploded:input"]();
drawn.length = 0;
element("layer-bone").checked = false;
listeners["layer-bone:change"]();
listeners["viewer-canvas:pointerdown"]({ pointerId: 1, clientX: 0, clientY: 0 });
listeners["viewer-canvas:pointermove"]({ pointerId: 1, clientX: 196, clientY: 0, buttons: 1 });
console.log(JSON.stringify({ first, hidden: drawn[0], sides, bar: made["bar-thickness"].hidden,
  exploded: made["exploded-mm"].textContent, ruler: made["ruler-mm"].textContent,
  turned: ["left", "right"].map(s => made["side-" + s].textContent) }));
"""


@pytest.mark.skipif(NODE is None, reason="node is not installed: the viewer's script is not run")
def test_the_viewer_runs(tmp_path: Path):
    script = Path(str(files("calvaria.report").joinpath("viewer.js")))
    subprocess.run([str(NODE), "--check", str(script)], check=True, capture_output=True)
    page, stub = tmp_path / "report.html", tmp_path / "stub.js"
    page.write_text(html(), encoding="utf-8")
    stub.write_text(STUB, encoding="utf-8")
    done = subprocess.run([str(NODE), str(stub), str(page), str(script)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["first"] == 2  # bone and implant
    assert found["hidden"] < 3 * 70_000 + 1
    assert found["sides"] == ["A", "P", "S", "I"]  # the implant is at the left of the head
    assert found["turned"] == ["R", "L"]  # dragged to the right by a quarter turn: seen from the front
    assert found["bar"] is False
    assert found["exploded"] == "25 mm"
    assert found["ruler"].endswith(" mm")
