"""The stages of a build on a device: the machine, the bundle's network, its layers, its plan, its outputs.

    open_machine ─> read_network ─> check_room ─> prove_layers ─> shipped_definition ─> build ─> prove_outputs
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Mapping, NamedTuple, Sequence, Tuple

from commands import build_arguments
from commands.console import Console
from commands.defining import define_in_precision
from spec.errors import AuditError

PART = 8
"""Layers run at a time on the CPU: each tensor is compared and let go, since all of them are twice the weights."""


class Machine(NamedTuple):
    """What the build runs with.

    Attributes:
        gpu: engine.devices.device.DeviceFacts, None where the layers are run on the CPU.
        options: engine.build_options.PlanOptions of the plan as it ships.
    """

    tensorrt: Any
    gpu: Any
    options: Any


class Network(NamedTuple):
    """What the bundle describes: ModelSpec, Graph, arrays by (layer, role), and what was recorded, if anything."""

    model: Any
    graph: Any
    arrays: Dict[Tuple[str, str], Any]
    recording: Any


def open_machine(options: argparse.Namespace, console: Console, needs: Sequence[str]) -> Machine:
    """TensorRT, its GPU, and the options with a device's defaults: a timing cache, little workspace."""
    from deploy.device_checks import check_needs
    from deploy.device_memory import WORKSPACE
    from engine.build_options import apply_options
    from engine.network import create_builder
    from engine.tensorrt_api import load
    from engine.timing_cache import usable_default

    with console.stage("machine") as found:
        tensorrt = load(options.backend)
        check_needs(needs, tensorrt.module, tensorrt.title)
        gpu = _gpu(tensorrt)
        plan_options = build_arguments.plan_options(options, tensorrt)
        if plan_options.workspace is None:
            plan_options = plan_options._replace(workspace=WORKSPACE)
        if plan_options.timing_cache is None and gpu is not None:
            plan_options = plan_options._replace(timing_cache=usable_default(tensorrt, gpu.name))
        trt_builder = create_builder(tensorrt)  # outlives its configuration
        apply_options(tensorrt, trt_builder.create_builder_config(), plan_options)
        found += [tensorrt.title, gpu.name if gpu else "no GPU: TensorRT's layers are read back and run on the CPU"]
    return Machine(tensorrt, gpu, plan_options)


def _gpu(tensorrt: Any) -> Any:
    """The GPU that plans are run on; TensorRT-RTX is for building where there is none."""
    from engine.devices import open_device
    from engine.tensorrt_api import gpu_count

    if tensorrt.is_rtx or not gpu_count():
        return None
    with open_device() as device:
        return device.facts()


def check_room(
    console: Console, machine: Machine, parameters: int, layers: int, output: Path, force_memory: bool
) -> None:
    """Says what memory and disk there are; raises UsageError where they are too little.

    Args:
        layers: bytes of all layers' tensors where a GPU is to be asked for them.
    """
    from deploy.device_checks import check_disk
    from deploy.device_memory import check_memory, memory_words, read_memory

    memory, weights = read_memory(machine.gpu), 4 * parameters
    sizes = (weights, machine.options.workspace, layers)
    console.line("memory", memory_words(memory, *sizes))
    if not force_memory:
        check_memory(memory, *sizes)
    console.line("disk", check_disk(output, weights))


def read_network(console: Console, folder: Path, overrides: Sequence[str]) -> Network:
    """model.yaml, its weights as views of the mapped file, and the recorded samples."""
    from deploy.bundle_manifest import MODEL, SAMPLES, WEIGHTS
    from deploy.bundle_samples import from_file
    from weights import safetensors_file

    with console.stage("network") as found:
        model, graph = load_plain(folder / MODEL, overrides)
        arrays = stored_arrays(graph, safetensors_file.read(folder / WEIGHTS))
        samples = folder / SAMPLES
        recording = from_file(samples, safetensors_file.read(samples)) if samples.is_file() else None
        found.append(f"{len(graph.layers)} layers, {sum(array.size for array in arrays.values()):,} parameters")
    return Network(model, graph, arrays, recording)


def load_plain(path: Path, overrides: Sequence[str] = ()) -> Any:
    """(ModelSpec, Graph) of a model.yaml with every layer written out."""
    from builders.plain import Plain
    from spec.graph import build_graph
    from spec.load import load_model

    model = load_model(path, {"plain": Plain}, overrides)
    return model, build_graph(model, model.options.layers)


def stored_arrays(graph: Any, stored: Any) -> Dict[Tuple[str, str], Any]:
    """The parameters by (layer, role); raises AuditError for what is missing, unused or mis-shaped."""
    from weights.layout import parse_axes, shape_of

    slots = ((layer.name, slot) for layer, slot in graph.slots())
    wanted = {(name, slot.role): shape_of(parse_axes(slot.layout), slot.sizes) for name, slot in slots}
    names = {f"{layer}:{role}": (layer, role) for layer, role in wanted}
    problems = [f"{stored.path}: '{name}' is in one of model.yaml and weights only" for name in {*names} ^ {*stored}]
    problems += [
        f"{stored.path}: '{name}' has shape {list(stored.tensors[name].shape)}, wanted {list(wanted[key])}"
        for name, key in names.items()
        if name in stored.tensors and stored.tensors[name].shape != wanted[key]
    ]
    if problems:
        raise AuditError(sorted(problems))
    return {key: stored[name] for name, key in names.items()}


