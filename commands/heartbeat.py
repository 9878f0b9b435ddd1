"""A line now and then while TensorRT builds, where it tells nothing itself: silence for minutes looks like a hang."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import Any, Iterator

from commands.console import Console

SECONDS = 15.0


@contextmanager
def heartbeat(console: Console, tensorrt: Any, seconds: float = SECONDS) -> Iterator[None]:
    """Says every so many seconds how long the block has run; nothing where TensorRT reports its progress."""
    if tensorrt.has("progress monitor"):
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(console, tensorrt.title, seconds, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _beat(console: Console, title: str, seconds: float, ended: threading.Event) -> None:
    start = time.monotonic()
    while not ended.wait(seconds):
        console.line("build", f"{title} tells no progress; {time.monotonic() - start:.0f} s so far")
