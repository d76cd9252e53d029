"""A design as one HTML page: what was made, how it was checked, and a figure that the reader turns, offline."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from calvaria import __version__
from calvaria.errors import InputError
from calvaria.report.design_mesh import viewer_data
from calvaria.report.design_scene import Scale, clearance_scale, part_colour, thickness_scale
from calvaria.report.page import STYLE
from calvaria.types import F64

if TYPE_CHECKING:
    from PIL.Image import Image

    from calvaria.implant.parts import Design

WARNING = "Research software, not a medical device."

WORDS = {"pass": "pass", "warn": "warning", "fail": "FAIL"}

DENSITIES_G_PER_ML = {"PEEK": 1.30, "PMMA": 1.18, "PEKK": 1.28, "Ti-6Al-4V": 4.43}
"""For the key figures of a design without checks: handbook values; PEKK: 510(k) K121818, 1.25 to 1.31."""

KEY_FIGURES = ("area", "volume", "length", "thickness", "clearance", "mass")
"""Checks whose names begin or end with one of these words are key figures."""

QUALITY = 90
"""Of the picture, a JPEG: the file can then be sent by mail."""

PAGE_STYLE = """
.warning { border-left: 4px solid #b3261e; background: #fdf1f0; padding: .5em .9em; font-weight: 600 }
.verdict { border-left: 4px solid; padding: .5em .9em; font-size: 1.05em }
.pass { color: #1c6b33 } .warn { color: #8a5a00 } .fail { color: #b3261e }
.verdict.pass { background: #eff8f1 } .verdict.warn { background: #fff7e6 } .verdict.fail { background: #fdf1f0 }
td.mark { font-weight: 600; text-align: left; white-space: nowrap }
td.mark::before { content: ""; display: inline-block; width: .7em; height: .7em; margin-right: .45em;
  border-radius: 50%; background: currentColor; print-color-adjust: exact; -webkit-print-color-adjust: exact }
td.words { max-width: 30em } th.words { text-align: left } th { border-bottom: 2px solid #c9cdd4 }
caption { text-align: left; font-weight: 600; padding: .6em 0 .2em }
dl.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(11em, 1fr)); gap: .6em; margin: 1em 0 }
dl.figures div { border: 1px solid #e2e5ea; border-radius: 6px; padding: .5em .8em }
dl.figures dt { font-size: 12px; color: #555c66 } dl.figures dd { margin: 0; font-size: 1.15em; font-weight: 600 }
#viewer { border-radius: 8px; overflow: hidden; background: #16181d; color: #e8eaee }
#viewer .stage { position: relative; height: min(70vh, 640px) }
#viewer canvas { display: block; width: 100%; height: 100%; touch-action: none; cursor: grab }
#viewer canvas:focus-visible { outline: 2px solid #48a0d6; outline-offset: -2px }
#viewer .side { position: absolute; color: #969ca6; pointer-events: none }
#side-left { left: 10px; top: 48% } #side-right { right: 10px; top: 48% }
#side-top { top: 6px; left: 50% } #side-bottom { bottom: 6px; left: 50% }
#viewer .ruler { position: absolute; left: 16px; bottom: 14px; font-size: 13px; pointer-events: none }
#ruler { border: 2px solid #e8eaee; border-top: 0; height: 5px; margin-top: 3px }
#viewer .bar { position: absolute; right: 16px; top: 16px; font-size: 12px; pointer-events: none }
#viewer .bar[hidden] { display: none }
.bar .scale { position: relative; width: 16px; height: 200px; margin: 6px 64px 0 0 }
.bar .scale span { position: absolute; left: 22px; transform: translateY(50%); white-space: nowrap }
#viewer .controls { display: flex; flex-wrap: wrap; gap: .5em 1.5em; align-items: center; padding: .7em 1em;
  font-size: 14px; background: #20232a }
#viewer fieldset { border: 0; padding: 0; margin: 0; display: flex; flex-wrap: wrap; gap: .3em .9em }
#viewer legend { float: left; color: #969ca6; margin-right: .7em }
#viewer label { white-space: nowrap } #viewer .dot { display: inline-block; width: .8em; height: .8em;
  border-radius: 3px; margin-right: .3em }
#viewer button { font: inherit; color: inherit; background: #343842; border: 1px solid #4b505c; border-radius: 5px;
  padding: .2em .9em; cursor: pointer }
#viewer .help { font-size: 12px; color: #969ca6; padding: 0 1em .7em; margin: 0; background: #20232a }
#viewer.off .stage, #viewer.off .controls, #viewer.off .help { display: none }
#viewer-off { padding: .6em 1em } #viewer:not(.off) #viewer-off { display: none }
.scroll { overflow-x: auto }
@media print {
  body { margin: 0; max-width: none; font-size: 11px } table { font-size: 10px; width: 100% }
  #viewer, .screen { display: none } .scroll { overflow: visible }
  tr, figure, dl.figures div, .verdict, .warning { break-inside: avoid } thead { display: table-header-group }
  h2, caption { break-after: avoid }
  .warning, .verdict { print-color-adjust: exact; -webkit-print-color-adjust: exact }
  @page { margin: 14mm }
}
"""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""The browser itself refuses whatever would come from elsewhere."""


def design_page(design: Design, record: Mapping[str, Any], picture: Image | None) -> str:
    """The page of a design.

    Args:
        design: what was made, with at least one implant.
        record: what ``design.json`` holds: ``parameters``, ``checks``, ``confidence``, ``files``, ``insertion``,
            ``notes`` and ``seconds``; what it lacks is taken from the design, or left out.
        picture: from `calvaria.report.render_design`, for paper and for browsers without WebGL; None: no picture.

    Returns:
        HTML without anything from elsewhere.

    Raises:
        InputError: there is no implant in the design.
    """
    if not design.parts:
        raise InputError("there is no implant in this design: there is nothing to report")
    checks = _checks(design, record)
    count = len(design.parts)
    title = "Design of an implant" if count == 1 else f"Design of {count} implants"
    parts = [
        f"<h1>{title}</h1>",
        f'<p class="warning">{WARNING} Nothing here replaces the judgement of those who make the implant and put it '
        "in.</p>",
        _verdict(checks),
        _key_figures(design, checks),
        "<h2 class=screen>The figure</h2>",
        _viewer(design),
        _figure(picture),
        _insertion(design, record),
        _checks_table(checks),
        _confidence(record),
        _notes(record.get("notes", design.notes)),
        _parameters(design, record),
        _files(record.get("files")),
        _seconds(record.get("seconds", design.seconds)),
        f"<p>calvaria {escape(__version__)}. {WARNING}</p>",
    ]
    script = files("calvaria.report").joinpath("viewer.js").read_text(encoding="utf-8")
    head = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>calvaria: {title.lower()}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}{PAGE_STYLE}</style>'
    )
    # "<" cannot end the element early: neither JSON nor base64 needs it.
    data = viewer_data(design).replace("<", "\\u003c")
    data = f'<script type="application/json" id="design-data">{data}</script>'
    return "\n".join([head, "<main>", *filter(None, parts), "</main>", data, f"<script>{script}</script></html>\n"])


