"""A comparison on the terminal: the table, worst layer first, and the verdict's lines.

stem/bn  batch_norm  1x64x112x112  3.8e-01  3.8e-01  3.8e-01  25.1  FAILED
"""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Tuple, Union

from spec.shapes import show
from verify.compare import Comparison, LayerRow
from verify.report.wording import (
    show_count,
    show_decibels,
    show_element,
    show_error,
    show_errors,
    show_needed,
    show_result,
)

COLUMNS = ("layer", "type", "output", "isolated", "accumulated", "needs rtol", "PSNR dB", "result")
NUMBERS = range(3, 7)
"""Columns that align right."""


def print_table(comparison: Comparison, console: Union[Any, Callable[[str], Any]], limit: Optional[int]) -> None:
    """Prints a row a layer, worst first.

    Args:
        console: a `rich.console.Console`, which gets a table with borders if it is a terminal; or a function that
            prints a line, such as `print`.
        limit: rows shown before the rest is counted; None for all.
    """
    rows = worst_first(comparison)
    shown = rows[:limit]
    title = f"{comparison.model}: error of each layer, max|c - r| / max|r|, worst first"
    left_out = _left_out(rows[len(shown) :])
    if callable(console):
        for line in [title, *_aligned([_cells(row) for row in shown]), *left_out]:
            console(line)
    elif console.is_terminal:
        console.print(_rich_table(title, shown))
        for line in left_out:
            console.print(line, markup=False, highlight=False)
    else:
        print_table(comparison, lambda line: console.out(line, highlight=False), limit)


def worst_first(comparison: Comparison) -> List[LayerRow]:
    """Failed layers before passed ones, larger errors before smaller, then execution order."""
    return sorted(comparison.rows, key=lambda row: (row.passed, -row.worst_error))


def verdict_lines(comparison: Comparison) -> List[str]:
    """What was compared with what and how it ended, a sentence a line; the first bad layer last."""
    lines = [
        f"candidate: {comparison.candidate}",
        f"reference: {comparison.reference}",
        f"input: {comparison.input}",
        f"{show_count(comparison)}: {comparison.tolerance}; {show_needed(comparison)}",
    ]
    worst = comparison.worst
    if worst is not None:
        lines.append(f"worst layer: {worst.layer} ({worst.type}): {show_errors(worst)}")
    element = worst_element(comparison)
    if element is not None:
        row, kind = element
        lines.append(f"worst element, {kind}: {show_element(row.layer, getattr(row, kind))}")
    return lines + first_bad_lines(comparison)


def worst_element(comparison: Comparison) -> Optional[Tuple[LayerRow, str]]:
    """The row with the largest error that could be computed, and whether `isolated` or `accumulated`."""
    found = [
        (difference.error, row, kind)
        for row in comparison.rows
        for kind, difference in (("accumulated", row.accumulated), ("isolated", row.isolated))
        if difference is not None
    ]
    return max(found, key=lambda each: each[0])[1:] if found else None


def first_bad_lines(comparison: Comparison) -> List[str]:
    """The first bad layer, where it differs most, and what it would agree with; empty when all passed."""
    bad = comparison.first_bad
    if bad is None:
        return []
    lines = [f"FIRST BAD LAYER: {bad.layer} ({bad.type}): {show_errors(bad)}"]
    blamed = bad.isolated if bad.isolated is not None and not bad.isolated.passed else bad.worst
    if blamed is not None:
        lines.append(f"  worst element: {show_element(bad.layer, blamed)}")
    return lines + [f"  diagnosis: {each}" for each in diagnosis(bad)]


def diagnosis(row: LayerRow) -> Tuple[str, ...]:
    """What the layer would agree with, or that nothing is known."""
    return row.diagnosis or ("none of the classic mistakes explains it",)


def _cells(row: LayerRow) -> List[str]:
    errors = [show_error(each and each.error) for each in (row.isolated, row.accumulated)]
    worst = row.worst
    needed, psnr = (show_error(worst.needed), show_decibels(worst.psnr)) if worst else ("-", "-")
    result = f"{show_result(row)}: {row.problem}" if row.problem else show_result(row)
    return [row.layer, row.type, show(row.shape), *errors, needed, psnr, result]


def _aligned(rows: List[List[str]]) -> List[str]:
    widths = [max(len(row[column]) for row in [list(COLUMNS), *rows]) for column in range(len(COLUMNS))]
    aligned = [
        [cell.rjust(width) if column in NUMBERS else cell.ljust(width) for column, (cell, width) in enumerate(pairs)]
        for pairs in (zip(row, widths) for row in [list(COLUMNS), *rows])
    ]
    return ["  ".join(cells).rstrip() for cells in aligned]


def _left_out(rows: List[LayerRow]) -> List[str]:
    if not rows:
        return []
    failed = sum(not row.passed for row in rows)
    return [f"and {len(rows)} more, {f'{failed} of them failed' if failed else 'all passed'}"]


def _rich_table(title: str, rows: List[LayerRow]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", header_style="bold")
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number in NUMBERS else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in _cells(row)), style=None if row.passed else "bold red")
    return table
