"""Figures of many cases: how the metrics are distributed, and how they go with an expert's scores.

They are drawn by matplotlib, which the extra ``figures`` brings (about 60 MB with what it needs).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calvaria.errors import InputError, MissingExtraError
from calvaria.metrics import METRICS, Correlation
from calvaria.metrics.catalog import UNDEFINED, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from calvaria.models.calibration import Expected

Picture = NDArray[np.uint8]

COLUMNS = 4
PANEL_INCHES = (3.1, 2.5)
DOTS_PER_INCH = 130

INK = "#2b2f36"
FAINT = "#c9cdd4"
KIND_COLOURS = ("#d9741f", "#2f7fb8", "#4c9a5b", "#8a5fb0", "#b04a5a", "#6b7280", "#b08d2e")
SCOPE_COLOURS = {"whole": "#2f7fb8", "border": "#d9741f", "symmetry": "#4c9a5b"}

LOGARITHMIC = ("border_curvature_mse_mm4",)
"""Metrics whose values go over decades."""

SPREAD = 0.3
"""Points of a group are spread over this part of its width on each side."""


def distributions(scores: Mapping[str, Mapping[str, float]], kinds: Mapping[str, str]) -> Picture:
    """A panel for each metric: every case a point, by kind of defect, with quartiles and the worst case's name.

    Args:
        scores: case -> metric -> value; every case has the same metrics.
        kinds: case -> kind of defect.

    Returns:
        (H, W, 3) uint8.

    Raises:
        InputError: there is no case.
        MissingExtraError: matplotlib is not installed.
    """
    if not scores:
        raise InputError("there is no case to draw")
    names = [name for name in METRICS if name in next(iter(scores.values()))]
    groups = list(dict.fromkeys(kinds[case] for case in scores))
    figure, panels = _panels(len(names), 1.0 + 0.12 * max(len(groups) - 3, 0))
    for panel, name in zip(panels, names, strict=True):
        _strip(panel, name, {case: values[name] for case, values in scores.items()}, kinds, groups)
    return _picture(figure)


def scatter(
    columns: Mapping[str, Sequence[float]], scores: Sequence[float], correlations: Mapping[str, Correlation]
) -> Picture:
    """A panel for each metric: its values against an expert's scores (Kodym et al. 2021, appendix A).

    Args:
        columns: metric -> (N,) values; cases that are not finite are left out of the panel.
        scores: (N,) of the same cases.
        correlations: of each metric, for the headings.

    Returns:
        (H, W, 3) uint8; metrics of the whole patch blue, of its border orange.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, panels = _panels(len(columns), 1.0)
    for panel, (name, values) in zip(panels, columns.items(), strict=True):
        x, y = np.asarray(values, np.float64), np.asarray(scores, np.float64)
        there = np.isfinite(x)
        metric, found = METRICS[name], correlations[name]
        panel.scatter(x[there], y[there], s=14, color=SCOPE_COLOURS[metric.scope], alpha=0.75, linewidths=0)
        if name in LOGARITHMIC and (x[there] > 0).all():
            panel.set_xscale("log")
        title = f"{metric.title}\nr {shown(found.pearson, '+.2f')}   ρ {shown(found.spearman, '+.2f')}"
        panel.set_title(title, fontsize=8, color=INK)
        panel.set_ylabel("score", fontsize=7)
    return _picture(figure)


def expectations(
    expected: Mapping[str, Sequence[Expected]], truth: Mapping[str, Sequence[float]], kinds: Sequence[str]
) -> Picture:
    """A panel for each metric: what was expected of each case, with its limits, against what it was.

    Args:
        expected: metric -> (N,) expectations.
        truth: metric -> (N,) true values of the same cases.
        kinds: (N,) kind of each, for the colours.

    Returns:
        (H, W, 3) uint8; cases on the diagonal are as expected, others are outside
        their limits where the bar does not reach it.

    Raises:
        InputError: there is no case.
        MissingExtraError: matplotlib is not installed.
    """
    if not kinds:
        raise InputError("there is no case to draw")
    figure, panels = _panels(len(expected), 1.1)
    groups = list(dict.fromkeys(kinds))
    colours = {group: KIND_COLOURS[number % len(KIND_COLOURS)] for number, group in enumerate(groups)}
    for panel, (name, several) in zip(panels, expected.items(), strict=True):
        values, true = np.array([one.value for one in several]), np.asarray(truth[name], np.float64)
        for group in groups:
            own = np.array([kind == group for kind in kinds])
            bars = np.array([[one.value - one.low, one.high - one.value] for one in several])[own].T
            panel.errorbar(
                true[own], values[own], yerr=bars, fmt="o", ms=2.5, lw=0.4, color=colours[group], alpha=0.7, label=group
            )
        ends = min(values.min(), true.min()), max(values.max(), true.max())
        panel.plot(ends, ends, color=INK, lw=0.6, zorder=0)
        panel.set_title(METRICS[name].title, fontsize=8, color=INK)
        panel.set_xlabel("true", fontsize=7)
        panel.set_ylabel("expected", fontsize=7)
    panels[0].legend(fontsize=4.5, frameon=False)
    return _picture(figure)


