"""One command from start to exit code: failures become sentences, Ctrl-C becomes 130, the verdict is the last line."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import Any, Callable, Iterator

from commands.console import Console
from spec.errors import TransplantFailure


def run_job(job: Callable[[], int], console: Console, command: str, always_verdict: bool = True) -> int:
    """Runs a command; returns its exit code. Without `always_verdict` only a failure ends in a verdict."""
    start = time.monotonic()
    try:
        with _noted_interrupts(console):
            code = job()
    except TransplantFailure as failure:
        console.problems(failure.problems)
        code = failure.exit_code
    except KeyboardInterrupt:
        console.problems(["interrupted; nothing half-written stays"])
        code = 130
    if always_verdict or code:
        console.verdict(code, time.monotonic() - start, command)
    return code


@contextmanager
def _noted_interrupts(console: Console) -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt as ever, and is noted, so that the next stage ends the job where it was dropped.

    TensorRT's C++ prints and drops an exception that is raised while it calls our logger.
    """

    def note(number: int, frame: Any) -> None:
        console.interrupted = True
        raise KeyboardInterrupt

    own = threading.current_thread() is threading.main_thread()
    if not own or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # no other thread may set handlers, and whoever has set one wants it
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
