"""verify.report on the terminal and as JSON: order, limits, verdict, and what is said when nothing can be said."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from rich.console import Console

from spec.errors import UsageError
from tests.small_comparison import compared
from verify.compare import Comparison, Tolerance, difference
from verify.report import print_table, verdict_lines, worst_layers, write_json
from verify.report.wording import show_decibels, show_error, show_needed

PASSED = compared().comparison
FAILED = compared(epsilon=1e-2).comparison
NOTHING = PASSED._replace(rows=())


def printed(comparison: Comparison, limit=None) -> list:
    lines: list = []
    print_table(comparison, lines.append, limit)
    return lines


def with_problem(comparison: Comparison, number: int, problem: str) -> Comparison:
    rows = list(comparison.rows)
    rows[number] = rows[number]._replace(isolated=None, accumulated=None, problem=problem)
    return comparison._replace(rows=tuple(rows))


def test_table_is_worst_first_with_failed_rows_before_passed_ones():
    names = [line.split()[0] for line in printed(FAILED)[2:]]
    errors = {row.layer: row.worst_error for row in FAILED.rows}
    assert names == sorted(errors, key=lambda name: -errors[name])
    assert names[-1] == "conv"
    loose = with_problem(PASSED, 4, "no such tensor")
    assert printed(loose)[2].startswith("<out>") and printed(loose)[2].endswith("FAILED: no such tensor")


def test_a_small_error_that_failed_stands_before_a_large_one_that_passed():
    atol = Tolerance(atol=1e-3, rtol=0.0)
    rows = []
    for name, candidate, reference in (("passed", 2e-3, 1e-3), ("failed", 10.01, 10.0)):
        found = difference(np.array([candidate]), np.array([reference]), atol)
        rows.append(PASSED.rows[0]._replace(layer=name, isolated=found, accumulated=found))
    assert rows[0].worst_error > rows[1].worst_error
    assert [line.split()[0] for line in printed(PASSED._replace(rows=tuple(rows)))[2:]] == ["failed", "passed"]


def test_table_aligns_and_shows_every_figure():
    title, heading, *rows = printed(FAILED)
    assert title == "block: error of each layer, max|c - r| / max|r|, worst first"
    assert re.split(r"\s{2,}", heading) == [
        "layer", "type", "output", "isolated", "accumulated", "rel. L2", "needs rtol", "PSNR dB", "result"
    ]  # fmt: skip
    end = heading.index("accumulated") + len("accumulated")
    assert all(re.search(r"(\d|-)$", row[:end]) for row in rows)
    shown = next(row for row in rows if row.startswith("bn"))
    bn = FAILED.rows[1]
    assert re.split(r"\s{2,}", shown) == [
        "bn", "batch_norm", "1 x 4 x 5 x 7", f"{bn.isolated.error:.1e}", f"{bn.accumulated.error:.1e}",
        f"{bn.worst.relative_l2:.1e}", f"{bn.worst.needed:.1e}", f"{bn.worst.psnr:.1f}", "FAILED"
    ]  # fmt: skip
    assert next(row for row in rows if row.startswith("relu")).endswith("FAILED, inherited")


@pytest.mark.parametrize(
    "comparison, limit, last",
    [
        (FAILED, 2, "and 3 more, 2 of them failed"),
        (FAILED, 4, "and 1 more, all passed"),
        (PASSED, 0, "and 5 more, all passed"),
    ],
)
def test_a_limit_counts_what_it_leaves_out(comparison, limit, last):
    lines = printed(comparison, limit)
    assert len(lines) == 2 + limit + 1
    assert lines[-1] == last


@pytest.mark.parametrize("limit", [None, 5, 9])
def test_nothing_is_left_out_without_need(limit):
    assert len(printed(FAILED, limit)) == 2 + 5


def test_a_narrow_terminal_gets_plain_lines():
    screen = io.StringIO()
    print_table(FAILED, Console(file=screen, force_terminal=True, width=80, no_color=True), None)
    assert screen.getvalue().splitlines() == printed(FAILED, None)


def test_rich_table_on_a_terminal_takes_names_literally():
    screen = io.StringIO()
    row = FAILED.rows[0]._replace(layer="[bold]x[/]")
    comparison = FAILED._replace(rows=(row,))
    print_table(comparison, Console(file=screen, force_terminal=True, width=160, no_color=True), None)
    assert "[bold]x[/]" in screen.getvalue() and "───" in screen.getvalue()


def test_a_rich_console_that_is_no_terminal_gets_the_plain_lines():
    file = io.StringIO()
    print_table(FAILED, Console(file=file, width=20), 2)
    assert file.getvalue().splitlines() == printed(FAILED, 2)


def test_verdict_of_a_passed_comparison():
    lines = verdict_lines(PASSED)
    worst = PASSED.worst
    assert lines[:3] == ["candidate: NumPy in float32", "reference: NumPy in float64", "input: random image"]
    assert lines[3].startswith("5 of 5 layers passed: |c - r| <= 0 + 1e-05 * max|r|; the smallest rtol that would pass")
    assert lines[4].startswith(f"worst layer: {worst.layer} ({worst.type}): isolated ")
    index, candidate, reference = worst.worst.worst
    assert lines[5].endswith(f"{worst.layer}{list(index)}: candidate {candidate:.9g}, reference {reference:.9g}")
    assert len(lines) == 6


def test_verdict_of_a_failed_comparison_ends_with_the_first_bad_layer():
    rows = [row._replace(diagnosis=("epsilon 0.001 agrees to 1e-07",)) for row in FAILED.rows[:2]] + [*FAILED.rows[2:]]
    lines = verdict_lines(FAILED._replace(rows=tuple(rows)))
    index, candidate, reference = FAILED.rows[1].isolated.worst
    assert lines[3].startswith("4 of 5 layers failed: ")
    assert lines[-3].startswith("FIRST BAD LAYER: bn (batch_norm): isolated ")
    assert lines[-2] == f"  worst element: bn{list(index)}: candidate {candidate:.9g}, reference {reference:.9g}"
    assert lines[-1] == "  diagnosis: epsilon 0.001 agrees to 1e-07"
    assert verdict_lines(FAILED)[-1] == "  diagnosis: none of the classic mistakes explains it"


def test_verdict_of_a_comparison_of_nothing():
    assert verdict_lines(NOTHING)[3].startswith("nothing was compared, which counts as failed: ")
    assert len(verdict_lines(NOTHING)) == 4


def with_difference(number: int, candidate: np.ndarray, reference: np.ndarray) -> Comparison:
    """PASSED with one row of other arrays."""
    found = difference(candidate, reference, Tolerance())
    rows = list(PASSED.rows)
    rows[number] = rows[number]._replace(isolated=found, accumulated=found)
    return PASSED._replace(rows=tuple(rows))


def test_rows_of_zeros_are_counted_apart():
    zeros = with_difference(2, np.zeros(3), np.zeros(3))
    assert verdict_lines(zeros)[3].startswith("4 of 5 layers passed, 1 saw only zeros (relu): |c - r| <=")
    assert next(line for line in printed(zeros) if line.startswith("relu")).endswith("only zeros")
    alone = verdict_lines(zeros._replace(rows=zeros.rows[2:3]))
    assert alone[3].startswith("nothing but zeros was compared, which counts as failed: ")
    assert alone[3].endswith("no rtol would pass")


@pytest.mark.parametrize("index, shown", [(323159, "0"), (323160, "1 differs")])
def test_whole_numbers_that_differ_are_counted_and_not_measured(index, shown):
    comparison = with_difference(4, np.int32([7, index]), np.int64([7, 323159]))
    cells = re.split(r"\s{2,}", next(line for line in printed(comparison) if line.startswith("<out>")))
    assert cells[3:5] == [shown, shown]
    lines = verdict_lines(comparison)
    assert "max|r|, whole numbers equal; " in lines[3] and comparison.passed is (shown == "0")
    if not comparison.passed:
        said = "isolated 1 differs, accumulated 1 differs: whole numbers are equal or wrong"
        assert f"FIRST BAD LAYER: <out> (activation): {said}" in lines
        assert "  worst element: <out>[1]: candidate 323160, reference 323159" in lines


def test_verdict_names_what_could_not_be_compared():
    lines = verdict_lines(with_problem(PASSED, 2, "the reference has no tensor 'relu:0'"))
    assert lines[3].endswith("; no rtol would pass")
    assert lines[4] == "worst layer: relu (activation): the reference has no tensor 'relu:0'"
    assert lines[-2] == "FIRST BAD LAYER: relu (activation): the reference has no tensor 'relu:0'"


@pytest.mark.parametrize("epsilon", [1.5e-3, 2e-3, 1e-2, 0.3])
def test_the_rtol_that_is_said_to_pass_does_pass(epsilon):
    said = float(show_needed(compared(epsilon).comparison).rsplit(" ", 1)[1])
    assert compared(epsilon, Tolerance(rtol=said)).comparison.passed
    assert not compared(epsilon, Tolerance(rtol=said * 0.985)).comparison.passed


@pytest.mark.parametrize(
    "error, shown", [(None, "-"), (0.0, "0"), (1.25e-7, "1.2e-07"), (float("inf"), "inf"), (3.0, "3.0e+00")]
)
def test_show_error(error, shown):
    assert show_error(error) == shown


@pytest.mark.parametrize("psnr, shown", [(float("inf"), "inf"), (-float("inf"), "-inf"), (93.456, "93.5")])
def test_show_decibels(psnr, shown):
    assert show_decibels(psnr) == shown


def test_worst_layers_start_with_the_first_bad_one():
    ranked = sorted(FAILED.rows, key=lambda row: -row.worst_error)
    expected = dict.fromkeys(["bn", *(row.layer for row in ranked)])
    assert worst_layers(FAILED, 3) == list(expected)[:3]
    assert worst_layers(NOTHING) == []
    assert "conv" not in worst_layers(with_problem(FAILED, 0, "no such tensor"))


def test_json_file(tmp_path):
    path = tmp_path / "comparison.json"
    write_json(compared(image=np.zeros((1, 3, 5, 7))).comparison, path)

    def refuse(literal: str) -> None:
        raise AssertionError(f"{literal} in JSON")

    plain = json.loads(path.read_text(), parse_constant=refuse)
    assert [row["layer"] for row in plain["rows"]] == ["conv", "bn", "relu", "add", "<out>"]
    assert plain["passed"] is True


def test_json_into_what_is_no_directory_is_a_message(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(UsageError, match="cannot be written: Not a directory"):
        write_json(PASSED, tmp_path / "file" / "comparison.json")
