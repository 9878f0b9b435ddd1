"""The report as one HTML file that opens without a network: page.html.j2 filled, with its CSS, script and plotly.

Comparison + Graph + arrays + ledger --> values for the template --> report.html (5 MB, nearly all of it plotly.js)
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from engine.atomic_file import write_whole
from spec.errors import UsageError
from spec.graph import Graph
from spec.shapes import show
from verify.compare import Comparison, Difference, LayerRow, Tolerance
from verify.report import network_drawing, plots
from verify.report.scale import ErrorScale, error_scale
from verify.report.terminal import diagnosis, worst_element
from verify.report.wording import (
    RESULTS,
    show_count,
    show_decibels,
    show_difference,
    show_element,
    show_error,
    show_errors,
    show_needed,
    show_result,
    show_tolerance,
    show_value,
)

ReportArrays = Mapping[str, Tuple[np.ndarray, np.ndarray]]
"""Layer -> (candidate, reference) of equal shape, accumulated, for the layers of `worst_layers`."""

HERE = Path(__file__).resolve().parent
LedgerRow = Mapping[str, Any]
"""A row of ledger.json: layer, role, tensor, rule, source_shape, shape, dtype, sha256."""


def worst_layers(comparison: Comparison, count: int = 4) -> List[str]:
    """The layers whose arrays the page draws: the first bad one, then those with the largest errors."""
    compared = [row for row in comparison.rows if row.worst is not None]
    ranked = sorted(compared, key=lambda row: row.worst_error, reverse=True)
    first = [row for row in (comparison.first_bad,) if row is not None and row.worst is not None]
    return list(dict.fromkeys(row.layer for row in [*first, *ranked]))[:count]


def write_page(
    comparison: Comparison, graph: Graph, arrays: ReportArrays, ledger: Sequence[LedgerRow], path: Path, made: str = ""
) -> None:
    """Writes the page.

    Args:
        made: by which command and when, for people.

    Raises:
        UsageError: plotly or Jinja2 is not installed, or the file cannot be written.
    """
    write_whole(Path(path), render(comparison, graph, arrays, ledger, made).encode())


def render(
    comparison: Comparison, graph: Graph, arrays: ReportArrays, ledger: Sequence[LedgerRow], made: str = ""
) -> str:
    """The page as text; raises UsageError where plotly or Jinja2 is missing."""
    environment = _environment()
    plots.import_plotly()
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    scale = error_scale(comparison)
    return environment.get_template("page.html.j2").render(
        comparison=comparison,
        bad=comparison.first_bad,
        diagnosis=diagnosis(comparison.first_bad) if comparison.first_bad else (),
        facts=facts(comparison),
        made=made,
        figures={"errors": plots.error_plot(comparison, scale), "histograms": histograms(comparison.tolerance, arrays)},
        rows=table_rows(comparison, ledger),
        drawing=network_drawing.draw(graph, comparison),
        headings=headings(comparison),
        measures=measures(comparison),
        scale=scale,
        ticks=colour_bar_ticks(scale),
        sheet=Markup((HERE / "page.css").read_text("utf-8")),
        script=Markup((HERE / "page.js").read_text("utf-8")),
        plotly=Markup(get_plotlyjs()),
    )


def facts(comparison: Comparison) -> List[Tuple[str, str]]:
    """What was compared with what, and the figures behind the verdict: title and text."""
    found = [
        ("candidate", comparison.candidate),
        ("reference", comparison.reference),
        ("input", comparison.input),
        ("tolerance", f"{show_tolerance(comparison)}; {show_needed(comparison)}"),
        ("layers", show_count(comparison)),
    ]
    worst, element = comparison.worst, worst_element(comparison)
    if worst is not None:
        found.append(("worst layer", f"{worst.layer} ({worst.type}): {show_errors(worst)}"))
    if element is not None:
        row, kind = element
        found.append(("worst element", f"{show_element(row.layer, getattr(row, kind))} ({kind})"))
    return found + [("note", note) for note in comparison.notes]


def histograms(tolerance: Tolerance, arrays: ReportArrays) -> List[Dict[str, Any]]:
    """For each layer its figure, or None and the reason in the caption."""
    found = []
    for layer, (candidate, reference) in arrays.items():
        reason = plots.undrawable(candidate, reference)
        figure = None if reason else plots.histogram(candidate, reference, tolerance)
        lines = [f"no histogram: {reason}"] if reason else plots.caption(candidate, reference, tolerance)
        found.append({"layer": layer, "figure": figure, "caption": [layer, *lines]})
    return found


def table_rows(comparison: Comparison, ledger: Sequence[LedgerRow]) -> List[Dict[str, Any]]:
    """Each row with its cells, the figures of both comparisons, its ledger and the words it is found by."""
    by_layer: Dict[str, List[LedgerRow]] = {}
    for entry in ledger:
        by_layer.setdefault(entry["layer"], []).append(entry)
    return [
        {
            "row": row,
            "cells": _cells(position, row, comparison.kinds),
            "figures": figures(row, comparison.kinds),
            "ledger": [_ledger_cells(entry) for entry in by_layer.get(row.layer, ())],
            "first_bad": row is comparison.first_bad,
            "found_by": _found_by(row, by_layer.get(row.layer, ())),
        }
        for position, row in enumerate(comparison.rows)
    ]


def figures(row: LayerRow, kinds: Sequence[str]) -> List[Tuple[str, ...]]:
    """(title, one text a kind) of every figure of Difference."""
    if row.worst is None:
        return []
    found = [getattr(row, kind) for kind in kinds]
    return [
        (title, *("-" if each is None else show_figure(each) for each in found))
        for title, show_figure in (
            ("max|c − r| / max|r|", show_difference),
            ("max|c − r|", lambda each: f"{each.max_abs:.3e}"),
            ("max(|c − r| / |r|)", lambda each: f"{each.max_rel:.3e}"),
            ("‖c − r‖ / ‖r‖", lambda each: f"{each.relative_l2:.3e}"),
            ("cosine", lambda each: f"{each.cosine:.12f}"),
            ("PSNR, dB", lambda each: show_decibels(each.psnr)),
            ("max|r|", lambda each: show_value(each.magnitude)),
            ("smallest rtol that passes", lambda each: f"{each.needed:.3e}"),
            ("worst element at", lambda each: str(list(each.worst[0]))),
            ("candidate there", lambda each: show_value(each.worst[1])),
            ("reference there", lambda each: show_value(each.worst[2])),
        )
    ]


def headings(comparison: Comparison) -> List[Tuple[str, str]]:
    """(title, `text` or `number`) of the columns of `_cells`; the result is sorted by its rank."""
    words = [("#", "number"), ("layer", "text"), ("type", "text"), ("output", "number")]
    numbers = [*comparison.kinds, "rel. L2", "PSNR dB", "result"]
    return words + [(title, "number") for title in numbers]


def measures(comparison: Comparison) -> List[str]:
    """What the drawing can be coloured by, best first: a failed network shows at first which layers are to blame."""
    found = [kind for kind in ("accumulated", "isolated") if kind in comparison.kinds] or ["accumulated"]
    return found if comparison.passed else found[::-1]


def colour_bar_ticks(scale: ErrorScale) -> Dict[str, List[Tuple[str, float]]]:
    """Powers of ten below and above the tolerance, each with its place along that half, in percent."""
    ticks: Dict[str, List[Tuple[str, float]]] = {"passed": [], "failed": []}
    for decade in scale.decades():
        passed = 10.0**decade <= scale.tolerance * (1 + 1e-9)
        ticks["passed" if passed else "failed"].append((str(decade), 100 * scale.fraction(10.0**decade, passed)))
    return ticks


def require_packages() -> None:
    """Raises UsageError where a page could not be written for want of a package."""
    _import_jinja2()
    plots.import_plotly()


def _import_jinja2() -> Any:
    try:
        import jinja2
    except ImportError:
        raise UsageError("report: the HTML page needs Jinja2: pip install -e '.[report]'") from None
    return jinja2


def _environment() -> Any:
    jinja2 = _import_jinja2()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(HERE)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        culprit=network_drawing.culprit,
        colouring=network_drawing.colouring,
        describe=network_drawing.describe,
        show_element=show_element,
        show_difference=show_difference,
        show_error=show_error,
        show_errors=show_errors,
        show_tolerance=show_tolerance,
        box_height=network_drawing.BOX_HEIGHT,
    )
    return environment


def _cells(position: int, row: LayerRow, kinds: Sequence[str]) -> List[Tuple[str, Any]]:
    """(text, sort key) of each column; a number sorts as a number, what is missing as the worst."""
    worst = row.worst
    return [
        (str(position), position),
        (row.layer, row.layer),
        (row.type, row.type),
        (_times(row.shape), math.prod(row.shape)),
        *(_error_cell(getattr(row, kind), "error") for kind in kinds),
        _error_cell(worst, "relative_l2"),
        (show_decibels(worst.psnr), worst.psnr) if worst else ("-", -math.inf),
        (show_result(row), RESULTS.index(show_result(row))),
    ]


def _error_cell(difference: Optional[Difference], figure: str) -> Tuple[str, float]:
    value = None if difference is None else getattr(difference, figure)
    shown = show_difference(difference) if figure == "error" else show_error(value)
    return shown, math.inf if value is None else value


def _ledger_cells(entry: LedgerRow) -> List[str]:
    shapes = f"{_times(entry['source_shape'])} to {_times(entry['shape'])}"
    return [entry["role"], entry["tensor"], entry["rule"], shapes, entry["dtype"], entry["sha256"]]


def _times(shape: Sequence[int]) -> str:
    return show(tuple(shape)).replace(" x ", "×")


def _found_by(row: LayerRow, ledger: Sequence[LedgerRow]) -> str:
    words = [row.layer, row.type, row.reference, row.problem, *(entry["tensor"] for entry in ledger)]
    return " ".join(words).lower()
