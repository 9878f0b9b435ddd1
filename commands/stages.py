"""The stages that every job shares, each one line on the console: config, weights, network definition."""

from __future__ import annotations

import argparse
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from commands.configs import shown
from commands.console import Console
from commands.defining import define_in_precision
from spec.errors import CheckpointError, UsageError


class Prepared(NamedTuple):
    """What the stages before a build, a comparison or a bundle have made."""

    model: Any  # spec.model.ModelSpec
    graph: Any  # spec.graph.Graph
    checkpoint: Any  # weights.checkpoint.Checkpoint
    weights: Any  # weights.transplant.Weights
    definition: Any  # engine.network.Definition


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say which model, from where, with which TensorRT."""
    parser.add_argument("--config", required=True, metavar="FILE", help="a YAML file, or the name of one in configs/")
    add_changes(parser)


def add_changes(parser: argparse.ArgumentParser) -> None:
    """The options that go with a config."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the YAML")
    parser.add_argument("--sample", action="store_true", help="write the checkpoint with its sample script if missing")
    backends = ("auto", "tensorrt", "tensorrt_rtx")
    parser.add_argument("--backend", choices=backends, default="auto", help="auto: tensorrt where a GPU answers")
    parser.add_argument("--ledger", action="store_true", help="print where every parameter came from")


def read_config(options: argparse.Namespace, console: Console) -> Any:
    """(ModelSpec, Graph) of --config; writes the sample checkpoint where that is asked for."""
    from commands.configs import load_graph

    with console.stage("config") as found:
        precision = getattr(options, "precision", None)
        model, graph = load_graph(options.config, [*options.set, *([f"precision={precision}"] if precision else [])])
        found.append(f"{shown(model.path)}: {model.architecture}, {len(graph.layers)} layers")
        inputs, outputs = (", ".join(_described(graph, names)) for names in (graph.inputs, graph.outputs))
        found.append(f"{inputs} -> {outputs}")
    if options.sample:
        _write_sample(model, console)
    return model, graph


def prepare(options: argparse.Namespace, console: Console, model: Any, graph: Any) -> Prepared:
    """Weights transplanted and the network defined; every problem up to there ends the job."""
    checkpoint, weights = _weights(options, console, model, graph)
    return Prepared(model, graph, checkpoint, weights, _definition(options, console, graph, weights))


def in_precision(prepared: Prepared, names: Optional[Mapping[Tuple[str, str], str]] = None) -> Any:
    """The network as it is to be built: the proven one, or, where its precision is another, defined anew in that.

    `names` are what its weights are to be called, by (layer, role), where not as in the checkpoint.
    """
    model, definition = prepared.model, prepared.definition
    if names is None and model.precision.words == ("fp32",):
        return definition
    names = tensor_names(prepared.weights) if names is None else names
    return define_in_precision(prepared.graph, prepared.weights.arrays, model, definition.tensorrt, names)


def tensor_names(weights: Any) -> Dict[Tuple[str, str], str]:
    """What the checkpoint calls each parameter, by (layer, role)."""
    return {(row.layer, row.role): row.tensor for row in weights.ledger}


def _described(graph: Any, names: Sequence[str]) -> List[str]:
    from spec.shapes import show

    return [f"{name} {graph.tensors[name].dtype} {show(graph.tensors[name].shape)}" for name in names]


def _write_sample(model: Any, console: Console) -> None:
    from commands.sample import write_sample

    if model.sample is None:
        raise UsageError(f"{model.path}: names no sample that could write {model.weights_path}")
    if not list(model.weights_path.parent.glob(f"{model.weights_path.name}*")):
        write_sample(model.sample, model.weights_path.parent, 0, console, model.weights_path)


def _weights(options: argparse.Namespace, console: Console, model: Any, graph: Any) -> Any:
    from weights import convention_of, open_checkpoint
    from weights.transplant import transplant

    with console.stage("weights") as found:
        try:
            checkpoint = open_checkpoint(model.weights_path, model.weights.key)
        except CheckpointError as error:
            place = model.place("weights", "path")
            raise CheckpointError([f"{place}: {problem}" for problem in error.problems]) from None
        weights = transplant(graph, checkpoint, model.weights, convention_of(checkpoint, model.weights.convention))
        numbers = sum(array.size for array in weights.arrays.values())
        found.append(f"{checkpoint.path.name}: {checkpoint.detail}")
        averages = weights.averages(model.weights.average)
        found.append(f"{len(weights.ledger)} of {len(checkpoint)} tensors{averages}, {numbers:,} parameters")
    if options.ledger:
        rows = [[row.layer, row.role, row.tensor, row.rule, row.dtype, row.sha256[:12]] for row in weights.ledger]
        console.table("ledger", ["layer", "role", "tensor", "layout", "dtype", "sha256"], rows)
    return checkpoint, weights


def _definition(options: argparse.Namespace, console: Console, graph: Any, weights: Any) -> Any:
    from engine.network import define
    from engine.tensorrt_api import load

    with console.stage("define") as found:
        tensorrt = load(options.backend)
        definition = define(graph, weights.arrays, tensorrt, tensor_names=tensor_names(weights))
        found.append(f"{tensorrt.title}: {len(definition.network)} TensorRT layers, every shape as inferred")
    return definition
