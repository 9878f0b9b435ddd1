"""One command from start to exit code: failures are sentences, Ctrl-C is 130, SIGTERM 143, the verdict comes last."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Iterator, List

from commands.console import Console
from spec.errors import TransplantFailure

DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
"""What Python does about the signals that end a job, where nobody has said otherwise."""

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM"}


def run_job(job: Callable[[], int], console: Console, command: str, always_verdict: bool = True) -> int:
    """Runs a command; returns its exit code. Without `always_verdict` only a failure ends in a verdict."""
    start = time.monotonic()
    with _noted_signals(console) as noted:
        try:
            code = job()
        except TransplantFailure as failure:
            console.problems(failure.problems)
            code = failure.exit_code
        except KeyboardInterrupt:
            end = noted[0] if noted else signal.SIGINT
            console.problems([f"{WORDS[end]}; nothing half-written stays"])
            code = 128 + end  # as a shell counts
        if always_verdict or code:
            console.verdict(code, time.monotonic() - start, command)
    return code


@contextmanager
def _noted_signals(console: Console) -> Iterator[List[signal.Signals]]:
    """Ctrl-C and SIGTERM raise KeyboardInterrupt, and are noted: where that is dropped, the next stage ends the job.

    TensorRT's C++ prints and drops an exception that is raised while it calls our logger. A second SIGTERM does
    nothing: `timeout` sends two, and the second must not cut short what cleans up after the first.
    """
    noted: List[signal.Signals] = []

    def note(number: int, frame: Any) -> None:
        repeated = number == signal.SIGTERM and number in noted
        noted.append(signal.Signals(number))
        console.interrupted = True
        if not repeated:
            raise KeyboardInterrupt

    with ExitStack() as stack:
        own = threading.current_thread() is threading.main_thread()
        for number, default in DEFAULTS.items() if own else ():  # no other thread may set handlers
            if signal.getsignal(number) is default:  # whoever has set one wants it
                stack.callback(signal.signal, number, default)
                signal.signal(number, note)
        yield noted
