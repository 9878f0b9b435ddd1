"""run.py precisions: the error of every layer in fp32, fp16 and int8 side by side, so that 1e-3 is not taken for a bug.

On a strongly typed TensorRT (TensorRT-RTX, 11) the network is run on the CPU, every tensor rounded as it is typed. On
the others a network does not show its precision, so an engine with every layer marked is run on the GPU.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict, List, Mapping

from commands import verification
from commands.build_arguments import WORDS
from commands.console import Console
from commands.stages import Prepared, add_config_arguments, precision_of, prepare, read_config
from spec.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    verification.add_input_argument(parser)
    words = "default fp32,fp16,int8; tf32 on a GPU"
    parser.add_argument("--precisions", type=_words, default="fp32,fp16,int8", metavar="WORD,...", help=words)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the errors as JSON")
    parser.add_argument("--all", action="store_true", help="print every layer, not only the worst")


def _words(text: str) -> List[str]:
    words = [word.strip() for word in text.split(",")]
    if not set(words) <= set(WORDS):
        raise argparse.ArgumentTypeError(f"wanted some of {','.join(WORDS)}, found {text}")
    return words


def run(options: argparse.Namespace, console: Console) -> int:
    """Prints the table; returns the exit code."""
    from engine.atomic_file import json_bytes, write_whole

    model, graph = read_config(options, console)
    words = options.precisions
    if "int8" in words and model.ranges is None:
        words.remove("int8")
        console.line("int8", "left out: the config names no `ranges`; write them with `run.py calibrate`")
    if model.reference is None:
        raise UsageError(f"{model.path}: names no `reference` to compare with; see configs/model1.yaml")
    prepared = prepare(options, console, model, graph)
    activations = verification.reference_activations(options, console, prepared)
    errors: Dict[str, Dict[str, float]] = {}
    for word in words:
        with console.stage(word) as found:
            arrays = _run(prepared, word, activations.inputs)
            errors[word] = _errors(arrays, activations.arrays)
            worst = max(errors[word], key=lambda name: errors[word][name])
            found.append(f"worst layer {worst}: relative L2 error {errors[word][worst]:.2g}")
    _print(console, graph, errors, words, options.all)
    if options.json:
        write_whole(options.json, json_bytes({"reference": activations.title, "relative_l2": errors}))
    return 0


def _run(prepared: Prepared, word: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tensors of every layer in one precision."""
    from engine.build_options import PlanOptions
    from engine.execution import run_definition
    from engine.interpreter import Interpreter
    from engine.network import define, mark_every_tensor
    from engine.plan import Progress
    from engine.precision import FP32

    model = prepared.model.model_copy(update={"precision": type(prepared.model.precision)(default=word)})
    tensorrt, graph = prepared.definition.tensorrt, prepared.graph
    precision = FP32 if word == "fp32" else precision_of(model, graph, tensorrt)
    definition = define(graph, prepared.weights.arrays, tensorrt, precision)
    names = [name for layer in graph.layers for name in layer.tensor_names]
    if tensorrt.is_rtx or precision.typed:
        if word == "tf32":
            raise UsageError("--precisions tf32: only a GPU rounds so; leave it out here")
        return Interpreter(definition.network, tensorrt.module).run(inputs, names)
    mark_every_tensor(definition)
    return run_definition(definition, inputs, PlanOptions(), Progress())


def _errors(arrays: Mapping[str, Any], reference: Mapping[str, Any]) -> Dict[str, float]:
    """||c - r|| / ||r|| by layer, for every layer that the reference has; another shape or NaN is infinite."""
    from verify.compare import Tolerance, difference

    errors: Dict[str, float] = {}
    for name, expected in reference.items():
        try:
            errors[name] = difference(arrays[name], expected, Tolerance()).relative_l2
        except ValueError:
            errors[name] = float("inf")
    return errors


def _print(console: Console, graph: Any, errors: Dict[str, Dict[str, float]], words: List[str], whole: bool) -> None:
    names = [layer.name for layer in graph.layers if all(layer.name in errors[word] for word in words)]
    types = {layer.name: layer.type for layer in graph.layers}
    if not whole:
        names = sorted(names, key=lambda name: -max(errors[word][name] for word in words))[: verification.SHOWN_ROWS]
    rows = [[name, types[name], *(f"{errors[word][name]:.1e}" for word in words)] for name in names]
    title = f"{graph.name}: relative L2 error of each layer against the source framework"
    console.table(title if whole else f"{title}, the worst", ["layer", "type", *words], rows)
