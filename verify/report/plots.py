"""The plots of the page, as plotly figures without colours: the page paints them for light, dark and paper.

`meta` of a trace names its ink, a custom property of page.css; shapes are painted in the ink of the tolerance.
"""

from __future__ import annotations

import json
import math
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from spec.errors import UsageError
from verify.compare import Comparison, Difference, LayerRow, Tolerance
from verify.report.scale import ErrorScale, relative_limit
from verify.report.wording import error_words, show_result

SERIES = (
    # kind, symbol, mode
    ("accumulated", "circle", "lines+markers"),
    ("isolated", "diamond", "markers"),
    ("shipped", "star", "markers"),
)
BINS = 61
"""Odd, so that the middle bin is around zero."""
NAMED_TICKS = 32
"""With more layers than this their names do not fit below the axis."""
FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"


def import_plotly() -> Any:
    """plotly.graph_objects; raises UsageError with the command that installs it."""
    try:
        import plotly.graph_objects
    except ImportError:
        raise UsageError("report: the HTML page needs plotly: pip install -e '.[report]'") from None
    return plotly.graph_objects


def error_plot(comparison: Comparison, scale: ErrorScale) -> Dict[str, Any]:
    """The errors of every layer in execution order, with the tolerance."""
    graph_objects = import_plotly()
    rows = comparison.rows
    figure = graph_objects.Figure(layout=_layout("layer, in order of execution", "max|c − r| / max|r|"))
    for kind, symbol, mode in (each for each in SERIES if each[0] in comparison.kinds):
        points = [(getattr(row, kind), row.problem) for row in rows]
        heights = [each.error if each and 0 < each.error < math.inf else None for each, _ in points]
        figure.add_scatter(
            x=list(range(len(rows))), y=heights, name=kind, mode=mode, meta=kind, text=_hover(rows),
            hovertemplate="%{text}<extra></extra>", line={"width": 1}, marker={"symbol": symbol, "size": 6},
        )  # fmt: skip
    _add_points(figure, rows, "exact: error 0", "triangle-down-open", "exact", _exact(rows, scale))
    _add_points(figure, rows, "failed", "x-thin-open", "failed", _failed(rows, scale))
    _add_tolerance(figure, comparison)
    figure.update_yaxes(type="log", range=[math.log10(scale.floor) - 0.25, math.log10(scale.ceiling) + 0.25])
    decades = scale.decades()
    figure.update_yaxes(tickvals=[10.0**decade for decade in decades], ticktext=["exact", *map(_power, decades[1:])])
    figure.update_xaxes(range=[-0.5 - len(rows) / 80, len(rows) - 0.5 + len(rows) / 80])
    if len(rows) <= NAMED_TICKS:
        names = [_escape(row.layer) for row in rows]
        figure.update_xaxes(tickvals=list(range(len(rows))), ticktext=names, tickangle=-50, title=None)
    return as_plain(figure)


def histogram(candidate: np.ndarray, reference: np.ndarray, tolerance: Tolerance) -> Dict[str, Any]:
    """Counts of (c - r) / max|r| over all elements of a layer; both of one shape, finite and not all zero."""
    graph_objects = import_plotly()
    delta, magnitude = relative_delta(candidate, reference)
    reach = float(np.abs(delta).max()) or 1e-8
    counts, edges = np.histogram(delta, bins=BINS, range=(-reach, reach))
    middles = (edges[:-1] + edges[1:]) / 2
    figure = graph_objects.Figure(layout=_layout("(c − r) / max|r|", "elements"))
    figure.add_bar(
        x=middles.tolist(), y=[int(count) or None for count in counts], width=float(edges[1] - edges[0]),
        meta="isolated", customdata=[[low, high] for low, high in zip(edges[:-1].tolist(), edges[1:].tolist())],
        hovertemplate="%{y:,} elements from %{customdata[0]:.2e} to %{customdata[1]:.2e}<extra></extra>",
    )  # fmt: skip
    limit = tolerance.allowed(magnitude) / magnitude
    for x in (-limit, limit) if limit <= 3 * reach else ():
        figure.add_vline(x=x, line={"dash": "dash", "width": 1.5})
    figure.update_layout(bargap=0.05, showlegend=False)
    powers = [10**exponent for exponent in range(len(str(counts.max())))]
    figure.update_yaxes(type="log", tickvals=powers, ticktext=[f"{power:,}" for power in powers])
    figure.update_xaxes(exponentformat="e")
    return as_plain(figure)


