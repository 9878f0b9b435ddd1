"""run.py sample NAME: the checkpoint of a sample model, written by its own framework."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from commands.console import Console
from spec.errors import UsageError, did_you_mean


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from samples import SAMPLES

    listing = "; ".join(f"{name}: {row.description}" for name, row in SAMPLES.items())
    parser.add_argument("name", help=listing)
    parser.add_argument("--output", type=Path, metavar="DIR", help="default models/<name>/")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random weights (default 0)")


def run(options: argparse.Namespace, console: Console) -> int:
    write_sample(options.name, options.output or Path("models") / options.name, options.seed, console)
    return 0


def write_sample(name: str, directory: Path, seed: int, console: Console) -> None:
    """Writes a sample's checkpoint.

    Raises:
        UsageError: no such sample, its framework is not installed, or the directory cannot be written.
    """
    from engine.atomic_file import check_writable
    from samples import SAMPLES

    if name not in SAMPLES:
        hint = did_you_mean(name, SAMPLES) or f"; known: {', '.join(SAMPLES)}"
        raise UsageError(f"no sample '{name}'{hint}")
    row = SAMPLES[name]
    check_writable(directory)
    with console.stage("sample") as found:
        try:
            paths = importlib.import_module(row.module).write(directory, seed)
        except ModuleNotFoundError as error:
            raise UsageError(f"sample '{name}' is written by {row.framework}, which is missing: {error}") from None
        found.append(f"{name} by {row.framework}: {', '.join(path.name for path in paths)} in {directory}")
