"""run.py sample NAME: the checkpoint of a sample model, written by its own framework."""

from __future__ import annotations

import argparse
import filecmp
import importlib.util
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional

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


def write_sample(name: str, directory: Path, seed: int, console: Console, wanted: Optional[Path] = None) -> None:
    """Writes a sample's checkpoint into a directory, over nothing that lies there.

    Args:
        wanted: the checkpoint that it is written for, which must be one of its files.

    Raises:
        UsageError: no such sample, its framework is not installed, the directory cannot be written, or has other files
            of these names.
    """
    from samples import SAMPLES

    if name not in SAMPLES:
        hint = did_you_mean(name, SAMPLES) or f"; known: {', '.join(SAMPLES)}"
        raise UsageError(f"no sample '{name}'{hint}")
    row = SAMPLES[name]
    if importlib.util.find_spec(row.framework) is None:
        cure = "pip install -e '.[frameworks]', or copy a checkpoint that was written elsewhere"
        raise MissingFramework(f"sample '{name}' is written by {row.framework}, which is not installed: {cure}")
    with console.stage("sample") as found, _scratch(directory) as scratch:
        _run_sample(name, row.module, scratch, seed)
        _move(name, scratch, directory, wanted)
        found.append(f"{name} by {row.framework} in {shown(directory)}")


@contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """A folder below the directory, which goes again; the directory too, where it was made for this and stays empty."""
    from engine.atomic_file import check_writable, for_a_moment

    check_writable(directory)
    with for_a_moment(directory), tempfile.TemporaryDirectory(dir=directory, prefix=".sample-") as scratch:
        yield Path(scratch)


def _run_sample(name: str, module: str, directory: Path, seed: int) -> None:
    """In a process of its own: its memory goes back, and TensorFlow's chatter stays out of ours.

    And TensorFlow takes its number of threads, on which the trained bits depend, from the first session of a process.
    """
    command = [sys.executable, "-m", module, "--output", str(directory.resolve()), "--seed", str(seed)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise UsageError(f"sample '{name}' could not be written: {reason[0]}")


def _move(name: str, scratch: Path, directory: Path, wanted: Optional[Path]) -> None:
    """The files to where they belong; identical ones lie there already."""
    files = sorted(scratch.iterdir())
    written = ", ".join(path.name for path in files)
    if wanted is not None and not any(path.name.startswith(wanted.name) for path in files):
        raise UsageError(f"{wanted}: no such file, and sample '{name}' does not write it but {written}")
    others = [path.name for path in files if _is_other(path, directory / path.name)]
    if others:
        raise UsageError(f"sample '{name}': {directory} has other files named {', '.join(others)}; nothing was written")
    for path in files:
        os.replace(path, directory / path.name)


def _is_other(path: Path, there: Path) -> bool:
    return there.exists() and not filecmp.cmp(path, there, shallow=False)
