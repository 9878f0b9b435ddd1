"""For the user's own tests: every layer of a config against its source framework, in three lines.

from commands.testing import assert_layers_agree

def test_my_model():
    assert_layers_agree("configs/mine.yaml")
"""

from __future__ import annotations

import argparse
import logging
from contextlib import contextmanager
from typing import Any, Iterator, Optional

from commands import verification
from commands.console import Console
from commands.stages import prepare, read_config


def compare_layers(
    config: str,
    *overrides: str,
    input: Optional[str] = None,
    atol: float = 0.0,
    rtol: float = 1e-5,
    backend: str = "auto",
) -> Any:
    """The comparison that `run.py diff` prints, as a verify.compare.Comparison.

    Args:
        config: a YAML file, or the name of one in configs/.
        overrides: `key=value` strings, as `--set` takes them.
        input: `random:SEED`, `structured:SEED`, an .npy, .npz or image file; the recorded one or `random:0` by default.
        atol, rtol: a layer passes if |c - r| <= atol + rtol * max|r|.
        backend: auto, tensorrt or tensorrt_rtx.

    Raises:
        TransplantFailure: the config, the checkpoint or the reference is not usable.
    """
    options = argparse.Namespace(
        config=config, set=list(overrides), sample=False, ledger=False, backend=backend,
        input=input, atol=atol, rtol=rtol, report=None,
    )  # fmt: skip
    with _logging_kept():
        console = Console(verbosity=-1)
        return verification.compare(options, console, prepare(options, console, *read_config(options, console)))


def assert_layers_agree(config: str, *overrides: str, **options: Any) -> None:
    """Fails with the first bad layer, its worst element and its diagnosis; arguments as for `compare_layers`."""
    from verify.report import verdict_lines

    comparison = compare_layers(config, *overrides, **options)
    assert comparison.passed, "\n".join(verdict_lines(comparison))


@contextmanager
def _logging_kept() -> Iterator[None]:
    """The command line sets up logging for a process of its own; a test's handlers, pytest's caplog, come back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
