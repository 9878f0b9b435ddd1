"""run.py precisions: the error of every layer in fp32, tf32, fp16 and int8 side by side: 1e-3 need not be a bug.

    on a GPU     an engine of each precision that is looked into, and the outputs of one as it is shipped; of an int8
                 engine only what lies between its kernels
    on the CPU   the network definition, every tensor rounded as its layer's precision has it; tf32 only a GPU has
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from commands import build_arguments, engines, verification
from commands.build_arguments import WORDS
from commands.console import Console
from commands.stages import Prepared, add_config_arguments, prepare, read_config
from spec.errors import UsageError


class Column(NamedTuple):
    """Relative L2 errors in one precision, by tensor name; `shipped` and `agreement` where there are any."""

    layers: Dict[str, float]
    shipped: Dict[str, float]
    agreement: Optional[Any]  # verify.agreement.Agreement


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    verification.add_input_argument(parser)
    verification.add_reference_argument(parser)
    words = f"some of {','.join(WORDS)} (default: all; without a GPU all but tf32)"
    parser.add_argument("--precisions", type=_words, metavar="WORD,...", help=words)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the errors as JSON")
    parser.add_argument("--all", action="store_true", help="print every layer, not only the worst")
    engines.add_on_argument(parser)
    engines.add_agreement_argument(parser)
    build_arguments.add_arguments(parser)


def _words(text: str) -> List[str]:
    words = [word.strip() for word in text.split(",")]
    if not set(words) <= set(WORDS):
        raise argparse.ArgumentTypeError(f"wanted some of {','.join(WORDS)}, found {text}")
    return list(dict.fromkeys(words))


def run(options: argparse.Namespace, console: Console) -> int:
    """Prints the table; returns the exit code."""
    from engine.atomic_file import check_file
    from engine.tolerance import coarsest

    engines.refuse_precision(options, "say --precisions, which may be several")
    gpu = engines.on_gpu(options)
    if options.json:
        check_file(options.json)
    model, graph = read_config(options, console)
    words = _wanted(options, console, model, gpu)
    prepared = prepare(options, console, model, graph)
    judged = prepared._replace(model=_in_precision(model, coarsest(words)))  # which says on what images
    activations = verification.any_activations(options, console, judged)
    measure = _on_gpu if gpu else _on_cpu
    columns: Dict[str, Column] = {}
    for word in words:
        with console.stage(word) as found:
            columns[word] = measure(options, console, prepared, _in_precision(model, word), activations)
            found += _said(columns[word])
    _print(console, graph, columns, options.all)
    if options.json:
        _write(options.json, activations, columns)
    return 0


def _in_precision(model: Any, word: str) -> Any:
    """The config with one precision for all layers."""
    return model.model_copy(update={"precision": type(model.precision)(default=word)})


def _wanted(options: argparse.Namespace, console: Console, model: Any, gpu: bool) -> List[str]:
    """The precisions that can be measured here; what cannot is refused if asked for, else left out, int8 aloud."""
    asked = options.precisions or []
    if "tf32" in asked and not gpu:
        raise UsageError("--precisions tf32: only a GPU rounds so; leave it out here")
    words = asked or [word for word in WORDS if gpu or word != "tf32"]
    if "int8" not in words or model.ranges is not None:
        return words
    lacking = "the config names no `ranges`; write them with `run.py calibrate`"
    if asked:
        raise UsageError(f"--precisions int8: {lacking}")
    console.line("int8", f"left out: {lacking}")
    return [word for word in words if word != "int8"]


def _on_gpu(
    options: argparse.Namespace, console: Console, prepared: Prepared, model: Any, activations: Any
) -> Column:
    seen, agreement = engines.look(options, console, prepared, model, activations.inputs)
    return Column(_errors(seen.inside, activations.arrays), _errors(seen.shipped, activations.arrays), agreement)


def _on_cpu(
    options: argparse.Namespace, console: Console, prepared: Prepared, model: Any, activations: Any
) -> Column:
    from engine.emulation import interpreter_of

    interpreter = interpreter_of(engines.defined(prepared, model))
    arrays = interpreter.run(activations.inputs, prepared.graph.made)
    count = options.agreement
    agreement = engines.agreement_of(prepared, interpreter.run, count) if count else None
    return Column(_errors(arrays, activations.arrays), {}, agreement)


def _errors(arrays: Mapping[str, Any], reference: Mapping[str, Any]) -> Dict[str, float]:
    """||c - r|| / ||r|| by tensor, for every one that both have; another shape or NaN is infinite."""
    from verify.compare import Tolerance, difference

    errors: Dict[str, float] = {}
    for name in (name for name in reference if name in arrays):
        try:
            errors[name] = difference(arrays[name], reference[name], Tolerance()).relative_l2
        except ValueError:
            errors[name] = float("inf")
    return errors


def _said(column: Column) -> List[str]:
    """The worst layer, the shipped outputs and the agreement, for a line."""
    worst = max(column.layers, key=lambda name: column.layers[name])
    said = [f"worst layer {worst}: relative L2 error {column.layers[worst]:.2g}"]
    said += [f"shipped {name} {error:.2g}" for name, error in column.shipped.items()]
    return said + ([str(column.agreement)] if column.agreement is not None else [])


def _print(console: Console, graph: Any, columns: Mapping[str, Column], whole: bool) -> None:
    found = list(columns.values())
    names = [layer.name for layer in graph.layers if any(layer.name in each.layers for each in found)]
    types = {layer.name: layer.type for layer in graph.layers}
    if not whole:
        worst = {name: max(each.layers.get(name, 0.0) for each in found) for name in names}
        names = sorted(names, key=lambda name: -worst[name])[: verification.SHOWN_ROWS]
    rows = [[name, types[name], *(_shown(each.layers.get(name)) for each in found)] for name in names]
    for name in graph.outputs:
        if all(name in each.shipped for each in found):
            rows.append([name, "as shipped", *(f"{each.shipped[name]:.1e}" for each in found)])
    title = f"{graph.name}: relative L2 error of each layer against the reference"
    console.table(title if whole else f"{title}, the worst", ["layer", "type", *columns], rows)


def _shown(error: Optional[float]) -> str:
    return "fused" if error is None else f"{error:.1e}"


def _write(path: Path, activations: Any, columns: Mapping[str, Column]) -> None:
    from engine.atomic_file import json_bytes, json_number, write_whole

    plain: Dict[str, Any] = {"reference": activations.title, "input": activations.input_title}
    plain.update(relative_l2={}, shipped_relative_l2={}, agreement={})
    for word, column in columns.items():
        for key, errors in (("relative_l2", column.layers), ("shipped_relative_l2", column.shipped)):
            plain[key][word] = {name: json_number(error) for name, error in errors.items()}
        if column.agreement is not None:
            plain["agreement"][word] = column.agreement.as_json()
    write_whole(path, json_bytes(plain))
