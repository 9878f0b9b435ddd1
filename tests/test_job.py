"""commands.job: the exit code of what a command raises, and a signal that TensorRT's C++ has dropped."""

from __future__ import annotations

import os
import signal

import pytest

from commands.console import Console
from commands.job import DEFAULTS, run_job
from engine.network import create_builder
from spec.errors import TensorRTError, UsageError
from tests.backends import rtx


def test_a_job_ends_in_its_code_and_a_verdict(capsys):
    assert run_job(lambda: 0, Console(), "run.py x") == 0
    assert run_job(lambda: 1, Console(), "run.py x", always_verdict=False) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" | ")[0] for line in lines] == ["PASSED", "FAILED"]
    assert run_job(lambda: 0, Console(), "run.py x", always_verdict=False) == 0
    assert capsys.readouterr().out == ""


ENDS = [(UsageError("wrong"), 2), (TensorRTError("no"), 1), (KeyboardInterrupt(), 130)]


@pytest.mark.parametrize("error, code", ENDS)
def test_what_a_job_raises_becomes_a_sentence(capsys, error, code):
    def job() -> int:
        raise error

    assert run_job(job, Console(), "run.py x") == code
    found = capsys.readouterr()
    assert found.err.startswith("error: ") and found.out.startswith("FAILED | Runtime: ")


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_a_callback_of_tensorrt_ends_the_job_at_the_next_stage(monkeypatch, number, code):
    """TensorRT calls our logger from C++, which prints and drops what is raised there."""
    tensorrt = rtx()
    network = create_builder(tensorrt).create_network(0)
    monkeypatch.setattr(tensorrt.log, "add", lambda level, text: os.kill(os.getpid(), number))
    reached = []

    def job() -> int:
        network.add_input("x", tensorrt.module.float32, (1, 2))
        assert network.add_input("x", tensorrt.module.float32, (1, 2)) is None  # logs an error
        reached.append("behind the callback")
        with console.stage("next"):
            reached.append("the next stage")
        return 0

    console = Console()
    assert run_job(job, console, "run.py x") == code
    assert reached == ["behind the callback"] and console.interrupted
    assert {each: signal.getsignal(each) for each in DEFAULTS} == DEFAULTS