def _checks(design: Design, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = record.get("checks")
    if found is None:
        found = [dataclasses.asdict(check) for check in design.checks]
    return [dict(check) for check in found]


def _verdict(checks: Sequence[Mapping[str, Any]]) -> str:
    if not checks:
        return '<p class="verdict warn">WARNING: nothing was checked.</p>'
    names = {v: list(dict.fromkeys(str(c.get("name")) for c in checks if c.get("verdict") == v)) for v in WORDS}
    if names["fail"]:
        text = f"FAIL: {', '.join(names['fail'])}. Do not make it as it is."
        return f'<p class="verdict fail">{escape(text)}</p>'
    if names["warn"]:
        return f'<p class="verdict warn">{escape("WARNING, to be looked at: " + ", ".join(names["warn"]))}.</p>'
    return f'<p class="verdict pass">PASS: all {len(checks)} checks.</p>'


def _key_figures(design: Design, checks: Sequence[Mapping[str, Any]]) -> str:
    shown = []
    for number, part in enumerate(design.parts):
        own = [c for c in checks if c.get("part", "") in (part.name, "") and _is_key(str(c.get("name", "")))]
        figures = [(str(c["name"]), f"{_text(c.get('value'))} {c.get('unit', '')}") for c in own]
        named = {word for name, _ in figures for word in name.replace(",", "").split()}
        volume = part.mesh.volume_ml
        if "volume" not in named:
            figures.append(("volume", f"{volume:.1f} ml"))
        if "mass" not in named:
            figures += [(f"mass in {name}", f"{volume * rho:.1f} g") for name, rho in DENSITIES_G_PER_ML.items()]
        if "thickness" not in named and len(design.maps) == len(design.parts):
            figures.append(("thickness", f"{_range(design.maps[number].thickness_mm)} mm"))
        figures.append(("triangles", f"{len(part.mesh.faces):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")))
        items = "".join(f"<div><dt>{escape(name)}</dt><dd>{_unit(text)}</dd></div>" for name, text in figures)
        heading = f"<h3>{escape(part.name)}</h3>" if len(design.parts) > 1 else ""
        shown.append(f"{heading}<dl class=figures>{items}</dl>")
    return "<h2>Key figures</h2>" + "".join(shown)