def prove_layers(console: Console, machine: Machine, network: Network, rtol: float) -> Dict[str, Any]:
    """Every recorded layer of the network in fp32; returns what the plan's manifest says of it.

    Raises:
        VerificationError: a layer differs; names the first.
    """
    from deploy.device_proof import check, layer_rows

    recording = network.recording
    with console.stage("layers") as found:
        rows = layer_rows(recording, _layer_arrays(console, machine, network), rtol)
        worst = check(rows, "layer")
        found.append(f"{len(rows)} layers as {recording.title} computed them")
        found.append(f"worst {worst.name}: {worst.error:.2g} of max|r|, allowed {worst.allowed:.2g}")
    source = {"reference": recording.title, "input": recording.input_title}
    return {"layers": len(rows), "rtol": rtol, "worst_layer": worst.name, "worst_error": worst.error, **source}


def _layer_arrays(console: Console, machine: Machine, network: Network) -> Iterable[Tuple[str, Any]]:
    """(name, tensor) of every layer: from a marked engine on the GPU, else from the layers read back."""
    from engine.execution import run_definition
    from engine.inside import expose
    from engine.interpreter import Interpreter
    from engine.network import define

    graph, inputs = _at_recorded_batch(network), network.recording.inputs
    definition = define(graph, network.arrays, machine.tensorrt)
    if machine.gpu is None:
        return run_in_parts(Interpreter(definition.network, machine.tensorrt.module), graph, inputs)
    expose(definition, "marked", graph.made)
    # where a plan runs and how its weights are packed is no matter of its layers' numbers
    plain = {"strip_weights": False, "refit": False, "dla_core": None, "gpu_fallback": False, "sparsity": False}
    options = machine.options._replace(**plain)
    return _watched(console, machine, lambda progress: run_definition(definition, inputs, options, progress)).items()


def compared_bytes(machine: Machine, network: Network) -> int:
    """Of all tensors that `prove_layers` has at once: all that the engine on a GPU returns, few on the CPU."""
    from deploy.device_memory import tensor_bytes

    if machine.gpu is None:
        return 0
    return tensor_bytes(network.graph, _recorded_batch(network))


def _at_recorded_batch(network: Network) -> Any:
    """The graph with the recorded batch alone: a Runner's buffers are as large as the largest that there may be."""
    batch = network.graph.batch
    if batch is None:
        return network.graph
    alone = dict.fromkeys(("min", "opt", "max"), _recorded_batch(network))
    return network.graph._replace(batch=batch.model_copy(update=alone))


def _recorded_batch(network: Network) -> int:
    return len(next(iter(network.recording.inputs.values())))


def run_in_parts(interpreter: Any, graph: Any, inputs: Mapping[str, Any], size: int = PART) -> Any:
    """(name, tensor) of every layer in order, of which only those are held that a later layer reads."""
    held = dict(inputs)
    for start in range(0, len(graph.layers), size):
        names = [name for layer in graph.layers[start : start + size] for name in layer.tensor_names]
        made = interpreter.run(held, names)
        yield from made.items()
        later = {name for layer in graph.layers[start + size :] for name in layer.inputs}
        held = {name: array for name, array in {**held, **made}.items() if name in later}


def shipped_definition(machine: Machine, network: Network) -> Any:
    """The network in the precision of the plan; raises ConfigError where ranges of int8 are missing."""
    return define_in_precision(network.graph, network.arrays, network.model, machine.tensorrt)


def build(console: Console, machine: Machine, definition: Any, words: Sequence[str]) -> Any:
    """The plan, as TensorRT's memory block."""
    from engine.plan import build_plan

    with console.stage("build") as found:
        plan = _watched(console, machine, lambda progress: build_plan(definition, machine.options, progress))
        found.append(f"{memoryview(plan).nbytes / 1e6:,.1f} MB in {' and '.join(words)}")
    return plan


def _watched(console: Console, machine: Machine, job: Callable[[Any], Any]) -> Any:
    """The result of a job that takes a Progress; on every TensorRT something is heard of it."""
    from commands.heartbeat import heartbeat
    from commands.progress import shown_progress

    with shown_progress(console) as progress, heartbeat(console, machine.tensorrt):
        return job(progress)


def cure_of(network: Network) -> str:
    """Where coarse numbers meet a recording made for fp32: the workstation records an image for them."""
    words = network.model.precision.words
    if words == ("fp32",) or not network.recording.input_title.startswith("random"):
        return ""
    title, word = network.recording.input_title, words[-1]
    cure = f"make the bundle with `run.py bundle --precision {word}`"
    return f"; recorded on {title}, which {word} rounds worse than images: {cure}"


def prove_outputs(
    console: Console, network: Network, where: str, run: Callable[[Mapping[str, Any]], Any]
) -> Dict[str, Any]:
    """The outputs of what ships, all their elements, in its own precision.

    Args:
        where: on what they were computed, for people.
        run: inputs -> outputs by name.

    Raises:
        VerificationError: an output differs.
    """
    from deploy.device_proof import check, output_rows

    recording = network.recording
    with console.stage("outputs") as found:
        rows = output_rows(recording, run(recording.inputs), network.model.precision.words)
        worst = check(rows, "output", cure_of(network))
        names = ", ".join(row.name for row in rows)
        found.append(f"{names} {where}: off by {worst.error:.2g} of max|r|, allowed {worst.allowed:.2g}")
    return {"on": where, "worst_output": worst.name, "worst_error": worst.error, "rtol": worst.allowed}
