"""References in Keras: a full model, run by the Keras that wrote it, on the CPU.

    conv1 (linear)        ─> conv1
    fc (relu)             ─> fc:linear (before its activation), fc
    sep, SeparableConv2D  ─> sep:depthwise (before its pointwise convolution), sep
    shared, called twice  ─> shared#1, shared#2            model inside a model ─> inner/conv1
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

import numpy as np

from spec.errors import ConfigError, VerificationError, did_you_mean
from spec.layers import Activation, DepthwiseConvolution, Layer, Softmax, WeightedLayer
from spec.model import ModelSpec
from verify.keras_file import load_keras_model, title_of
from verify.reference import Reference, spellings

_DEPTHWISE, _LINEAR = ":depthwise", ":linear"
_KERNELS = ("kernel", "depthwise_kernel")
_Compute = Callable[[ModuleType, Any, List[Any]], Any]


class _Call(NamedTuple):
    """One call of a layer: symbolic tensors of the outermost model."""

    layer: Any
    inputs: List[Any]
    outputs: List[Any]


def open_source(model: ModelSpec) -> Reference:
    """Loads the model of `reference.keras`; see verify.reference.open_reference."""
    place = f"{model.place('reference', 'keras')}: reference.keras"
    path = model.beside(model.reference.keras, "reference", "keras")
    keras, loaded = load_keras_model(path, place)
    return KerasReference(keras, loaded, model, path.name, place)


class KerasReference(Reference):
    """A functional or sequential model; layers by name."""

    def __init__(self, keras: ModuleType, loaded: Any, model: ModelSpec, file: str, place: str) -> None:
        if not getattr(loaded, "inputs", None):
            raise VerificationError(
                f"{place}: {file}: a subclassed model has no graph of layers - use a functional one"
            )
        self._keras, self._place = keras, place
        self._model = keras.Model(loaded.inputs, loaded.outputs)
        self._calls = dict(_calls(keras, self._model, ""))
        self._names = dict(_names(self._calls))
        self._inputs = _inputs(self._model, model, place)
        self.title = f"{title_of(keras)}, {file}"
        self.image_layout = "NCHW" if any(map(_channels_first, self._calls.values())) else "NHWC"

    def names(self) -> Sequence[str]:
        return list(self._names)

    def shape(self, name: str) -> Optional[Tuple[int, ...]]:
        call, part = self._names[name]
        return _shape(call.outputs[part]) if isinstance(part, int) else None

    def function(self, name: str) -> Optional[str]:
        call, part = self._names[name]
        return _function(call.layer) if isinstance(part, int) else None

    def takes(self, name: str) -> Tuple[Optional[Tuple[int, ...]], str]:
        tensor = self._inputs[name]
        dtype = getattr(tensor.dtype, "name", tensor.dtype)  # a string in Keras 3, a tf.DType in Keras 2
        return _shape(tensor), dtype

    def by_rule(self, layers: Sequence[Layer]) -> Dict[str, str]:
        """A layer with weights is `L:linear`, else `L`; our `X/softmax` is `X` where X has an activation of its own.

        A depthwise convolution whose scope is a SeparableConv2D's is `L:depthwise`: both its halves have that scope.
        """
        found = {}
        for layer in layers:
            known = [name for name in _candidates(layer) if name in self._names]
            parent = layer.name.rpartition("/")[0]
            if not known and isinstance(layer, (Activation, Softmax)) and f"{parent}{_LINEAR}" in self._names:
                known = [parent]
            if known:
                found[layer.name] = known[0]
        return found

    def activations(self, inputs: Mapping[str, np.ndarray], names: Iterable[str]) -> Dict[str, np.ndarray]:
        names = list(names)
        wanted = [symbol for name in names for symbol in self._symbols(name)]
        unique = list({id(symbol): symbol for symbol in wanted}.values())
        model = self._keras.Model(self._model.inputs, unique)
        feeds = [inputs[name] for tensor in self._model.inputs for name, each in self._inputs.items() if each is tensor]
        values = _listed(model(feeds, training=False))
        computed = dict(zip(map(id, unique), values))
        return {name: self._array(name, [computed[id(symbol)] for symbol in self._symbols(name)]) for name in names}

    def _symbols(self, name: str) -> List[Any]:
        """What a tensor is computed from: itself, or what its layer reads where it is inside the layer."""
        call, part = self._names[name]
        return [call.outputs[part]] if isinstance(part, int) else call.inputs

    def _array(self, name: str, values: List[Any]) -> np.ndarray:
        call, part = self._names[name]
        value = values[0] if isinstance(part, int) else part(self._keras, call.layer, values)
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


# inside a layer


def _depthwise(keras: ModuleType, layer: Any, values: List[Any]) -> Any:
    """What a SeparableConv2D computes first, by its own Keras: no bias and no activation come in between."""
    # Keras 2 has no keras.ops
    compute = keras.ops.depthwise_conv if hasattr(keras, "ops") else keras.backend.depthwise_conv2d
    geometry = {key: getattr(layer, key) for key in ("strides", "padding", "data_format", "dilation_rate")}
    return compute(values[0], layer.depthwise_kernel, **geometry)


def _linear(keras: ModuleType, layer: Any, values: List[Any]) -> Any:
    """What a layer computes before its activation: the layer itself with another one, so that no weight is copied."""
    own, layer.activation = layer.activation, keras.activations.linear
    try:
        return layer(*values)
    finally:
        layer.activation = own


def _separable(layer: Any) -> bool:
    """Whether a layer is a depthwise and a pointwise convolution of images."""
    return hasattr(layer, "pointwise_kernel") and len(layer.depthwise_kernel.shape) == 4


def _fused(layer: Any) -> bool:
    """Whether a layer with a kernel applies an activation other than linear."""
    function = getattr(layer, "activation", None)
    return any(hasattr(layer, key) for key in _KERNELS) and getattr(function, "__name__", "linear") != "linear"


def _function(layer: Any) -> Optional[str]:
    """relu or relu6, where that is what a layer ends with."""
    if type(layer).__name__ == "ReLU":
        plain = not layer.threshold and not layer.negative_slope
        most = math.inf if layer.max_value is None else float(layer.max_value)  # an array in Keras 2
        return {math.inf: "relu", 6.0: "relu6"}.get(most) if plain else None
    name = getattr(getattr(layer, "activation", None), "__name__", None)
    return name if name in ("relu", "relu6") else None


# behind the name of a layer -> which layers have such a tensor, and how it is computed from what the layer reads
_INSIDE: Dict[str, Tuple[Callable[[Any], bool], _Compute]] = {
    _DEPTHWISE: (_separable, _depthwise),
    _LINEAR: (_fused, _linear),
}


def _candidates(layer: Layer) -> List[str]:
    """The names that may be a layer's tensor, the likeliest first."""
    depthwise = [_DEPTHWISE] if isinstance(layer, DepthwiseConvolution) else []
    inside = [*depthwise, _LINEAR] if isinstance(layer, WeightedLayer) else []
    return [f"{name}{part}" for part in [*inside, ""] for name in spellings(layer)]


