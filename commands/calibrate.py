"""run.py calibrate: the activation ranges of int8, from images run through the network on the CPU."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict, Iterator

from commands.configs import shown
from commands.console import Console
from commands.stages import add_config_arguments, prepare, read_config
from spec.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    images = "a folder of images or .npy files, one .npy with many images, or random:COUNT (default random:8)"
    parser.add_argument("--images", default="random:8", metavar="WHAT", help=images)
    methods = ("min_max", "percentile", "entropy")
    parser.add_argument("--method", choices=methods, default="percentile", help="default percentile: 99.99 %% fit")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default out/<model>/<model>.ranges.json")


def run(options: argparse.Namespace, console: Console) -> int:
    """Calibrates; returns the exit code."""
    from engine import calibration
    from engine.atomic_file import check_writable
    from engine.interpreter import Interpreter
    from engine.precision import quantized_tensors

    model, graph = read_config(options, console)
    output = options.output or Path("out") / model.name / f"{model.name}.ranges.json"
    check_writable(output.parent)
    definition = prepare(options, console, model, graph).definition
    with console.stage("calibrate") as found:
        tensors = quantized_tensors(graph, dict.fromkeys([layer.name for layer in graph.layers], "int8"))
        interpreter = Interpreter(definition.network, definition.tensorrt.module)
        count = 0

        def counted() -> Iterator[Dict[str, Any]]:
            nonlocal count
            for inputs in _batches(graph, options.images):
                count += 1
                yield inputs

        ranges = calibration.calibrate(interpreter.run, counted(), tensors, options.method)
        found.append(f"{len(ranges)} tensors from {count} inputs of {options.images}, {options.method}")
    about = {"model": model.name, "method": options.method, "images": options.images, "count": count}
    calibration.write_ranges(output, ranges, about)
    console.line("write", f"{shown(output)}; name it in the config with ranges: {output.resolve()}")
    return 0


def _batches(graph: Any, wish: str) -> Iterator[Dict[str, Any]]:
    """Inputs by name, one image after another."""
    import numpy as np

    from verify.inputs import batch_size, check_input, make_inputs, read_inputs

    if wish.startswith("random:"):
        if not wish[7:].isdigit() or int(wish[7:]) < 1:
            raise UsageError(f"--images {wish}: wanted random:COUNT, for example random:8")
        for seed in range(int(wish[7:])):
            yield make_inputs(graph, f"random:{seed}")[0]
        return
    path = Path(wish)
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.is_file() and not each.name.startswith("."))
        if not files:
            raise UsageError(f"--images {wish}: the folder is empty")
        for file in files:
            yield make_inputs(graph, str(file))[0]
        return
    if not path.is_file() or path.suffix != ".npy" or len(graph.inputs) > 1:
        raise UsageError(f"--images {wish}: wanted a folder, an .npy file for a network of one input, or random:COUNT")
    arrays = read_inputs(path, graph)
    name, size = next(iter(graph.inputs)), batch_size(graph)
    if not np.ndim(arrays[name]):
        check_input(graph, wish, name, arrays[name])
    for first in range(0, len(arrays[name]) - size + 1, size):
        inputs = {name: np.ascontiguousarray(arrays[name][first : first + size])}
        check_input(graph, wish, name, inputs[name])
        yield inputs
