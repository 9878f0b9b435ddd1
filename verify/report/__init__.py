"""What a comparison says, for people and for programs.

Comparison --print_table, verdict_lines--> terminal
           --write_json--> comparison.json
           --write_page--> report.html: one file, opens without a network
"""

from __future__ import annotations

import json
from pathlib import Path

from engine.atomic_file import write_whole
from verify.compare import Comparison
from verify.report.page import ReportArrays, require_packages, worst_layers, write_page
from verify.report.terminal import print_table, verdict_lines

__all__ = [
    "ReportArrays",
    "print_table",
    "require_packages",
    "verdict_lines",
    "worst_layers",
    "write_json",
    "write_page",
]


def write_json(comparison: Comparison, path: Path) -> None:
    """Everything in the comparison as JSON without NaN or Infinity literals; raises UsageError where it cannot."""
    text = json.dumps(comparison.as_json(), indent=2, allow_nan=False)
    write_whole(Path(path), f"{text}\n".encode())
