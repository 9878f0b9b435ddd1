"""A comparison on the terminal: the table, worst layer first, and the verdict's lines.

stem/bn  batch_norm  1x64x112x112  3.8e-01  3.8e-01  3.8e-01  25.1  FAILED
"""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

from spec.shapes import show
from verify.compare import Comparison, LayerRow
from verify.report.wording import (
    show_count,
    show_decibels,
    show_difference,
    show_element,
    show_error,
    show_errors,
    show_needed,
    show_result,
    show_tolerance,
)

BEFORE, AFTER = ("layer", "type", "output"), ("rel. L2", "needs rtol", "PSNR dB", "result")
"""Columns around the errors, of which there is one for each kind of comparison."""

WIDE = 100
"""Characters a line from which on names need not be broken into pieces; narrower terminals get plain lines."""


def print_table(comparison: Comparison, console: Union[Any, Callable[[str], Any]], limit: Optional[int]) -> None:
    """Prints a row a layer, worst first.

    Args:
        console: a `rich.console.Console`, which gets a table with a ruled head if it is a wide terminal; or a function
            that prints a line, such as `print`.
        limit: rows shown before the rest is counted; None for all.
    """
    rows = worst_first(comparison)
    shown = rows[:limit]
    title = f"{comparison.model}: error of each layer, max|c - r| / max|r|, worst first"
    columns = (*BEFORE, *comparison.kinds, *AFTER)
    cells = [_cells(row, comparison.kinds) for row in shown]
    left_out = _left_out(rows[len(shown) :])
    if callable(console):
        for line in [title, *_aligned(columns, cells), *left_out]:
            console(line)
    elif console.is_terminal and console.width >= WIDE:
        console.print(_rich_table(title, columns, cells, [row.passed for row in shown]))
        for line in left_out:
            console.print(line, markup=False, highlight=False)
    else:
        print_table(comparison, lambda line: console.out(line, highlight=False), limit)


def worst_first(comparison: Comparison) -> List[LayerRow]:
    """Failed layers before passed ones, larger errors before smaller, then execution order."""
    return sorted(comparison.rows, key=lambda row: (row.passed, -row.worst_error))


def verdict_lines(comparison: Comparison) -> List[str]:
    """What was compared with what and how it ended, a sentence a line; the first bad layer last.

    Layers that saw only zeros are counted apart from those that passed: see LayerRow.blank.
    """
    lines = [
        f"candidate: {comparison.candidate}",
        f"reference: {comparison.reference}",
        f"input: {comparison.input}",
        f"{show_count(comparison)}: {show_tolerance(comparison)}; {show_needed(comparison)}",
    ]
    worst = comparison.worst
    if worst is not None:
        lines.append(f"worst layer: {worst.layer} ({worst.type}): {show_errors(worst)}")
    element = worst_element(comparison)
    if element is not None:
        row, kind = element
        lines.append(f"worst element, {kind}: {show_element(row.layer, getattr(row, kind))}")
    return lines + list(comparison.notes) + first_bad_lines(comparison)


def worst_element(comparison: Comparison) -> Optional[Tuple[LayerRow, str]]:
    """The row with the largest error that could be computed, and its kind."""
    found = [
        (getattr(row, kind).error, row, kind)
        for row in comparison.rows
        for kind in ("accumulated", "isolated", "shipped")
        if getattr(row, kind) is not None
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
    """What the layer would agree with, or that nothing is known; an engine's layers cannot be tried by themselves."""
    if "isolated" not in row.judged and not row.diagnosis:
        return ("run.py diff without --engine tells whether the network definition is right: it tries the mistakes",)
    return row.diagnosis or ("none of the classic mistakes explains it",)


def _cells(row: LayerRow, kinds: Sequence[str]) -> List[str]:
    errors = [show_difference(getattr(row, kind)) for kind in kinds]
    worst = row.worst
    figures = ("-", "-", "-")
    if worst is not None:
        figures = (show_error(worst.relative_l2), show_error(worst.needed), show_decibels(worst.psnr))
    result = f"{show_result(row)}: {row.problem}" if row.problem else show_result(row)
    return [row.layer, row.type, show(row.shape), *errors, *figures, result]


def _is_number(column: int, columns: Sequence[str]) -> bool:
    """Numbers align right."""
    return len(BEFORE) <= column < len(columns) - 1


def _aligned(columns: Sequence[str], rows: List[List[str]]) -> List[str]:
    lines = [list(columns), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    aligned = [
        [cell.rjust(width) if _is_number(k, columns) else cell.ljust(width) for k, (cell, width) in enumerate(pairs)]
        for pairs in (zip(line, widths) for line in lines)
    ]
    return ["  ".join(cells).rstrip() for cells in aligned]


def _left_out(rows: List[LayerRow]) -> List[str]:
    if not rows:
        return []
    failed = sum(not row.passed for row in rows)
    fine = "all passed" if all(row.judged for row in rows) else "none failed"
    return [f"and {len(rows)} more, {f'{failed} of them failed' if failed else fine}"]


def _rich_table(title: str, columns: Sequence[str], rows: List[List[str]], passed: List[bool]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        numeric = _is_number(number, columns)
        # where the terminal is narrow only names are broken, numbers and the result never
        whole = numeric or column == AFTER[-1]
        table.add_column(column, justify="right" if numeric else "left", overflow="fold", no_wrap=whole)
    for cells, fine in zip(rows, passed):
        table.add_row(*(Text(cell) for cell in cells), style=None if fine else "bold red")
    return table
