"""What a person sees: a line a stage, tables, problems, the verdict. Rich on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Sequence

WIDTH = 9
"""Columns of the stage's name."""

LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}
"""Of log lines by verbosity, the number of -v less that of -q."""


UNPROVEN = "BUILT, NOT COMPARED"
"""The verdict of a plan that nothing was compared for."""


class Console:
    """Standard output for results, standard error for problems; times every stage on the way.

    Attributes:
        seconds: wall time by stage, filled as stages end.
        interrupted: whether Ctrl-C came; no further stage starts.
    """

    def __init__(self, verbosity: int = 0) -> None:
        self.verbosity, self.interrupted, self.passed = verbosity, False, "PASSED"
        self.seconds: Dict[str, float] = {}
        level = LEVELS[min(max(verbosity, -1), 2)]
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", force=True)

    @property
    def terminal(self) -> bool:
        return sys.stdout.isatty()

    def line(self, name: str, text: str) -> None:
        """One line of a stage."""
        if self.verbosity < 0:
            return
        if self.terminal:
            self.rich().print(f"[bold cyan]{name:<{WIDTH}}[/]", end=" ")
            self.rich().print(text, markup=False)
        else:
            print(f"{name:<{WIDTH}} {text}", flush=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[List[str]]:
        """Times a stage; the caller appends what it found, which is printed when the stage ends well."""
        if self.interrupted:
            raise KeyboardInterrupt
        start, found = time.monotonic(), []  # type: float, List[str]
        yield found
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start
        self.line(name, f"{'; '.join(found)}  ({self.seconds[name]:.2f} s)")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; on a terminal with a rule below its head, elsewhere in aligned columns. Numbers align right."""
        if self.verbosity < 0:
            return
        if self.terminal:
            self._rich_table(title, columns, rows)
            return
        widths = [max(len(str(row[i])) for row in [columns, *rows]) for i in range(len(columns))]
        print(title)
        for row in [columns, *rows]:
            print(
                "  ".join(f"{cell:>{w}}" if _numeric(cell) else f"{cell:<{w}}" for cell, w in zip(row, widths)).rstrip()
            )

    def _rich_table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for index, column in enumerate(columns):
            numeric = all(_numeric(row[index]) for row in rows)
            table.add_column(column, justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
        for row in rows:
            table.add_row(*(escape(str(cell)) for cell in row))
        self.rich().print(table)

    def problems(self, problems: Sequence[str]) -> None:
        """Every problem on standard error."""
        for problem in problems:
            print(f"error: {problem}", file=sys.stderr)

    def verdict(self, code: int, seconds: float, command: str) -> None:
        """The last line: FAILED, or that it passed and what, how long, which command."""
        sys.stderr.flush()
        print(f"{'FAILED' if code else self.passed} | Runtime: {seconds:.1f} s | Command: {command}", flush=True)

    def rich(self) -> Any:
        """Rich's console, made when first needed."""
        if not hasattr(self, "_rich"):
            from rich.console import Console as RichConsole

            self._rich = RichConsole(soft_wrap=True, highlight=False)
        return self._rich


def _numeric(cell: str) -> bool:
    return str(cell).replace(",", "").replace(".", "").replace("-", "").replace("e", "").isdigit()
