"""How a build shows its progress: a bar on a terminal, elsewhere one plain line each time a tenth is done."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional

from commands.console import Console
from engine.plan import Progress

QUIET_SECONDS = 2.0
"""Builds shorter than this need no plain progress lines."""


class PlainProgress(Progress):
    """Lines for logs: the outermost phase, at most ten of them, none for a short build."""

    def __init__(self, console: Console) -> None:
        self._console, self._outermost, self._steps, self._told = console, "", 0, 0
        self._start = time.monotonic()

    def start(self, phase: str, parent: Optional[str], steps: int) -> None:
        if parent is None:
            self._outermost, self._steps, self._told = phase, max(steps, 1), 0

    def step(self, phase: str, step: int) -> None:
        tenth = (step + 1) * 10 // self._steps if phase == self._outermost else 0
        seconds = time.monotonic() - self._start
        if tenth > self._told and seconds > QUIET_SECONDS:
            self._told = tenth
            self._console.line("build", f"{phase}: {tenth * 10} %  ({seconds:.0f} s)")


class BarProgress(Progress):
    """A bar for each phase that is under way."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._tasks: Dict[str, Any] = {}

    def start(self, phase: str, parent: Optional[str], steps: int) -> None:
        self._tasks[phase] = self._bars.add_task(phase if parent is None else f"  {phase}", total=max(steps, 1))

    def step(self, phase: str, step: int) -> None:
        if phase in self._tasks:
            self._bars.update(self._tasks[phase], completed=step + 1)

    def finish(self, phase: str) -> None:
        if phase in self._tasks:
            self._bars.remove_task(self._tasks.pop(phase))


@contextmanager
def shown_progress(console: Console) -> Iterator[Progress]:
    """The progress that suits the console, gone from the screen when the block ends."""
    if console.verbosity < 0:
        yield Progress()
    elif not console.terminal:
        yield PlainProgress(console)
    else:
        from rich import progress

        columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.TimeElapsedColumn())
        with progress.Progress(*columns, console=console.rich(), transient=True) as bars:
            yield BarProgress(bars)
