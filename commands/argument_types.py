"""Numbers on the command line, for argparse's `type`: each with the sentence that refuses what is none."""

from __future__ import annotations

import argparse
from typing import Callable

LARGEST = 1e9
"""Beyond it no number of seconds or of errors means anything, infinity included."""


def whole(least: int) -> Callable[[str], int]:
    """A whole number from `least` on."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"wanted a whole number from {least} on, found '{text}'")
        return int(text)

    return read


def from_zero(text: str) -> float:
    """0 or above."""
    value = _number(text)
    if not 0 <= value < LARGEST:
        raise argparse.ArgumentTypeError(f"wanted a number from 0 on, found '{text}'")
    return value


def above_zero(text: str) -> float:
    """Above 0."""
    value = _number(text)
    if not 0 < value < LARGEST:
        raise argparse.ArgumentTypeError(f"wanted a number above 0, found '{text}'")
    return value


def _number(text: str) -> float:
    """NaN, which fits no range, for what is no number."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
