"""TensorFlow graphs: the weights of a frozen graph, and what the other files of graphs are told by.

    GraphDef  node 1 | node 2 | ...      a Const node holds its tensor: located here, decoded when it is read
    MetaGraphDef (.meta) and SavedModel (saved_model.pb) wrap a GraphDef; their variables are in a checkpoint

Source: tensorflow/core/framework/graph.proto, tensorflow/core/protobuf/meta_graph.proto, saved_model.proto.
"""

from __future__ import annotations

import itertools
import re
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

import numpy as np

from spec.errors import CheckpointError

from .checkpoint import Checkpoint, TensorInfo
from .mapped_file import map_file
from .sstable import read_varint
from .tf_protos import DTYPES, parse, shape_of
from .tf_tensor import tensor_value

_NODE_FIELD = 1  # of a GraphDef
_GRAPH_FIELD = 2  # of a MetaGraphDef, and of the MetaGraphDefs in a SavedModel
_MESSAGE = 2  # wire type of messages, strings and bytes
_FIXED_SIZES = {1: 8, 5: 4}
_FLOATS = ("float16", "float32", "float64", "bfloat16")


def recognise(path: Path) -> bool:
    """Whether the file is a bare GraphDef in binary form: it has no magic, so its first node must look like one."""
    return path.is_file() and _is_graph(map_file(path))


def read(path: Path) -> Checkpoint:
    """Open a frozen graph: its tensors are the float constants of rank 1 or more, under their node names.

    Scalars and integer constants are left out: they are the graph's own shapes, axes and factors, not weights.

    Raises:
        CheckpointError: the file is damaged, or the graph has no such constant (it was not frozen).
    """
    data = map_file(path)
    places = {}
    tensors: Dict[str, TensorInfo] = {}
    for start, end in _nodes(data, str(path)):
        node = parse("NodeDef", data[start:end], str(path))
        info = _constant_info(node)
        if info:
            places[node.name], tensors[node.name] = (start, end), info
    if not tensors:
        cure = "name the checkpoint the graph was saved with, or freeze it (convert_variables_to_constants)"
        raise CheckpointError(f"{path}: a TensorFlow graph without float constants, so not a frozen one - {cure}")
    detail = "frozen graph, float constants of rank 1 or more"
    return Checkpoint(path, "tf_graph", detail, (path,), tensors, partial(_load, path, data, places))


def is_meta_graph(data: memoryview) -> bool:
    """Whether the bytes start as a MetaGraphDef, a .meta file."""
    return _first_field(data, _GRAPH_FIELD, _is_graph)


def is_saved_model(data: memoryview) -> bool:
    """Whether the bytes start as a SavedModel, a saved_model.pb."""
    return bytes(data[:2]) == b"\x08\x01" and _first_field(data, _GRAPH_FIELD, is_meta_graph)


def _load(path: Path, data: memoryview, places: Dict[str, Tuple[int, int]], name: str) -> np.ndarray:
    start, end = places[name]
    node = parse("NodeDef", data[start:end], str(path))
    return tensor_value(node.attr["value"].tensor, f"{path}: constant '{name}'")


def _constant_info(node: Any) -> Optional[TensorInfo]:
    if node.op != "Const":
        return None
    tensor = node.attr["value"].tensor
    shape, dtype = shape_of(tensor.tensor_shape), DTYPES.get(tensor.dtype)
    return TensorInfo(shape, dtype) if dtype in _FLOATS and shape else None


def _nodes(data: memoryview, place: str) -> Iterator[Tuple[int, int]]:
    try:
        yield from ((start, end) for number, start, end in _fields(data) if number == _NODE_FIELD)
    except (IndexError, ValueError) as error:
        raise CheckpointError(f"{place}: damaged: cut short after a node of the graph ({error})") from error


def _is_graph(data: memoryview) -> bool:
    # The first node starts with its name and its op, both plain words.
    return _first_field(data, _NODE_FIELD, _is_node)


def _is_node(data: memoryview) -> bool:
    head = bytes(data[:512])
    if head[:1] != b"\x0a" or len(head) < 2:
        return False
    size, start = read_varint(head + b"\0" * 9, 1)
    return re.match(rb"\x12[\x01-\x7f][A-Z_][A-Za-z0-9_>]*", head[start + size :]) is not None


def _first_field(data: memoryview, wanted: int, test: Callable[[memoryview], bool]) -> bool:
    """Whether the first field with this number, among the first few, passes the test."""
    try:
        fields = itertools.islice(_fields(data), 4)
        return next((test(data[start:end]) for number, start, end in fields if number == wanted), False)
    except (IndexError, ValueError):
        return False


def _fields(data: memoryview) -> Iterator[Tuple[int, int, int]]:
    """Number, start and end of each field of an encoded message (protobuf.dev/programming-guides/encoding).

    Raises:
        IndexError, ValueError: the bytes are no whole message.
    """
    position = 0
    while position < len(data):
        tag, position = read_varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            _, end = read_varint(data, position)
        elif wire_type == _MESSAGE:
            size, position = read_varint(data, position)
            end = position + size
        elif wire_type in _FIXED_SIZES:
            end = position + _FIXED_SIZES[wire_type]
        else:
            raise ValueError(f"wire type {wire_type} at byte {position}")
        if number == 0 or end > len(data):
            raise ValueError(f"field {number} ends at byte {end} of {len(data)}")
        yield number, position, end
        position = end