def coverage(levels: Sequence[float], within: Mapping[str, Mapping[str, Sequence[float]]]) -> Picture:
    """How often the truth lies within intervals, against how often it should: a panel for each surface.

    Args:
        levels: (L,) probabilities.
        within: surface -> kind of hole -> (L,) shares of points that lie within.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, panels = _panels(len(within), 1.2)
    for panel, (name, kinds) in zip(panels, within.items(), strict=True):
        panel.plot([0, 1], [0, 1], color=INK, lw=0.6)
        for number, (kind, shares) in enumerate(kinds.items()):
            panel.plot(levels, shares, "o-", ms=3, lw=0.8, color=KIND_COLOURS[number % len(KIND_COLOURS)], label=kind)
        panel.set_xlim(0, 1)
        panel.set_ylim(0, 1)
        panel.set_title(name, fontsize=8, color=INK)
        panel.set_xlabel("stated probability", fontsize=7)
        panel.set_ylabel("share within", fontsize=7)
        panel.legend(fontsize=5, frameon=False)
    return _picture(figure)


def _strip(
    panel: Axes, name: str, values: Mapping[str, float], kinds: Mapping[str, str], groups: Sequence[str]
) -> None:
    """One metric: groups side by side."""
    metric = METRICS[name]
    worst = _worst(name, values)
    if name in LOGARITHMIC and all(value > 0 for value in values.values() if math.isfinite(value)):
        panel.set_yscale("log")
    for place, group in enumerate(groups):
        cases = [case for case in values if kinds[case] == group and math.isfinite(values[case])]
        lost = _lost([values[case] for case in values if kinds[case] == group])
        if lost:
            panel.text(place, 1.0, lost, transform=panel.get_xaxis_transform(), ha="center", va="top", size=6)
        if not cases:
            continue
        drawn = np.array([values[case] for case in cases])
        # A low-discrepancy sequence spreads the points without chance.
        aside = (np.arange(len(cases)) * 0.618034 % 1.0 - 0.5) * 2 * SPREAD
        panel.boxplot(
            drawn,
            positions=[place],
            widths=0.7,
            showfliers=False,
            boxprops={"color": FAINT},
            whiskerprops={"color": FAINT},
            capprops={"color": FAINT},
            medianprops={"color": INK},
        )
        panel.scatter(
            place + aside, drawn, s=9, color=KIND_COLOURS[place % len(KIND_COLOURS)], alpha=0.75, linewidths=0, zorder=3
        )
        if worst in cases:
            at = (place + aside[cases.index(worst)], values[worst])
            panel.annotate(worst, at, (0, -7), textcoords="offset points", ha="center", fontsize=5, color=INK)
    panel.set_title(metric.title, fontsize=8, color=INK)
    panel.set_xlim(-0.6, len(groups) - 0.4)
    panel.set_xticks(range(len(groups)), groups, fontsize=6, rotation=20 if len(groups) > 2 else 0)


def _lost(values: Sequence[float]) -> str:
    """How many values have no place in a panel: infinite and undefined ones."""
    counts = {"inf.": sum(map(math.isinf, values)), UNDEFINED: sum(map(math.isnan, values))}
    return "\n".join(f"{count} {what}" for what, count in counts.items() if count)


def _worst(name: str, values: Mapping[str, float]) -> str:
    """The case with the worst finite value; empty without one."""
    finite = {case: value for case, value in values.items() if math.isfinite(value)}
    if not finite:
        return ""
    if METRICS[name].better == "higher":
        return min(finite, key=finite.__getitem__)
    return max(finite, key=lambda case: abs(finite[case]))


def _panels(count: int, wider: float) -> tuple[Figure, list[Axes]]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("figures are drawn by matplotlib: pip install 'calvaria[figures]'") from error
    across = min(count, COLUMNS)
    down = -(-count // across)
    figure = Figure((PANEL_INCHES[0] * wider * across, PANEL_INCHES[1] * down), dpi=DOTS_PER_INCH, layout="constrained")
    panels = list(np.atleast_1d(figure.subplots(down, across)).ravel())
    for panel in panels[count:]:
        panel.remove()
    for panel in panels[:count]:
        panel.tick_params(labelsize=6, color=FAINT)
        panel.spines[["top", "right"]].set_visible(False)
        panel.spines[["left", "bottom"]].set_color(FAINT)
        panel.grid(axis="y", color=FAINT, linewidth=0.4, alpha=0.6)
        panel.set_axisbelow(True)
    return figure, panels[:count]


def _picture(figure: Figure) -> Picture:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)  # matplotlib's canvases have no types
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), np.uint8)[..., :3].copy()


__all__ = ["coverage", "distributions", "expectations", "scatter"]
