"""Ctrl-C and SIGTERM held until what must not be cut in two is done.

    signal ─> noted │ the block ends │ handlers as before, the first signal raised again ─> whoever handles it
"""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack, contextmanager
from typing import Iterator, List

ENDS = (signal.SIGINT, signal.SIGTERM)
"""What asks a program to end and lets it clean up: Ctrl-C; `kill`, `timeout`, `docker stop`, systemd."""


@contextmanager
def held_interrupts() -> Iterator[List[int]]:
    """Notes each signal of ENDS while the block runs; the first takes its effect when the block is over.

    Yields:
        The numbers noted so far, for a block that can end early.
    """
    held: List[int] = []
    with ExitStack() as stack:
        stack.callback(lambda: [signal.raise_signal(number) for number in held[:1]])  # runs last
        if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
            for number in ENDS:
                before = signal.getsignal(number)
                if before not in (signal.SIG_IGN, None):  # a shell starts its background jobs deaf to Ctrl-C
                    stack.callback(signal.signal, number, before)
                    signal.signal(number, lambda noted, frame: held.append(noted))
        yield held