def caption(candidate: np.ndarray, reference: np.ndarray, tolerance: Tolerance) -> List[str]:
    """The histogram in words, a fact each."""
    delta, magnitude = relative_delta(candidate, reference)
    limit = tolerance.allowed(magnitude) / magnitude
    beyond = int((np.abs(delta) > limit).sum())
    return [
        f"{delta.size:,} elements",
        f"{np.mean(delta == 0):.1%} exactly equal",
        f"mean {delta.mean():+.1e}",
        f"standard deviation {delta.std():.1e}",
        f"largest {np.abs(delta).max():.1e}, in units of max|r| = {magnitude:.4g}",
        f"{beyond:,} beyond the tolerance of ±{limit:.3g}",
    ]


def relative_delta(candidate: np.ndarray, reference: np.ndarray) -> Tuple[np.ndarray, float]:
    """(c - r) / max|r| in float64, flat, and max|r|."""
    c, r = candidate.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    magnitude = float(np.abs(r).max())
    return (c - r) / magnitude, magnitude


def undrawable(candidate: np.ndarray, reference: np.ndarray) -> str:
    """Why two arrays have no histogram; empty when they have one."""
    if candidate.shape != reference.shape:
        return f"the candidate has shape {candidate.shape}, the reference {reference.shape}"
    if not candidate.size:
        return "no elements"
    for title, array in (("candidate", candidate), ("reference", reference)):
        if not np.isfinite(array.astype(np.float64)).all():
            return f"the {title} holds values that are NaN or infinite"
    return "" if reference.any() else "the reference is all zero"


def as_plain(figure: Any) -> Dict[str, Any]:
    """A figure as JSON values, without plotly's default template, which is 6 KB of colours nobody sees."""
    figure.update_layout(template="none")
    return json.loads(figure.to_json())


def _layout(x_title: str, y_title: str) -> Dict[str, Any]:
    return {
        "xaxis": {"title": {"text": x_title}, "zeroline": False, "automargin": True},
        "yaxis": {"title": {"text": y_title, "standoff": 12}, "zeroline": False},
        "font": {"family": FONT, "size": 13},
        "margin": {"l": 76, "r": 16, "t": 12, "b": 48},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "hovermode": "closest",
        "dragmode": "zoom",
    }


def _hover(rows: Sequence[LayerRow]) -> List[str]:
    """The text shown over a layer's points; plotly reads it as HTML."""
    return [_escape(row.layer) + "<br>" + "<br>".join(map(_escape, _facts(row))) for row in rows]


def _facts(row: LayerRow) -> List[str]:
    facts = [row.type, *error_words(row), show_result(row)]
    return facts + ([row.problem] if row.problem else [])


def _power(exponent: int) -> str:
    return f"10<sup>{exponent}</sup>".replace("-", "−")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _exact(rows: Sequence[LayerRow], scale: ErrorScale) -> List[Tuple[int, float]]:
    """A point at the floor for every layer that has an error of zero."""
    return [
        (position, scale.floor)
        for position, row in enumerate(rows)
        if any(each is not None and each.error == 0 for each in (row.isolated, row.accumulated, row.shipped))
    ]


def _failed(rows: Sequence[LayerRow], scale: ErrorScale) -> List[Tuple[int, float]]:
    """A point on every error that failed, and at the ceiling where nothing could be compared."""
    points = []
    for position, row in enumerate(rows):
        found = [getattr(row, kind) for kind in row.judged]
        points += [(position, scale.height(each.error)) for each in found if each and not each.passed]
        points += [(position, scale.ceiling)] if row.problem or row.worst is None else []
    return points


def _add_points(
    figure: Any, rows: Sequence[LayerRow], name: str, symbol: str, ink: str, points: Sequence[Tuple[int, float]]
) -> None:
    if not points:
        return
    hover = _hover(rows)
    figure.add_scatter(
        x=[position for position, _ in points], y=[height for _, height in points], name=name, mode="markers", meta=ink,
        text=[hover[position] for position, _ in points], hovertemplate="%{text}<extra></extra>",
        marker={"symbol": symbol, "size": 8, "line": {"width": 1.5}},
    )  # fmt: skip


def _add_tolerance(figure: Any, comparison: Comparison) -> None:
    """A straight line for a pure rtol; with an atol every layer has its own limit."""
    limits: List[Optional[float]] = [
        _drawable(comparison.tolerance, row.accumulated or row.isolated or row.shipped) for row in comparison.rows
    ]
    if any(limits):
        figure.add_scatter(
            x=list(range(len(limits))), y=limits, name="tolerance", mode="lines", meta="tolerance", hoverinfo="skip",
            line={"dash": "dash", "width": 1.5, "shape": "hvh"}, connectgaps=True,
        )  # fmt: skip


def _drawable(tolerance: Tolerance, difference: Optional[Difference]) -> Optional[float]:
    limit = tolerance.rtol if difference is None else relative_limit(tolerance, difference)
    return limit if 0 < limit < math.inf else None
