"""run.py schema: the JSON Schema of configs, so that editors complete and check them; or the layers for people."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from commands.console import Console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layers", action="store_true", help="every layer with its keys, as Markdown (docs/layers.md)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")


def run(options: argparse.Namespace, console: Console) -> int:
    from builders import ARCHITECTURES
    from spec.layer_page import layer_page
    from spec.schema import json_schema

    text = layer_page() if options.layers else json.dumps(json_schema(ARCHITECTURES), indent=2) + "\n"
    if options.output is None:
        print(text, end="")
    else:
        from engine.atomic_file import write_whole

        write_whole(options.output, text.encode())
    return 0
