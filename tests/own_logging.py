"""For tests that run run.py in their own process, where it sets up logging for itself."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import Iterator

import pytest


@contextmanager
def restored() -> Iterator[None]:
    """Afterwards pytest has its own handlers again; those of run.py hold a stream that is closed."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:], root.level = handlers, level


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    with restored():
        yield
