"""TensorFlow's protocol buffer messages, only those a reader needs, built at run time from one table.

    MESSAGES ──> FileDescriptorProto ──> a DescriptorPool of our own ──> message classes

TensorFlow registers messages of the same names in the default pool of the process; a pool of our own cannot clash.
Field numbers: tensorflow/core/framework/*.proto and tensorflow/core/protobuf/*.proto, unchanged since TensorFlow 0.12.
"""

from __future__ import annotations

import functools
from typing import Any, Dict, Tuple

from spec.errors import CheckpointError

from .mapped_file import Buffer
from .packages import import_package

# DataType of tensorflow/core/framework/types.proto -> NumPy's name.
DTYPES: Dict[int, str] = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    8: "complex64",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    22: "uint32",
    23: "uint64",
}
# The types no array of ours can hold: they are reported, never read.
UNREADABLE_DTYPES: Dict[int, str] = {
    7: "string",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    15: "qint16",
    16: "quint16",
    20: "resource",
    21: "variant",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
    29: "int4",
    30: "uint4",
}

# Message -> (field, number, kind). Enumerations are int32: the same on the wire. `oneof`: they share one, "value".
# The packed floats of a TensorProto are declared as bytes, the same wire type: NumPy reads bytes 100 times faster
# than a list of Python floats.
MESSAGES: Dict[str, Tuple[Tuple[str, int, str], ...]] = {
    "Dimension": (("size", 1, "int64"),),
    "TensorShapeProto": (("dim", 2, "repeated Dimension"), ("unknown_rank", 3, "bool")),
    "Extent": (("start", 1, "int64"), ("length", 2, "oneof int64")),
    "TensorSliceProto": (("extent", 1, "repeated Extent"),),
    "TensorProto": (
        ("dtype", 1, "int32"),
        ("tensor_shape", 2, "TensorShapeProto"),
        ("tensor_content", 4, "bytes"),
        ("float_val", 5, "bytes"),
        ("double_val", 6, "bytes"),
        ("int_val", 7, "repeated int32"),
        ("string_val", 8, "repeated bytes"),
        ("scomplex_val", 9, "bytes"),
        ("int64_val", 10, "repeated int64"),
        ("bool_val", 11, "repeated bool"),
        ("dcomplex_val", 12, "bytes"),
        ("half_val", 13, "repeated int32"),
        ("uint32_val", 16, "repeated uint32"),
        ("uint64_val", 17, "repeated uint64"),
    ),
    # tensor_bundle.proto: the V2 checkpoint
    "BundleHeaderProto": (("num_shards", 1, "int32"), ("endianness", 2, "int32")),
    "BundleEntryProto": (
        ("dtype", 1, "int32"),
        ("shape", 2, "TensorShapeProto"),
        ("shard_id", 3, "int32"),
        ("offset", 4, "int64"),
        ("size", 5, "int64"),
        ("crc32c", 6, "fixed32"),
        ("slices", 7, "repeated TensorSliceProto"),
    ),
    # saved_tensor_slice.proto: the V1 checkpoint
    "SavedSliceMeta": (
        ("name", 1, "string"),
        ("shape", 2, "TensorShapeProto"),
        ("type", 3, "int32"),
        ("slice", 4, "repeated TensorSliceProto"),
    ),
    "SavedTensorSliceMeta": (("tensor", 1, "repeated SavedSliceMeta"),),
    "SavedSlice": (("name", 1, "string"), ("slice", 2, "TensorSliceProto"), ("data", 3, "TensorProto")),
    "SavedTensorSlices": (("meta", 1, "SavedTensorSliceMeta"), ("data", 2, "SavedSlice")),
    # trackable_object_graph.proto: the names in a TensorFlow 2 object checkpoint
    "ObjectReference": (("node_id", 1, "int32"), ("local_name", 2, "string")),
    "SerializedTensor": (("name", 1, "string"), ("full_name", 2, "string"), ("checkpoint_key", 3, "string")),
    "TrackableObject": (("children", 1, "repeated ObjectReference"), ("attributes", 2, "repeated SerializedTensor")),
    "TrackableObjectGraph": (("nodes", 1, "repeated TrackableObject"),),
    # node_def.proto, attr_value.proto: of an attribute only the tensor that a constant has
    "AttrValue": (("tensor", 8, "TensorProto"),),
    "NodeDef": (("name", 1, "string"), ("op", 2, "string"), ("attr", 5, "map AttrValue")),
}

_PACKAGE = "trt_transplant"


@functools.lru_cache(maxsize=None)
def message_class(name: str) -> Any:
    """The class of the message `name`, a key of MESSAGES."""
    import_package("google.protobuf")
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def parse(name: str, data: Buffer, place: str) -> Any:
    """The message `name` decoded from `data`.

    Raises:
        CheckpointError: the bytes are no such message; `place` says where they are.
    """
    decoder = message_class(name)
    from google.protobuf.message import DecodeError

    try:
        return decoder.FromString(bytes(data))
    except DecodeError as error:
        raise CheckpointError(f"{place}: damaged: {len(data)} bytes do not decode as a {name}") from error


def shape_of(shape: Any) -> Tuple[int, ...]:
    """The dimensions of a TensorShapeProto."""
    return tuple(dimension.size for dimension in shape.dim)


@functools.lru_cache(maxsize=None)
def _pool() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool

    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        if any(kind.startswith("oneof ") for _, _, kind in fields):
            message.oneof_decl.add(name="value")
        for field, number, kind in fields:
            _add_field(message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _add_field(message: Any, field: str, number: int, kind: str) -> None:
    *modifier, scalar = kind.split()
    added = message.field.add(name=field, number=number, label=_LABEL_REPEATED if modifier else _LABEL_OPTIONAL)
    if modifier == ["oneof"]:
        added.label, added.oneof_index = _LABEL_OPTIONAL, 0
    if modifier == ["map"]:
        scalar = f"{message.name}.{_add_map_entry(message, field, scalar)}"
    _set_type(added, scalar)


def _add_map_entry(message: Any, field: str, kind: str) -> str:
    # A map is a repeated nested message {key = 1, value = 2}, named after its field: protobuf checks the name.
    entry = message.nested_type.add(name=field.title().replace("_", "") + "Entry")
    entry.options.map_entry = True
    _add_field(entry, "key", 1, "string")
    _add_field(entry, "value", 2, kind)
    return entry.name


def _set_type(field: Any, kind: str) -> None:
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _TYPE_MESSAGE, f".{_PACKAGE}.{kind}"


# FieldDescriptorProto.Label and .Type of google/protobuf/descriptor.proto
_LABEL_OPTIONAL, _LABEL_REPEATED, _TYPE_MESSAGE = 1, 3, 11
_SCALARS = {
    "int64": 3,
    "uint64": 4,
    "int32": 5,
    "fixed32": 7,
    "bool": 8,
    "string": 9,
    "bytes": 12,
    "uint32": 13,
}
