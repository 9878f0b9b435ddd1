"""run.py record: the source framework's activations into a file, so that later comparisons need no framework."""

from __future__ import annotations

import argparse
from pathlib import Path

from commands import verification
from commands.configs import shown
from commands.console import Console
from commands.stages import add_config_arguments, prepare, read_config
from spec.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    verification.add_input_argument(parser)
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default out/<model>/<model>.activations.safetensors"
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Records; returns the exit code."""
    from engine.atomic_file import check_file
    from engine.manifest import sha256_of_files
    from verify.recorded import Origin, record

    model, graph = read_config(options, console)
    if model.reference is None or model.reference.activations is not None:
        raise UsageError(f"{model.path}: needs a `reference` with graph, keras or callable to record from")
    output = options.output or Path("out") / model.name / f"{model.name}.activations.safetensors"
    check_file(output)
    prepared = prepare(options, console, model, graph)
    activations = verification.reference_activations(options, console, prepared)
    with console.stage("write") as found:
        record(output, activations, Origin(model.name, sha256_of_files(prepared.checkpoint.files)))
        found.append(
            f"{shown(output)}, {output.stat().st_size / 1e6:,.1f} MB; use it with reference: {{activations: ...}}"
        )
    return 0
