"""An evaluation as one HTML page that holds its own pictures: it can be sent and kept."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calvaria import __version__
from calvaria.metrics import METRICS
from calvaria.metrics.summary import Scores, Summary, summarise

if TYPE_CHECKING:
    from PIL.Image import Image

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22262c; max-width: 1180px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #e2e5ea; vertical-align: top }
th:first-child, td:first-child, td.words { text-align: left } td.words { max-width: 46em }
img { max-width: 100% } figure { margin: 1em 0 } figcaption { font-size: 13px; color: #555c66 }
"""


def evaluation_page(
    scores: Scores,
    pictures: Mapping[str, Image],
    distributions: NDArray[np.uint8] | None = None,
    failed: Mapping[str, str] | None = None,
) -> str:
    """The page of an evaluation.

    Args:
        scores: case -> metric -> value; every case has the same metrics.
        pictures: case -> its picture, in the order in which they stand: the worst first.
        distributions: (H, W, 3) uint8 from `calvaria.report.distributions`; None: no such picture.
        failed: case -> why it has no scores.

    Returns:
        HTML without anything from elsewhere.
    """
    parts = [f"<h1>Evaluation of {len(scores)} case{'s' if len(scores) != 1 else ''}</h1>"]
    if failed:
        items = "".join(f"<li>{escape(case)}: {escape(why)}</li>" for case, why in failed.items())
        parts.append(f"<p>{len(failed)} without scores:</p><ul>{items}</ul>")
    parts.append(_summary_table(summarise(scores)))
    if distributions is not None:
        caption = "Every case is a point; boxes hold the middle half, lines the median; the worst case is named."
        parts.append(_figure(distributions, caption))
    if pictures:
        parts.append(f"<h2>{'The worst cases' if len(pictures) < len(scores) else 'The cases'}, by DSC</h2>")
    for case, picture in pictures.items():
        parts.append(_figure(picture, f"{case}: {_line(scores[case])}"))
    parts.append(_definitions(list(next(iter(scores.values()), {}))))
    parts.append(f"<p>calvaria {escape(__version__)}. Research software, not a medical device.</p>")
    title = "<title>calvaria: evaluation</title>"
    head = f'<!doctype html><html lang="en"><meta charset="utf-8">{title}<style>{STYLE}</style>'
    return head + "\n".join(parts) + "</html>\n"


def _summary_table(summary: Mapping[str, Summary]) -> str:
    rows = []
    for name, one in summary.items():
        count = f"{one.cases - one.undefined} of {one.cases}" if one.undefined else str(one.cases)
        cells = [METRICS[name].text(value) for value in (one.mean, one.sd, one.median, one.worst)]
        rows.append(_row([METRICS[name].title, count, *cells, one.worst_case if one.cases > 1 else ""]))
    return "<h2>Metrics</h2>" + _table(["", "cases", "mean", "sd", "median", "worst", "worst case"], rows)


def _definitions(names: Sequence[str]) -> str:
    rows = [
        f"<tr><td>{escape(METRICS[name].title)}</td><td class=words>{escape(METRICS[name].definition)}</td>"
        f"<td class=words>{escape(METRICS[name].source)}</td></tr>"
        for name in names
    ]
    return "<h2>Definitions</h2>" + _table(["metric", "definition", "source"], rows)


def _line(values: Mapping[str, float]) -> str:
    shown = ("dsc", "bdsc", "hd95_mm", "msd_mm", "border_mm")
    return ", ".join(f"{METRICS[name].title} {METRICS[name].text(values[name])}" for name in shown)


def _table(headings: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _row(cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _figure(picture: Image | NDArray[np.uint8], caption: str) -> str:
    from PIL import Image as Pillow

    image = Pillow.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    text = escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


__all__ = ["evaluation_page"]
