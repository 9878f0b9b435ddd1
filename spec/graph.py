"""Graph: layers in order, every name unique, every input known, every shape inferred once.

ModelSpec + [Layer, ...] --build_graph()--> Graph: tensors[name] = TensorType, slots() = what a checkpoint must fill
"""

from __future__ import annotations

from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from spec.errors import ConfigError, did_you_mean
from spec.inputs import adapt_inputs
from spec.layers import Layer, Slot, TensorType, WeightedLayer
from spec.model import Batch, InputSpec, ModelSpec
from spec.shapes import ShapeError


class Graph(NamedTuple):
    """A network without its numbers: layers in an order in which every input is made before it is read.

    `tensors` has the type of every input and of every layer's outputs; images between layers are n c h w, inputs are
    in their own layout. A batch of -1 is dynamic, between the bounds of `batch`.
    """

    name: str
    inputs: Dict[str, InputSpec]
    layers: Tuple[Layer, ...]
    outputs: Tuple[str, ...]
    tensors: Dict[str, TensorType]
    batch: Optional[Batch]

    @property
    def made(self) -> List[str]:
        """Names of every layer's tensors, in layer order."""
        return [name for layer in self.layers for name in layer.tensor_names]

    def slots(self) -> Iterator[Tuple[Layer, Slot]]:
        """Every parameter of every layer, in layer order."""
        for layer in self.layers:
            for slot in layer.slots(*(self.tensors[name].shape for name in layer.inputs)):
                yield layer, slot


def build_graph(model: ModelSpec, layers: Sequence[Layer]) -> Graph:
    """Checks names and infers shapes.

    Raises:
        ConfigError: with every problem found; a layer behind a broken one is not reported a second time.
    """
    inputs = {name: TensorType(shape, model.inputs[name].dtype) for name, shape in model.input_shapes().items()}
    connected = adapt_inputs(model, _with_default_inputs(model, layers))
    problems = _input_problems(model) + _name_problems(model, connected)
    tensors, shape_problems = _infer(inputs, connected)
    problems += shape_problems + _output_problems(model, connected)
    problems = problems or _unread_problems(model, connected)
    if problems:
        raise ConfigError(problems)
    return Graph(model.name, dict(model.inputs), tuple(connected), tuple(model.outputs), tensors, model.batch)


def _input_problems(model: ModelSpec) -> List[str]:
    """A batch of -1 without bounds."""
    problems = []
    for name, spec in model.inputs.items():
        place = model.place("inputs", name)
        if spec.shape[0] == -1 and model.batch is None:
            problems.append(
                f"{place}: input '{name}': its batch is -1; say batch: {{min: 1, opt: 8, max: 32}}, or a number"
            )
    return problems


def _name_problems(model: ModelSpec, layers: Sequence[Layer]) -> List[str]:
    problems, seen = [], {name: model.place("inputs", name) for name in model.inputs}
    for layer in layers:
        for name in layer.tensor_names:
            if name in seen:
                problems.append(f"{layer.place}: layer '{layer.name}': '{name}' is taken at {seen[name]}; rename one")
            seen.setdefault(name, layer.place)
    return problems


def _with_default_inputs(model: ModelSpec, layers: Sequence[Layer]) -> List[Layer]:
    """Layers that name no input read the layer before; the first one reads the first input."""
    result, before = [], next(iter(model.inputs))
    for layer in layers:
        if not layer.inputs and layer.input_count[0] > 0:
            layer = layer.model_copy(update={"inputs": (before,)})
        result.append(layer)
        before = layer.name
    return result


def _infer(inputs: Dict[str, TensorType], layers: Sequence[Layer]) -> Tuple[Dict[str, TensorType], List[str]]:
    tensors, problems = dict(inputs), []
    broken: Set[str] = set()
    later = {name for layer in layers for name in layer.tensor_names}
    for layer in layers:
        unknown = [name for name in layer.inputs if name not in tensors and name not in broken]
        if unknown or broken.intersection(layer.inputs):
            broken.update(layer.tensor_names)
            problems += [_unknown_input(layer, name, tensors, later) for name in unknown]
            continue
        try:
            arguments = [tensors[name] for name in layer.inputs]
            made = layer.outputs(arguments)
            slots = layer.slots(*(tensor.shape for tensor in arguments))
        except ShapeError as error:
            broken.update(layer.tensor_names)
            problems.append(f"{layer.place}: layer '{layer.name}': {error}")
            continue
        tensors.update(made)
        problems += _role_problems(layer, [slot.role for slot in slots])
    return tensors, problems


def _unknown_input(layer: Layer, name: str, tensors: Dict[str, TensorType], later: Set[str]) -> str:
    hint = did_you_mean(name, tensors)
    if name in layer.tensor_names:
        hint = "; that is this layer itself"
    elif name in later:
        hint = "; it is made further down, move it up"
    return f"{layer.place}: layer '{layer.name}': no tensor '{name}' to read{hint}"


def _role_problems(layer: Layer, roles: Sequence[str]) -> List[str]:
    """Names in `tensors` for roles that the layer does not have, which no checkpoint tensor would ever be read for."""
    given = layer.tensors if isinstance(layer, WeightedLayer) else {}
    return [
        f"{layer.place}: layer '{layer.name}': tensors: no role '{role}'{did_you_mean(role, roles)}; "
        f"this {layer.type} has {', '.join(roles) or 'none'}"
        for role in given
        if role not in roles
    ]


def _output_problems(model: ModelSpec, layers: Sequence[Layer]) -> List[str]:
    """Outputs that no layer makes, that are inputs, or that stand twice."""
    made = [name for layer in layers for name in layer.tensor_names]
    problems = []
    for position, name in enumerate(model.outputs):
        place = model.place("outputs", position)
        if name in model.inputs:
            problems.append(f"{place}: outputs: '{name}' is an input")
        elif name not in made:
            problems.append(f"{place}: outputs: no layer '{name}'{did_you_mean(name, made)}")
        elif name in model.outputs[:position]:
            problems.append(f"{place}: outputs: '{name}' stands twice")
    return problems


def _unread_problems(model: ModelSpec, layers: Sequence[Layer]) -> List[str]:
    """Inputs and layers that nothing reads: each is a mistake in the description, or follows from another one."""
    read = {name for layer in layers for name in layer.inputs} | set(model.outputs)
    return [
        f"{model.place('inputs', name)}: input '{name}': no layer reads it" for name in model.inputs if name not in read
    ] + [
        f"{layer.place}: layer '{layer.name}': nothing reads it and it is no output; remove or name it"
        for layer in layers
        if not read.intersection(layer.tensor_names)
    ]
