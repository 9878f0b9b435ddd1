"""run.py polygraphy: a script with which Polygraphy runs, inspects and debugs our network."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any, Dict, List

from commands import build_arguments
from commands.configs import load_graph, shown
from commands.console import Console
from spec.errors import UsageError

CLONE = Path(__file__).resolve().parent.parent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="FILE", help="a YAML file, or the name of one in configs/")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the YAML")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.py", help="the script")
    build_arguments.add_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Writes the script; returns the exit code."""
    from deploy.polygraphy_script import script_text
    from engine.atomic_file import check_file, write_whole

    script: Path = options.output
    if script.suffix != ".py":
        raise UsageError(f"--output {script}: Polygraphy takes scripts that end in .py only")
    check_file(script)
    overrides = _overrides(options)
    with console.stage("config") as found:
        model, graph = load_graph(options.config, overrides)
        found.append(f"{shown(model.path)}: {model.architecture}, {len(graph.layers)} layers")
    text = script_text(model.name, script, CLONE, model.path, overrides, _given(options))
    write_whole(script, text.encode())
    console.line("write", shown(script))
    place = shlex.quote(shown(script))
    console.line("next", f"polygraphy run {place} --model-type=trt-network-script --trt --trt-config-script={place}")
    console.line("", "with TensorRT-RTX: the same after POLYGRAPHY_USE_TENSORRT_RTX=1")
    return 0


def _overrides(options: argparse.Namespace) -> List[str]:
    return [*options.set, *([f"precision={options.precision}"] if options.precision else [])]


def _given(options: argparse.Namespace) -> Dict[str, Any]:
    """The build options that differ from the default.

    The build is Polygraphy's: a script could give it measurements, but not write them down afterwards.
    """
    from engine.build_options import given_options
    from engine.tensorrt_api import load

    if options.timing_cache:
        raise UsageError("--timing-cache: the script keeps none; `polygraphy run` does, with --save-timing-cache FILE")
    return given_options(build_arguments.plan_options(options, load("auto")))
