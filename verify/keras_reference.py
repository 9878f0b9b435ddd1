"""References in Keras: a full model, run by the Keras that wrote it, on the CPU.

    conv1 (linear)        ─> conv1
    fc (relu)             ─> fc:linear (before its activation), fc
    shared, called twice  ─> shared#1, shared#2            model inside a model ─> inner/conv1

Keras 3 cannot open models of Keras 2 (`Unrecognized keyword arguments ...`), so those go to tf_keras. A Lambda holds
Python code, and tf_keras runs it out of any .h5: files with one are refused, Keras' own safe mode stays on.
"""

from __future__ import annotations

import importlib.util
import json
import os
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from spec.errors import ConfigError, UsageError, VerificationError, did_you_mean
from spec.layers import Activation, Layer, Softmax, WeightedLayer
from spec.model import ModelSpec
from verify.frameworks import first_line, import_framework
from verify.reference import Reference, spellings

_LINEAR = ":linear"
_KERNELS = ("kernel", "depthwise_kernel")


class _Call(NamedTuple):
    """One call of a layer: symbolic tensors of the outermost model."""

    layer: Any
    inputs: List[Any]
    outputs: List[Any]


def open_source(model: ModelSpec) -> Reference:
    """Loads the model of `reference.keras`; see verify.reference.open_reference."""
    place = f"{model.place('reference', 'keras')}: reference.keras"
    path = model.beside(model.reference.keras, "reference", "keras")
    if not path.is_file():
        raise UsageError(f"{place}: no file {path} - wanted a full model, .keras or .h5")
    version, config = _written_by(path, place)
    lambdas = sorted(_lambdas(config))
    if lambdas:
        cure = "record its activations where you trust the file, and name them as reference.activations"
        raise VerificationError(
            f"{place}: {path} holds Python code (Lambda {', '.join(lambdas)}), not run here - {cure}"
        )
    keras = _keras(version, place)
    try:
        loaded = keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise VerificationError(f"{place}: {_title(keras)} cannot load {path}: {first_line(error)}") from error
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
        self.title = f"{_title(keras)}, {file}"
        self.image_layout = "NCHW" if any(map(_channels_first, self._calls.values())) else "NHWC"

    def names(self) -> Sequence[str]:
        return list(self._names)

    def takes(self, name: str) -> Tuple[Optional[Tuple[int, ...]], str]:
        tensor = self._inputs[name]
        dtype = getattr(tensor.dtype, "name", tensor.dtype)  # a string in Keras 3, a tf.DType in Keras 2
        return tuple(-1 if size is None else size for size in tensor.shape), dtype

    def by_rule(self, layers: Sequence[Layer]) -> Dict[str, str]:
        """A layer with weights is `L:linear`, else `L`; our `X/softmax` is `X` where X has an activation of its own."""
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
        """What a tensor is computed from: itself, or what its layer reads where it is before the activation."""
        call, number = self._names[name]
        return call.inputs if number is None else [call.outputs[number]]

    def _array(self, name: str, values: List[Any]) -> np.ndarray:
        call, number = self._names[name]
        value = values[0] if number is not None else _linear(self._keras, call.layer, values)
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _linear(keras: ModuleType, layer: Any, values: List[Any]) -> Any:
    """What a layer computes before its activation: the layer itself with another one, so that no weight is copied."""
    own, layer.activation = layer.activation, keras.activations.linear
    try:
        return layer(*values)
    finally:
        layer.activation = own


def _candidates(layer: Layer) -> List[str]:
    linear = [f"{name}{_LINEAR}" for name in spellings(layer)] if isinstance(layer, WeightedLayer) else []
    return [*linear, *spellings(layer)]


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


def _names(calls: Dict[str, _Call]) -> Iterator[Tuple[str, Tuple[_Call, Optional[int]]]]:
    """Name -> its call and the number of the output, None for what is before the activation."""
    for name, call in calls.items():
        if _fused(call.layer):
            yield f"{name}{_LINEAR}", (call, None)
        for number in range(len(call.outputs)):
            yield f"{name}:{number}" if number else name, (call, number)


def _fused(layer: Any) -> bool:
    """Whether a layer with a kernel applies an activation other than linear."""
    function = getattr(layer, "activation", None)
    return any(hasattr(layer, key) for key in _KERNELS) and getattr(function, "__name__", "linear") != "linear"


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


# the file


def _written_by(path: Path, place: str) -> Tuple[str, Any]:
    """The version of the Keras that wrote a file, and the config of the model in it."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                version = json.loads(archive.read("metadata.json"))["keras_version"]
                return version, json.loads(archive.read("config.json"))
        with import_framework("h5py", place).File(path, "r") as file:
            version = file.attrs.get("keras_version", file.get("model_weights", file).attrs.get("keras_version", "1"))
            return _text(version), json.loads(_text(file.attrs["model_config"]))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        found = f"{path} is no full Keras model, or damaged ({error})"
        raise VerificationError(f"{place}: {found} - save it with model.save(), not save_weights()") from error


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _lambdas(config: Any) -> Iterator[str]:
    """Names of the Lambda layers, and of functions stored as code, anywhere in a config."""
    if isinstance(config, dict):
        if config.get("class_name") in ("Lambda", "__lambda__"):
            inner = config.get("config")
            yield f"'{config.get('name') or (inner.get('name') if isinstance(inner, dict) else None) or '?'}'"
        config = list(config.values())
    for value in config if isinstance(config, list) else ():
        yield from _lambdas(value)


def _keras(version: str, place: str) -> ModuleType:
    """The Keras that opens files of a version."""
    if int(version.split(".")[0]) < 3:
        return import_framework("tf_keras", place)
    found = {name: importlib.util.find_spec(name) is not None for name in ("tensorflow", "torch")}
    if found["torch"] and not found["tensorflow"]:
        os.environ.setdefault("KERAS_BACKEND", "torch")
    return import_framework("keras", place)


def _title(keras: ModuleType) -> str:
    backend = keras.backend.backend() if hasattr(keras.backend, "backend") else "tensorflow"
    return f"Keras {keras.__version__} ({backend})"
