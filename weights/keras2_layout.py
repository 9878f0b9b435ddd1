"""The HDF5 layout of Keras 1 and 2, tf.keras, tf_keras, and of Keras 3's `model.save('x.h5')`.

    [model_weights/]  attributes backend, keras_version, layer_names
      conv1/          attribute weight_names = ["conv1/kernel:0", "conv1/bias:0"]
        conv1/kernel:0                                              ──> conv1/kernel
      inner/          weight_names = ["ic/kernel:0"]: nested model  ──> inner/ic/kernel
    optimizer_weights/                                              ──> not listed

Source: keras/engine/saving.py of Keras 2.2.4, keras/src/legacy/saving/legacy_h5_format.py of Keras 3.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Dict, Iterator, List, Tuple

from spec.errors import CheckpointError

from .hdf5_file import Hdf5File

_MODEL_WEIGHTS, _TOP_LEVEL, _OPTIMIZER = "model_weights", "top_level_model_weights", "optimizer_weights"
_LAYERS, _WEIGHTS = "layer_names", "weight_names"


def recognise(file: Hdf5File) -> bool:
    """Whether the file has this layout, as a full model or weights only."""
    if file.child(file.root, _MODEL_WEIGHTS) is not None:
        return True
    return any(file.attribute(file.root, name) is not None for name in (_LAYERS, f"{_LAYERS}0"))


def named_datasets(file: Hdf5File) -> Tuple[Dict[str, Tuple[Hdf5File, Any]], str]:
    """File and dataset of every weight by name, and what was found, for people.

    Raises:
        CheckpointError: written with the Theano backend, or a listed weight is missing.
    """
    model_weights = file.child(file.root, _MODEL_WEIGHTS)
    root = file.root if model_weights is None else model_weights
    _refuse_theano(file, root)
    found = list(_weights(file, root))
    names = _names([(layer, weight) for layer, weight, _ in found])
    version = file.attribute(root, "keras_version") or "1"
    detail = f"Keras-2 layout, {'weights only' if model_weights is None else 'full model'}, Keras {version}"
    detail += "; optimizer variables not listed" if file.child(file.root, _OPTIMIZER) is not None else ""
    return {name: (file, dataset) for name, (_, _, dataset) in zip(names, found)}, detail


def _refuse_theano(file: Hdf5File, root: Any) -> None:
    backend = file.attribute(root, "backend")
    if backend == "theano":
        found = "written by Keras with the Theano backend, whose kernels are turned by 180 degrees"
        cure = "load it into Keras 2 with the TensorFlow backend, which turns them, and save the weights again"
        raise CheckpointError(f"{file.place}: {found} - {cure}")


def _weights(file: Hdf5File, root: Any) -> Iterator[Tuple[str, str, Any]]:
    """Layer, stored name and dataset of every weight, in model order."""
    # Newer Keras keeps weights outside of any layer in a group of their own, which layer_names leaves out.
    for layer in (*file.names(root, _LAYERS), _TOP_LEVEL):
        group = file.child(root, layer)
        for weight in file.names(group, _WEIGHTS) if group is not None else ():
            dataset = file.child(group, weight)
            if dataset is None or hasattr(dataset, "keys"):
                raise CheckpointError(f"{file.place}: damaged: layer '{layer}' lists '{weight}', which is not there")
            yield layer, weight, dataset


def _names(weights: List[Tuple[str, str]]) -> List[str]:
    full = [f"{layer}/{_without_output(weight)}" for layer, weight in weights]
    short = [canonical_name(layer, weight) for layer, weight in weights]
    counts = Counter(short)
    return [name if counts[name] == 1 else path for name, path in zip(short, full)]


def canonical_name(layer: str, weight: str) -> str:
    """`<layer>/<variable>` of a weight name as stored.

    `conv1/kernel:0`, `conv1_2/kernel:0` (a layer built twice in one session) and `net/conv1/kernel:0` (built inside of
    a model's name scope) of the layer `conv1` are all `conv1/kernel`.
    """
    stem = _without_output(weight)
    own = re.match(rf"(?:.*?/)?{re.escape(layer)}(?:_\d+)?/", stem)
    return f"{layer}/{stem[own.end() :] if own else stem}"


def _without_output(weight: str) -> str:
    # A TensorFlow tensor is named <op>:<output>.
    return re.sub(r":\d+$", "", weight)