def _is_key(name: str) -> bool:
    words = name.replace(",", "").split()
    return bool(words) and (words[0] in KEY_FIGURES or words[-1] in KEY_FIGURES[:2])


def _range(values: F64) -> str:
    known = values[np.isfinite(values)]
    return f"{known.min():.2f} to {known.max():.2f}" if len(known) else "not measured,"


def _viewer(design: Design) -> str:
    """The figure's frame, and what it is worked by; `viewer.js` brings it to life."""
    layers = ['<label><input type="checkbox" id="layer-bone" checked> bone</label>']
    for number, part in enumerate(design.parts):
        dot = f'<span class="dot" style="background:rgb{part_colour(number)}"></span>'
        layers.append(
            f'<label><input type="checkbox" id="layer-part-{number}" checked> {dot}{escape(part.name)}</label>'
        )
    has_maps = len(design.maps) == len(design.parts)
    scales = {"thickness": thickness_scale(design), "clearance": clearance_scale(design)} if has_maps else {}
    choices = "".join(
        f'<label><input type="radio" name="map" value="{value}"{" checked" if value == "own" else ""}> {text}</label>'
        for value, text in [("own", "plain"), *((name, f"{name} map") for name in scales)]
    )
    bars = "".join(_bar(name, scale) for name, scale in scales.items())
    sides = "".join(f'<span class="side" id="side-{side}"></span>' for side in ("left", "right", "top", "bottom"))
    about = (
        "Three-dimensional figure of the implant in the bone. Arrow keys turn it, plus and minus zoom, Home goes back "
        "to the first view."
    )
    return (
        '<section id="viewer" class="screen" aria-label="figure to be turned"><p id="viewer-off" role="status"></p>'
        f'<div class="stage"><canvas id="viewer-canvas" tabindex="0" role="img" aria-label="{about}"></canvas>'
        f'{sides}{bars}<div class="ruler"><span id="ruler-mm"></span><div id="ruler"></div></div></div>'
        f'<div class="controls"><fieldset><legend>Shown</legend>{"".join(layers)}</fieldset>'
        f"<fieldset><legend>Colour of the implant</legend>{choices}</fieldset>"
        '<label>Drawn out <input type="range" id="exploded" min="0" max="60" step="1" value="0"> '
        '<output id="exploded-mm" for="exploded">0 mm</output></label>'
        '<button type="button" id="viewer-reset">Reset</button></div>'
        '<p class="help">Drag to turn, wheel or two fingers to zoom, shift and drag to move. With the keyboard: '
        "arrows, + and &minus;, Home. Letters: left, right, anterior, posterior, superior, inferior of the patient.</p>"
        "<noscript><p>The figure needs JavaScript: see the pictures below.</p></noscript></section>"
    )