# the layers of a model


def _calls(keras: ModuleType, model: Any, prefix: str) -> Iterator[Tuple[str, _Call]]:
    """Every call of every layer, by name, in the model's order; `model` is functional."""
    own = _own_nodes(model)
    for layer in getattr(model, "operations", model.layers):  # Keras 3 has operations that are no layers: x + 3
        # the public `output` refuses layers that are called twice
        nodes = [node for index, node in enumerate(layer._inbound_nodes) if (id(layer), index) in own]
        for number, node in enumerate(nodes, 1):
            name = prefix + layer.name + (f"#{number}" if len(nodes) > 1 else "")
            call = _Call(layer, _listed(node.input_tensors), _listed(node.output_tensors))
            if isinstance(layer, keras.Model):
                yield from _inner_calls(keras, call, f"{name}/")
            yield name, call


def _own_nodes(model: Any) -> Set[Tuple[int, int]]:
    """(layer, number of its call) of every call between the model's outputs and its inputs.

    A layer also remembers calls that no longer count: a Sequential read from a file calls its layers once for each
    layer that is added behind them.
    """
    own: Set[Tuple[int, int]] = set()
    pending = list(model.outputs)
    while pending:
        layer, index, _ = pending.pop()._keras_history
        if (id(layer), index) not in own:
            own.add((id(layer), index))
            pending += _listed(layer._inbound_nodes[index].input_tensors)
    return own


def _inner_calls(keras: ModuleType, outer: _Call, prefix: str) -> Iterator[Tuple[str, _Call]]:
    """The calls inside a model that is called as a layer, on the outer model's tensors."""
    inner = keras.Model(outer.layer.inputs, outer.layer.outputs)
    calls = list(_calls(keras, inner, prefix))
    symbols = list({id(each): each for _, call in calls for each in [*call.inputs, *call.outputs]}.values())
    inputs = outer.inputs if len(outer.inputs) > 1 else outer.inputs[0]
    outside = dict(zip(map(id, symbols), _listed(keras.Model(inner.inputs, symbols)(inputs))))
    for name, call in calls:
        yield name, _Call(call.layer, *([outside[id(each)] for each in side] for side in call[1:]))


def _names(calls: Dict[str, _Call]) -> Iterator[Tuple[str, Tuple[_Call, Union[int, _Compute]]]]:
    """Name -> its call, and the number of the output or how what is inside the layer is computed."""
    for name, call in calls.items():
        for part, (has, compute) in _INSIDE.items():
            if has(call.layer):
                yield f"{name}{part}", (call, compute)
        for number in range(len(call.outputs)):
            yield f"{name}:{number}" if number else name, (call, number)


def _shape(tensor: Any) -> Tuple[int, ...]:
    return tuple(-1 if size is None else size for size in tensor.shape)


def _channels_first(call: _Call) -> bool:
    return getattr(call.layer, "data_format", None) == "channels_first"


def _listed(value: Any) -> List[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _inputs(functional: Any, model: ModelSpec, place: str) -> Dict[str, Any]:
    """Our input -> the model's: of the name that `reference.tensors` gives, of the same name, or the only one."""
    known = {tensor.name.split(":")[0]: tensor for tensor in functional.inputs}
    only = functional.inputs[0] if len(known) == len(model.inputs) == 1 else None
    given = model.reference.tensors
    found = {name: known.get(given.get(name, name), None if name in given else only) for name in model.inputs}
    missing = [name for name, tensor in found.items() if tensor is None]
    if missing or len(set(map(id, found.values()))) != len(known):
        cure = "say reference: {tensors: {OUR INPUT: ITS INPUT}}"
        message = f"{place}: its inputs are {', '.join(known)}, ours {', '.join(found)}"
        raise ConfigError(f"{message}{did_you_mean((missing or list(found))[0], known)} - {cure}")
    return found
