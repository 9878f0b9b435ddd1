"""run.py diff: every layer beside the source framework's own activations, worst first; builds nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from commands import verification
from commands.console import Console
from commands.stages import add_config_arguments, prepare, read_config
from spec.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    verification.add_arguments(parser)
    parser.add_argument("--all", action="store_true", help="print every layer, not only the worst")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison as JSON")


def run(options: argparse.Namespace, console: Console) -> int:
    """Runs the comparison; returns the exit code."""
    from engine.atomic_file import check_writable
    from verify.report import print_table, write_json

    model, graph = read_config(options, console)
    if model.reference is None:
        raise UsageError(f"{model.path}: names no `reference` to compare with; see configs/model1.yaml")
    for directory in filter(None, (options.json and options.json.parent, options.report)):
        check_writable(directory)
    comparison = verification.compare(options, console, prepare(options, console, model, graph))
    print_table(comparison, console.rich(), None if options.all else verification.SHOWN_ROWS)
    verification.Proof("", comparison).print(console)
    if options.json:
        write_json(comparison, options.json)
    return 0 if comparison.passed else 1