def _bar(name: str, scale: Scale) -> str:
    low, high = scale.values[0], scale.values[-1]
    places = [100 * (value - low) / (high - low) for value in scale.values]
    stops = ", ".join(f"rgb{colour} {place:.1f}%" for colour, place in zip(scale.colours, places, strict=True))
    marks = "".join(
        f'<span style="bottom:{place:.1f}%">{value:.3g}{" asked" if value == scale.mark_mm else ""}</span>'
        for value, place in zip(scale.values, places, strict=True)
    )
    bar = f'<div class="scale" style="background:linear-gradient(to top, {stops})">{marks}</div>'
    return f'<div class="bar" id="bar-{name}" hidden>{name}, mm{bar}</div>'


def _figure(picture: Image | None) -> str:
    if picture is None:
        return ""
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=QUALITY, subsampling=0)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    text = (
        "The implant in place, on the head and on its way in; its thickness, its clearance to the bone, and its inner "
        "side."
    )
    return (
        f'<h2>Pictures</h2><figure><img alt="{text}" width="{picture.width}" height="{picture.height}" '
        f'style="height:auto" src="data:image/jpeg;base64,{data}"><figcaption>{text}</figcaption></figure>'
    )


def _insertion(design: Design, record: Mapping[str, Any]) -> str:
    travel = (record.get("insertion") or {}).get("travel_mm", design.settings.travel_mm)
    rows = [
        [
            part.name,
            ", ".join(f"{x:+.3f}" for x in part.direction),
            _way(part.direction),
            f"{_text(travel)} mm",
            f"{part.relief.depth_mm:.2f} mm, {part.relief.volume_ml:.2f} ml",
        ]
        for part in design.parts
    ]
    heads = ["implant", "direction (LPS)", "it moves", "way kept free", "relief for it"]
    return "<h2>Putting it in</h2>" + _table(heads, (_row(cells, words=(1, 2)) for cells in rows), words=(1, 2))


def _way(direction: F64) -> str:
    """In words, by the directions that have a third of it or more.

    >>> _way(np.array([-0.9, 0.1, -0.42]))
    'to the right and downwards'
    """
    words = (("to the left", "to the right"), ("backwards", "forwards"), ("upwards", "downwards"))
    order = np.argsort(-np.abs(direction), kind="stable")
    return " and ".join(words[k][int(direction[k] < 0)] for k in order if abs(direction[k]) >= 1 / 3)


def _checks_table(checks: Sequence[Mapping[str, Any]]) -> str:
    if not checks:
        return ""
    heads = ["check", "verdict", "value", "limit", "based on"]
    groups: dict[str, list[str]] = {}
    for check in checks:
        verdict = str(check.get("verdict", ""))
        unit = str(check.get("unit") or "")
        value, limit = _text(check.get("value")), str(check.get("limit") or "")
        cells = [
            f"<td>{escape(str(check.get('name', '')))}</td>",
            f'<td class="mark {verdict if verdict in WORDS else ""}">{escape(WORDS.get(verdict, verdict))}</td>',
            f"<td>{_unit(f'{value} {unit}')}</td>",
            f"<td class=words>{_unit(f'{limit} {unit}' if _bare(limit) else limit)}</td>",
            f"<td class=words>{escape(str(check.get('source') or ''))}</td>",
        ]
        groups.setdefault(str(check.get("part") or ""), []).append(f"<tr>{''.join(cells)}</tr>")
    several = len(groups) > 1
    tables = (
        _table(heads, rows, (part or "all together") if several else "", (1, 3, 4)) for part, rows in groups.items()
    )
    return "<h2>Checks</h2>" + "".join(tables)


