"""engine.interruption: a signal that comes within the block takes its effect behind it, and every handler is back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from engine.interruption import ENDS, held_interrupts

ROOT = Path(__file__).resolve().parents[1]


class Ended(Exception):
    """What the handlers of these tests raise, with the signal's number."""


def end(number: int, frame: Any) -> None:
    raise Ended(number)


@pytest.fixture
def raising() -> Iterator[None]:
    before = {number: signal.signal(number, end) for number in ENDS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDS)
def test_a_signal_waits_for_the_end_of_the_block(raising, number):
    done: List[int] = []
    with pytest.raises(Ended, match=f"^{int(number)}$"):
        with held_interrupts() as held:
            os.kill(os.getpid(), number)
            done.extend(held)
        done.append(0)
    assert done == [number]
    assert [signal.getsignal(each) for each in ENDS] == [end, end]


def test_the_first_of_several_signals_is_the_one(raising):
    with pytest.raises(Ended, match=f"^{int(signal.SIGTERM)}$"), held_interrupts() as held:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
    assert held == [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]


def test_an_error_of_the_block_does_not_drop_the_signal(raising):
    with pytest.raises(Ended), held_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError("the disk is full")
    assert [signal.getsignal(each) for each in ENDS] == [end, end]


def test_without_a_signal_nothing_happens(raising):
    with held_interrupts() as held:
        pass
    assert held == [] and [signal.getsignal(each) for each in ENDS] == [end, end]


def test_a_signal_that_is_ignored_stays_ignored(raising):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with held_interrupts() as held:
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert held == [] and signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_another_thread_sets_no_handlers(raising):
    seen: List[Any] = []

    def run() -> None:
        with held_interrupts():
            seen.extend(signal.getsignal(number) for number in ENDS)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [end, end]


def test_where_nobody_handles_it_the_process_ends_behind_the_block():
    code = (
        "import os, signal\nfrom engine.interruption import held_interrupts\n"
        "with held_interrupts():\n    os.kill(os.getpid(), signal.SIGTERM)\n    print('whole', flush=True)\n"
        "print('behind')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "whole\n", "")
