"""Engines on the GPU to compare with: one that is looked into and one as it is shipped, of the same options.

    the network in a precision ─┬─ looked into ─> its inner tensors      run on the same input
                                └─ shipped ─────> its outputs            and on many for the agreement
"""

from __future__ import annotations

import argparse
import logging
from contextlib import ExitStack, contextmanager
from typing import Any, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from commands import build_arguments
from commands.console import Console
from commands.defining import define_in_precision
from commands.stages import Prepared, tensor_names
from spec.errors import TensorRTError, UsageError

_log = logging.getLogger(__name__)


class Look(NamedTuple):
    """What a precision's engines gave, and how often the shipped one decides as the reference does."""

    seen: Any  # verify.engine_comparison.Seen
    agreement: Optional[Any]  # verify.agreement.Agreement


def add_agreement_argument(parser: argparse.ArgumentParser) -> None:
    words = "also compare the largest output on so many structured images with our fp32 definition's on the CPU"
    parser.add_argument("--agreement", type=_count, metavar="COUNT", help=words)


def add_on_argument(parser: argparse.ArgumentParser) -> None:
    """For what can be run either way."""
    words = "gpu: an engine; cpu: the network definition (default: a GPU where one answers)"
    parser.add_argument("--on", choices=("auto", "gpu", "cpu"), default="auto", help=words)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted a number of images from 1 on, found '{text}'")
    return int(text)


def on_gpu(options: argparse.Namespace) -> bool:
    """Where `--on` leads; without a GPU, options that only a build takes are refused.

    Raises:
        UsageError: a GPU is asked for and none answers, or nothing is built for options of a build.
    """
    from engine.tensorrt_api import gpu_count

    wanted = options.on == "gpu" or options.on == "auto" and gpu_count() > 0
    if wanted:
        check_gpu("--on gpu")
    else:
        refuse_build_options(options, "nothing is built on the CPU")
    return wanted


def check_gpu(wanted_by: str) -> None:
    """Before the work starts."""
    from engine.tensorrt_api import gpu_count

    if not gpu_count():
        raise UsageError(f"{wanted_by}: no GPU answers here; without it the network definition is run on the CPU")


def refuse_build_options(options: argparse.Namespace, why: str) -> None:
    """Raises UsageError for every option of a build that was given where it would be ignored."""
    from engine.build_options import SETTINGS

    parser = argparse.ArgumentParser()
    build_arguments.add_arguments(parser)
    given = [field for field, default in vars(parser.parse_args([])).items() if getattr(options, field) != default]
    if given:
        names = [SETTINGS[field].option if field in SETTINGS else f"--{field}" for field in given]
        raise UsageError(f"{', '.join(names)}: {why}")


def refuse_precision(options: argparse.Namespace, why: str) -> None:
    """For verbs that take the options of a build but choose the precision themselves."""
    if options.precision is not None:
        raise UsageError(f"--precision {options.precision}: {why}")


def defined(prepared: Prepared, model: Any) -> Any:
    """The network defined anew in the precision of a ModelSpec, to be changed and built at will."""
    weights = prepared.weights
    names = tensor_names(weights)
    return define_in_precision(prepared.graph, weights.arrays, model, prepared.definition.tensorrt, names)


def look(
    options: argparse.Namespace,
    console: Console,
    prepared: Prepared,
    model: Any,
    inputs: Mapping[str, Any],
    wish: str = "auto",
) -> Look:
    """Builds both engines in the precision of `model` and runs them.

    Args:
        wish: as engine.inside.way_of takes it.

    Raises:
        TensorRTError, DeviceError: what TensorRT and CUDA say.
    """
    from engine.devices import open_device
    from engine.inside import way_of
    from verify.engine_comparison import Seen

    tensorrt = prepared.definition.tensorrt
    words = model.precision.words
    way = way_of(tensorrt, wish, words, f"--per-layer {wish}")
    with open_device() as device:
        title = f"an engine of {tensorrt.title} in {' and '.join(words)} on {device.facts().name}"
        inside, instead = _inside(options, console, prepared, model, inputs, way, device)
        with opened_as_shipped(options, console, prepared, model, device) as run:
            shipped = run(inputs)
            agreement = agreement_of(prepared, run, options.agreement) if options.agreement else None
    return Look(Seen(inside, shipped, way, title, instead), agreement)


def _inside(
    options: argparse.Namespace,
    console: Console,
    prepared: Prepared,
    model: Any,
    inputs: Mapping[str, Any],
    way: str,
    device: Any,
) -> Tuple[Mapping[str, Any], str]:
    """(arrays of the layers, what they are of where it is no engine).

    TensorRT 8.5.3.1 builds no int8 engine with marked tensors ("All of the candidates were removed"); where an int8
    engine cannot be looked into, the layers are those of the definition run on the CPU, with the same quantization.
    """
    from engine.emulation import interpreter_of
    from engine.inside import WAYS

    names = prepared.graph.made
    with ExitStack() as stack:
        try:
            run = stack.enter_context(opened(options, console, prepared, model, way, names, device))
        except TensorRTError as error:
            if WAYS[way].capability or "int8" not in model.precision.words:
                raise
            instead = f"the definition run on the CPU, since no int8 engine can be looked into here ({error})"
        else:
            return run(inputs), ""
    _log.warning("layers are of %s", instead)
    return interpreter_of(defined(prepared, model)).run(inputs, names), instead


@contextmanager
def opened(
    options: argparse.Namespace,
    console: Console,
    prepared: Prepared,
    model: Any,
    way: str,
    names: List[str],
    device: Any,
) -> Iterator[Any]:
    """An engine whose tensors of these names can be read: (inputs) -> arrays by name."""
    from commands.progress import shown_progress
    from engine.inside import open_inside

    plan_options = build_arguments.runnable_options(options, prepared.definition.tensorrt)
    with shown_progress(console) as progress:
        with open_inside(defined(prepared, model), way, names, plan_options, progress, device) as run:
            yield run


@contextmanager
def opened_as_shipped(
    options: argparse.Namespace, console: Console, prepared: Prepared, model: Any, device: Any
) -> Iterator[Any]:
    """The engine that the main job would write: (inputs) -> outputs by name."""
    from commands.progress import shown_progress
    from engine.plan import build_plan
    from engine.runner import Runner

    tensorrt = prepared.definition.tensorrt
    plan_options = build_arguments.runnable_options(options, tensorrt)
    with shown_progress(console) as progress:
        plan = build_plan(defined(prepared, model), plan_options, progress)
    with Runner(tensorrt, plan, device, plan_options.dla_core) as runner:
        yield runner.run


def agreement_of(prepared: Prepared, run: Any, count: int) -> Any:
    """Of a way to run the network, with our fp32 definition on the CPU."""
    from engine.interpreter import Interpreter
    from verify.agreement import measure_agreement

    definition = prepared.definition
    interpreter = Interpreter(definition.network, definition.tensorrt.module)
    return measure_agreement(run, interpreter.run, prepared.graph, count)
