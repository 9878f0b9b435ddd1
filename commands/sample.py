"""run.py sample NAME: the checkpoint of a sample model, written by its own framework."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

from commands.configs import shown
from commands.console import Console
from spec.errors import MissingFramework, UsageError, did_you_mean

ROOT = Path(__file__).resolve().parent.parent


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
    if importlib.util.find_spec(row.framework) is None:
        raise MissingFramework(f"sample '{name}' is written by {row.framework}, which is not installed")
    check_writable(directory)
    with console.stage("sample") as found:
        # in a process of its own: its memory goes back, TensorFlow's chatter stays out of ours, and TensorFlow takes
        # its number of threads, on which the trained bits depend, from the first session of a process
        command = [sys.executable, "-m", row.module, "--output", str(directory.resolve()), "--seed", str(seed)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise UsageError(f"sample '{name}' could not be written to {directory}: {reason[0]}")
        found.append(f"{name} by {row.framework} in {shown(directory)}")
