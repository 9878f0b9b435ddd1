"""Inside an engine: the tensors of our layers as the GPU computes them, read as outputs or as debug tensors.

    marked      each tensor is an output of the engine                      every TensorRT; nothing is fused over them
    boundaries  what lies between fused kernels, int8 where they read int8  every TensorRT; fused as it is shipped
    debug       each is a debug tensor, given to a listener as it is made   10.0 and newer; nothing is fused over them
    unfused     what TensorRT left unfused is, of its own choice            10.12 and newer; fused as it is shipped

open_inside(definition, way, names, ...) -> run(inputs) -> arrays by tensor name
"""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from typing import Any, Callable, Collection, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Sequence

import numpy as np

from engine.build_options import PlanOptions
from engine.devices.device import Device
from engine.fusion import fused_groups
from engine.naming import quantized_name, step_name
from engine.network import Definition
from engine.plan import Progress, build_plan
from engine.quantization import ends_in_int8
from engine.runner import Runner
from engine.tensorrt_api import TensorRT, dtype_name
from spec.errors import DeviceError, TensorRTError, UsageError

Arrays = Dict[str, np.ndarray]
Run = Callable[[Mapping[str, np.ndarray]], Arrays]


class Way(NamedTuple):
    """A way to read a tensor inside an engine.

    Attributes:
        capability: what TensorRT must have; empty: every one can.
        keeps_fusion: whether TensorRT fuses as if nobody looked; a tensor may then not exist.
        says: for people.
    """

    capability: str
    keeps_fusion: bool
    says: str


WAYS: Dict[str, Way] = {
    "marked": Way("", False, "every layer's tensor marked as an output"),
    "boundaries": Way("", True, "what lies between its fused kernels, in int8 where they read int8"),
    "debug": Way("debug tensors", False, "every layer's tensor a debug tensor"),
    "unfused": Way("unfused debug tensors", True, "debug tensors of what TensorRT left unfused"),
}
WISHES: Dict[str, List[str]] = {
    # what a person asks for: ways in the order of trial. Not `unfused` unasked: its tensors have TensorRT's own names
    # ("the listener can only get internal tensor names", its documentation says), and may be few
    "marked": ["marked"],
    "boundaries": ["boundaries"],
    "debug": ["unfused", "debug"],
}
AUTO = "auto"

RELABELLED = ("flatten", "reshape", "squeeze")
"""Layer types that move no number: fused into whatever reads them."""


def way_of(tensorrt: TensorRT, wish: str, words: Collection[str], wanted_by: str) -> str:
    """The first way of a wish that this TensorRT has; raises UsageError where it has none.

    Args:
        wish: a key of WISHES, or AUTO: every layer, but with int8 among the `words` of the precision what lies between
            kernels, since marked tensors leave no int8 kernel as it is, and 8.5.3.1 builds no such engine.
    """
    if wish == AUTO:
        wish = "boundaries" if "int8" in words else "marked"
    for way in WISHES[wish]:
        if not WAYS[way].capability or tensorrt.has(WAYS[way].capability):
            return way
    tensorrt.require(WAYS[WISHES[wish][-1]].capability, wanted_by)
    raise UsageError(f"{wanted_by}: {tensorrt.title} cannot")


@contextmanager
def open_inside(
    definition: Definition,
    way: str,
    names: Iterable[str],
    options: PlanOptions,
    progress: Progress,
    device: Device,
) -> Iterator[Run]:
    """Builds a definition whose tensors can be read; gives the function that runs it, as often as wanted.

    The definition is changed: define another for the engine to ship. Where the way keeps fusion, some of `names` may be
    missing; with `unfused`, tensors under TensorRT's own names come along.

    Raises:
        TensorRTError: a tensor cannot be read, the build failed, or, from `run`, the inputs do not fit.
        DeviceError: CUDA reports an error.
        UsageError: an option this TensorRT lacks.
    """
    expose(definition, way, names)
    plan = build_plan(definition, options, progress)
    with Runner(definition.tensorrt, plan, device, options.dla_core) as runner:
        run = Listening(runner, way) if WAYS[way].capability else runner.run
        yield lambda inputs: dequantized(definition, run(inputs))


def expose(definition: Definition, way: str, names: Iterable[str]) -> None:
    """Has the tensors of these names read in this way; those that are outputs already stay just that.

    With `boundaries`, an engine's outputs are for `dequantized` to name.
    """
    network = definition.network
    if way == "boundaries":
        names, way = _to_mark(definition, list(names)), "marked"
    if way == "unfused":
        if not network.mark_unfused_tensors_as_debug_tensors():
            raise TensorRTError(f"unfused debug tensors: refused: {definition.tensorrt.log.take()}")
        return
    done = {network.get_output(index).name for index in range(network.num_outputs)}
    done.update(definition.tensors[name].name for name in definition.graph.outputs)  # half of an output stays inner
    for tensor in (definition.tensors[name] for name in names):
        if tensor.name in done or tensor.is_network_input:
            continue
        done.add(tensor.name)
        if way == "marked":
            network.mark_output(tensor)
        elif not network.mark_debug(tensor):
            raise TensorRTError(f"debug tensor '{tensor.name}': refused: {definition.tensorrt.log.take()}")