def _bare(limit: str) -> bool:
    """Whether a limit ends in its number, so that the unit can follow."""
    return bool(limit) and limit[-1].isdigit()


def _confidence(record: Mapping[str, Any]) -> str:
    found = record.get("confidence")
    if not found:
        return ""
    if not isinstance(found, Mapping):
        return f"<h2>How well the missing bone is known</h2><p>{escape(str(found))}</p>"
    said = {name: value for name, value in found.items() if name != "expected"}
    # A measure a row: the lists of a record are no text for readers.
    for one in found.get("expected") or ():
        said[one["name"]] = f"{one['value']:g} ({one['low']:g} to {one['high']:g})"
    rows = (_row([_words(name), _text(value)], words=(1,)) for name, value in said.items())
    return "<h2>How well the missing bone is known</h2>" + _table(["", ""], rows)


def _notes(notes: Iterable[Any]) -> str:
    items = "".join(f"<li>{escape(str(note))}</li>" for note in notes or ())
    return f"<h2>Notes</h2><ul>{items}</ul>" if items else ""


def _parameters(design: Design, record: Mapping[str, Any]) -> str:
    values: Mapping[str, Any] = record.get("parameters") or design.settings.to_json()
    about = {one.name: one for one in dataclasses.fields(design.settings)}
    rows = []
    for name, value in values.items():
        one = about.get(name)
        meta: Mapping[str, Any] = one.metadata if one else {}
        span = f"{meta['low']:.10g} to {meta['high']:.10g}" if "low" in meta else ""
        default = "" if one is None or value == one.default else f"default {_text(one.default) or 'none'}"
        cells = [name, f"{_text(value)} {meta.get('unit', '')}", default, span]
        rows.append(_row([*cells, str(meta.get("help", "")), str(meta.get("source", ""))], words=(2, 3, 4, 5)))
    heads = ["parameter", "value", "", "range", "what it is", "default based on"]
    return "<h2>Parameters</h2>" + _table(heads, rows, words=(2, 3, 4, 5))


def _files(found: Any) -> str:
    if not found:
        return ""
    pairs = found.items() if isinstance(found, Mapping) else ((name, "") for name in found)
    items = "".join(
        f"<li>{escape(str(name))}{': ' + escape(_text(what)) if what not in ('', None) else ''}</li>"
        for name, what in pairs
    )
    return f"<h2>Files</h2><ul>{items}</ul>"


def _seconds(found: Any) -> str:
    if not isinstance(found, Mapping) or not found:
        return ""
    text = ", ".join(f"{_words(str(name))} {_text(value)} s" for name, value in found.items())
    return f"<p>Time taken: {escape(text)}.</p>"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _text(value: Any) -> str:
    """A value as it is read."""
    if value is None:
        return "not measured"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}" if math.isfinite(value) else "not measured"
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(str(name))} {_text(one)}" for name, one in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_text(one) for one in value)
    return str(value)


def _unit(text: str) -> str:
    """Escaped, with squares where units have them, and without a unit behind what was not measured."""
    if text.startswith("not measured"):
        return "not measured"
    return escape(text.strip()).replace("mm2", "mm²").replace("cm2", "cm²")


def _table(headings: Sequence[str], rows: Iterable[str], caption: str = "", words: tuple[int, ...] = ()) -> str:
    """The columns with these numbers hold words, not numbers."""
    head = "".join(
        f'<th scope="col"{" class=words" if n in words else ""}>{escape(heading)}</th>'
        for n, heading in enumerate(headings)
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    body = "".join(rows)
    return f"<div class=scroll><table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _row(cells: Sequence[str], words: tuple[int, ...] = ()) -> str:
    """The cells with these numbers hold words, not numbers."""
    made = (f"<td{' class=words' if n in words else ''}>{_unit(cell)}</td>" for n, cell in enumerate(cells))
    return f"<tr>{''.join(made)}</tr>"


__all__ = ["design_page"]
