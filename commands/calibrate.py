"""run.py calibrate: the activation ranges of int8, from images run through the fp32 network.

    images ─ batches ─> an engine that shows the quantized tensors, or the interpreter ─ image by image ─> histograms

Histograms are filled image by image, so neither the batch nor where it ran changes what they count.
"""

from __future__ import annotations

import argparse
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence

from commands import build_arguments, engines
from commands.configs import shown
from commands.console import Console
from commands.stages import Prepared, add_config_arguments, prepare, read_config
from spec.errors import UsageError
from spec.wording import counted

Arrays = Mapping[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    images = "a folder of images or .npy files, one .npy with many images, random:COUNT or structured:COUNT"
    parser.add_argument("--images", default="structured:8", metavar="WHAT", help=f"{images} (default structured:8)")
    methods = ("min_max", "percentile", "entropy")
    parser.add_argument("--method", choices=methods, default="percentile", help="default percentile: 99.99 %% fit")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default out/<model>/<model>.ranges.json")
    engines.add_on_argument(parser)
    build_arguments.add_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Calibrates; returns the exit code."""
    from engine import calibration
    from engine.atomic_file import check_file
    from engine.quantization import quantized_tensors

    engines.refuse_precision(options, "ranges are those of the fp32 network")
    gpu = engines.on_gpu(options)
    model, graph = read_config(options, console)
    output = options.output or Path("out") / model.name / f"{model.name}.ranges.json"
    check_file(output)
    prepared = prepare(options, console, model, graph)
    with console.stage("calibrate") as found:
        tensors = quantized_tensors(graph, dict.fromkeys([layer.name for layer in graph.layers], "int8"))
        batches = _Counted(_joined(graph, batches_of(graph, options.images)))
        with (_on_gpu if gpu else _on_cpu)(options, console, prepared, tensors) as activations:
            images = (image for batch in batches for image in _each_image(activations(batch), size_of(batch)))
            ranges = calibration.calibrate(lambda arrays, _: arrays, images, tensors, options.method)
        where = "the GPU" if gpu else "the CPU"
        images_said = f"{counted(batches.images, 'image')} of {options.images}"
        found.append(f"{counted(len(ranges), 'tensor')} from {images_said} on {where}")
        found.append(options.method)
    about = {"model": model.name, "method": options.method, "images": options.images, "count": batches.images}
    calibration.write_ranges(output, ranges, {**about, "run_on": "gpu" if gpu else "cpu"})
    console.line("write", f"{shown(output)}; name it in the config with ranges: {output.resolve()}")
    return 0


class _Counted:
    """Batches as they come.

    Attributes:
        images: how many have come.
    """

    def __init__(self, batches: Iterator[Arrays]) -> None:
        self._batches, self.images = batches, 0

    def __iter__(self) -> Iterator[Arrays]:
        for batch in self._batches:
            self.images += size_of(batch)
            yield batch


@contextmanager
def _on_cpu(
    options: argparse.Namespace, console: Console, prepared: Prepared, tensors: Sequence[str]
) -> Iterator[Any]:
    """(inputs) -> the tensors, from the interpreter."""
    from engine.interpreter import Interpreter

    definition = prepared.definition
    interpreter = Interpreter(definition.network, definition.tensorrt.module)
    yield lambda inputs: interpreter.run(inputs, tensors)


@contextmanager
def _on_gpu(
    options: argparse.Namespace, console: Console, prepared: Prepared, tensors: Sequence[str]
) -> Iterator[Any]:
    """(inputs) -> the tensors, from an fp32 engine in which they are outputs; an input may be one of them."""
    from engine.devices import open_device

    model = prepared.model.model_copy(update={"precision": type(prepared.model.precision)(default="fp32")})
    inner = [name for name in tensors if name not in prepared.graph.inputs]
    with open_device() as device:
        with engines.opened(options, console, prepared, model, "marked", inner, device) as run:

            def activations(inputs: Arrays) -> Arrays:
                arrays = {**inputs, **run(inputs)}
                return {name: arrays[name] for name in tensors}

            yield activations


def size_of(batch: Arrays) -> int:
    """How many images there are."""
    return len(next(iter(batch.values())))


def _each_image(arrays: Arrays, count: int) -> Iterator[Arrays]:
    """One image's tensors after another's; the first axis of each is the batch, but of a constant, which is whole."""
    for image in range(count):
        yield {name: array[image] if len(array) == count else array for name, array in arrays.items()}


def _joined(graph: Any, batches: Iterator[Arrays]) -> Iterator[Arrays]:
    """Small batches put together as far as a dynamic batch goes; a fixed one stays as it is."""
    import numpy as np

    from verify.agreement import agreement_batch

    waiting: List[Arrays] = []
    for batch in batches:
        if waiting and sum(map(size_of, [*waiting, batch])) > agreement_batch(graph):
            yield {name: np.concatenate([each[name] for each in waiting]) for name in batch}
            waiting = []
        waiting.append(batch)
    if waiting:
        yield {name: np.concatenate([each[name] for each in waiting]) for name in waiting[0]}


def batches_of(graph: Any, wish: str) -> Iterator[Dict[str, Any]]:
    """Inputs by name: each image or seed for itself, in the smallest batch that is allowed, or slices of one array."""
    from verify.inputs import make_inputs

    kind, _, count = wish.partition(":")
    if kind in ("random", "structured"):
        if not count.isdigit() or int(count) < 1:
            raise UsageError(f"--images {wish}: wanted {kind}:COUNT, for example {kind}:8")
        return (make_inputs(graph, f"{kind}:{seed}")[0] for seed in range(int(count)))
    path = Path(wish)
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.is_file() and not each.name.startswith("."))
        if not files:
            raise UsageError(f"--images {wish}: the folder is empty")
        return (make_inputs(graph, str(file))[0] for file in files)
    if not path.is_file() or path.suffix != ".npy" or len(graph.inputs) > 1:
        known = "a folder, an .npy file for a network of one input, random:COUNT or structured:COUNT"
        raise UsageError(f"--images {wish}: wanted {known}")
    return _slices(graph, path, wish)


def _slices(graph: Any, path: Path, wish: str) -> Iterator[Dict[str, Any]]:
    """The images of one array, in batches that the network takes."""
    import numpy as np

    from verify.agreement import agreement_batch
    from verify.inputs import check_input, read_inputs

    (name,), array = graph.inputs, next(iter(read_inputs(path, graph).values()))
    if not np.ndim(array):
        check_input(graph, wish, name, array)
    size, least = agreement_batch(graph), graph.batch.min if graph.batch else 0
    left = len(array) % size
    if left and left < (least or size):
        held = counted(len(array), "image")
        raise UsageError(f"--images {wish}: holds {held}, {left} more than whole batches of {size}")
    for first in range(0, len(array), size):
        inputs = {name: np.ascontiguousarray(array[first : first + size])}
        check_input(graph, wish, name, inputs[name])
        yield inputs