def _to_mark(definition: Definition, names: Sequence[str]) -> List[str]:
    """Of these tensors, those that fusion and int8 leave there; the quantized ones are outputs when this returns.

    Of a tensor that is read quantized, the int8 itself is shown: to dequantize it for us alone would be a layer more,
    with which TensorRT 8.5.3.1 refused both uint8 models ("cannot be quantized by ..."; see int8_looked_into.jsonl in
    benchmarks/results/gpu).
    """
    graph, precision = definition.graph, definition.precision
    shown = [name for name in names if name not in graph.outputs]
    _mark_quantized(definition, [name for name in shown if name in precision.ranges and name in graph.made])
    types = {layer.name: layer.type for layer in graph.layers}
    ends = {group[-1] for group in fused_groups(graph) if types[group[-1]] not in RELABELLED}
    passed = ends_in_int8(graph, precision.layers, spare_images=not precision.typed)
    return [name for name in shown if name in ends and name not in passed and name not in precision.ranges]


def _mark_quantized(definition: Definition, names: Sequence[str]) -> None:
    network, tensorrt = definition.network, definition.tensorrt
    layers = {added.name: added for added in network}
    for name in names:
        added = layers[quantized_name(name)]
        tensor = added.get_output(0)
        network.mark_output(tensor)
        if tensorrt.has("layer precision"):  # elsewhere tensors have their types
            tensor.dtype = tensorrt.module.int8


def dequantized(definition: Definition, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """What an engine gave, each int8 tensor by the name of the tensor it stands for, times the scale it was given."""
    found = dict(arrays)
    for name in definition.precision.ranges:
        if quantized_name(name) in found:
            scale = definition.named[step_name(name)].astype(np.float32)
            found[name] = found.pop(quantized_name(name)).astype(np.float32) * scale
    return found


class Listening:
    """A runner's `run`, with the debug tensors of the same inference beside the outputs.

    Raises:
        TensorRTError: the engine does not emit them, or, when run, one of them cannot be read.
    """

    def __init__(self, runner: Runner, way: str) -> None:
        self._runner = runner
        self._heard: Arrays = {}
        self._problems: List[str] = []
        self._listener = make_listener(runner.tensorrt, runner.device, self._heard, self._problems)
        if not runner.context.set_debug_listener(self._listener) or not self._switched(runner.context, way):
            raise TensorRTError(f"debug tensors: {runner.tensorrt.title} refused them: {runner.tensorrt.log.take()}")

    @staticmethod
    def _switched(context: Any, way: str) -> bool:
        """Every debug tensor on; they are off by default."""
        if way != "unfused":
            return bool(context.set_all_tensors_debug_state(True))
        context.unfused_tensors_debug_state = True
        return bool(context.unfused_tensors_debug_state)

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        self._heard.clear()
        self._problems.clear()
        outputs = self._runner.run(inputs)
        if self._problems:
            raise TensorRTError(self._problems)
        return {**self._heard, **outputs}


def make_listener(tensorrt: TensorRT, device: Device, heard: Arrays, problems: List[str]) -> Any:
    """An IDebugListener that copies each debug tensor into `heard`, by name; the memory is only lent to it.

    What goes wrong is noted in `problems`: an exception cannot cross TensorRT's C++.
    """
    trt = tensorrt.module

    class Listener(trt.IDebugListener):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.IDebugListener.__init__(self)

        def process_debug_tensor(  # its names are TensorRT's
            self, addr: Any, location: Any, type: Any, shape: Any, name: str, stream: Any
        ) -> bool:
            try:
                array = np.empty(tuple(shape), dtype_name(type))
                copy_debug_tensor(array, address_of(addr), location == trt.TensorLocation.HOST, device, int(stream))
            except (DeviceError, TypeError, ValueError, KeyError) as error:  # KeyError: a stream pycuda has not made
                problems.append(f"debug tensor '{name}' ({type} {tuple(shape)}): cannot be read: {error}")
                return False
            heard[name] = array
            return True

    return Listener()


def copy_debug_tensor(array: np.ndarray, address: int, on_host: bool, device: Device, stream: int) -> None:
    """Fills an array from memory that is valid until the callback returns."""
    if not array.nbytes:
        return
    if on_host:
        ctypes.memmove(array.ctypes.data, address, array.nbytes)
        return
    device.copy_out(array, address, stream)
    device.synchronize(stream)


def address_of(pointer: Any) -> int:
    """The number of a `void*`, which the bindings hand over as a capsule, or already as a number."""
    if isinstance(pointer, int):
        return pointer
    read = ctypes.pythonapi.PyCapsule_GetPointer
    read.restype, read.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    return int(read(pointer, name(pointer)))
