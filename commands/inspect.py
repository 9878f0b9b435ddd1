"""run.py inspect CHECKPOINT: every tensor with its shape and dtype, and the format that was recognised."""

from __future__ import annotations

import argparse
from math import prod
from pathlib import Path

from commands.console import Console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="a file, a TensorFlow prefix or a directory")
    parser.add_argument("--key", help="PyTorch: where in the file the state_dict lies")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the list as JSON too")


def run(options: argparse.Namespace, console: Console) -> int:
    from weights import FORMATS, open_checkpoint

    checkpoint = open_checkpoint(options.checkpoint, options.key)
    tensors = checkpoint.tensors
    numbers = sum(prod(info.shape) for info in tensors.values())
    console.line("format", f"{FORMATS[checkpoint.format].title}: {checkpoint.detail}")
    console.line("files", ", ".join(str(path) for path in checkpoint.files))
    rows = [[name, "x".join(map(str, info.shape)) or "scalar", info.dtype] for name, info in tensors.items()]
    console.table(f"{len(tensors)} tensors, {numbers:,} numbers", ["tensor", "shape", "dtype"], rows)
    if options.json:
        from engine import atomic_file

        listing = {name: {"shape": list(info.shape), "dtype": info.dtype} for name, info in tensors.items()}
        report = {
            "path": str(checkpoint.path),
            "format": checkpoint.format,
            "detail": checkpoint.detail,
            "tensors": listing,
        }
        atomic_file.write_whole(options.json, atomic_file.json_bytes(report))
    return 0
