"""A pickle reader for torch.save files that builds tensors' descriptions and nothing else.

    pickle ──find_class──> REBUILDERS: our own functions; a StoredTensor, no data read
                           CONTAINERS: our own dict
                           INERT:      a stand-in that swallows everything (argparse.Namespace, numpy scalars, ...)
                           any other:  refused by name; nothing of the file is ever imported or called

Stricter than torch.load(weights_only=True), which calls the constructors of the classes it allows.
Source: torch/_utils.py (the _rebuild functions), torch/serialization.py (persistent_load).
"""

from __future__ import annotations

import io
import pickle
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from spec.errors import CheckpointError

from .torch_globals import CODE_PACKAGES, CONTAINERS, DTYPE_PREFIXES, DTYPES, INERT, INERT_PACKAGES, STORAGES

# What the C unpickler raises on damaged or hostile bytes.
_DAMAGE = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


class Storage(NamedTuple):
    """A flat run of numbers in the file."""

    key: str
    dtype: str
    count: int


class StoredTensor(NamedTuple):
    """A tensor as a strided window of a storage; offset and strides count elements of `dtype`."""

    storage: Storage
    dtype: str
    offset: int
    shape: Tuple[int, ...]
    strides: Tuple[int, ...]


class RefusedTensor(NamedTuple):
    """A tensor of a kind that has no array of plain numbers."""

    kind: str


class Inert:
    """Stands for an object that is no tensor: it takes every argument and state, and keeps none."""

    __slots__ = ()

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None:
        pass

    def __setitem__(self, _: Any, __: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        pass

    def extend(self, _: Any) -> None:
        pass

    add = append


class StateDict(dict):
    """Stands for OrderedDict and the other dicts: keeps items, not the attributes (state_dict's `_metadata`)."""

    __slots__ = ()

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        pass


class _Function:
    """A function a pickle may call. An object without attributes, because a pickle may also try to set some."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError("it tries to change a function")


class StorageType(NamedTuple):
    """Stands for a storage class or a dtype of torch; `dtype` is None where no array can hold its numbers."""

    name: str
    dtype: Optional[str]


def _tensor(storage: Any, offset: int, shape: Any, strides: Any, *_: Any) -> Any:
    return _window(storage, storage.dtype, offset, shape, strides)


def _tensor_with_dtype(storage: Any, offset: int, shape: Any, strides: Any, _: Any, __: Any, dtype: Any, *___: Any):
    if dtype.dtype is None:
        return RefusedTensor(dtype.name)
    return _window(storage, dtype.dtype, offset, shape, strides)


def _window(storage: Any, dtype: str, offset: int, shape: Any, strides: Any) -> StoredTensor:
    numbers = (offset, *shape, *strides)
    if (
        not isinstance(storage, Storage)
        or len(shape) != len(strides)
        or any(type(n) is not int or n < 0 for n in numbers)
    ):
        raise pickle.UnpicklingError("a tensor of no proper storage, offset, shape or strides")
    return StoredTensor(storage, dtype, offset, tuple(shape), tuple(strides))


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _from_type(function: Any, _: Any, arguments: Tuple, *__: Any) -> Any:
    if not isinstance(function, _Function):
        raise pickle.UnpicklingError("a tensor subclass with its own rebuild function")
    return function(*arguments)


def _refused(kind: str) -> Callable:
    return lambda *_: RefusedTensor(kind)


REBUILDERS: Dict[str, Callable] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_with_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch._utils._rebuild_qtensor": _refused("quantized"),
    "torch._utils._rebuild_sparse_tensor": _refused("sparse"),
    "torch._utils._rebuild_sparse_csr_tensor": _refused("sparse"),
    "torch._utils._rebuild_nested_tensor": _refused("nested"),
    "torch._utils._rebuild_meta_tensor_no_storage": _refused("meta (without data)"),
    "torch._utils._rebuild_device_tensor_from_numpy": _refused("device-specific"),
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _refused("device-specific"),
    "torch._utils._rebuild_wrapper_subclass": _refused("wrapper subclass"),
}


class RestrictedUnpickler(pickle.Unpickler):
    """Reads one pickle.

    Args:
        file: where the pickle starts; the position behind it is left in the file.
        place: how to name it to people.
    """

    def __init__(self, file: io.IOBase, place: str) -> None:
        super().__init__(file, encoding="utf-8")
        self._place = place
        self.storages: Dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for the global `module.name`.

        Raises:
            CheckpointError: it belongs to no state_dict.
        """
        full = f"{module}.{name}"
        if full in REBUILDERS:
            return _Function(REBUILDERS[full])
        if full in CONTAINERS:
            return StateDict
        if module in ("torch", "torch.storage", "torch.cuda") and name in STORAGES:
            return StorageType(name, STORAGES[name])
        if module == "torch" and name.startswith(DTYPE_PREFIXES):
            return StorageType(name, DTYPES.get(name))
        if full in INERT or full.startswith(INERT_PACKAGES):
            return type(name.rsplit(".", 1)[-1], (Inert,), {"__slots__": ()})
        raise CheckpointError(_refusal(self._place, module, full))

    def persistent_load(self, reference: Any) -> Any:
        """The storage a pickle refers to: ("storage", class, key, device, element count[, view])."""
        if not (isinstance(reference, tuple) and len(reference) >= 5 and isinstance(reference[1], StorageType)):
            raise pickle.UnpicklingError("a reference to something that is no storage")
        _, kind, key, _, count, *view = reference
        if view and view[0] is not None:
            raise pickle.UnpicklingError("a view of a storage, as PyTorch before 0.4 wrote them")
        return self.storages.setdefault(str(key), Storage(str(key), kind.dtype, int(count)))


def load_pickle(file: io.IOBase, place: str) -> Tuple[Any, Dict[str, Storage]]:
    """The object of the pickle that starts here, and the storages it refers to, by key.

    Raises:
        CheckpointError: the pickle is damaged, or needs more than a state_dict does.
    """
    unpickler = RestrictedUnpickler(file, place)
    try:
        return unpickler.load(), unpickler.storages
    except _DAMAGE as error:
        raise CheckpointError(f"{place}: damaged, or no state_dict: its pickle cannot be read ({error})") from error


def _refusal(place: str, module: str, full: str) -> str:
    if module.split(".")[0] in CODE_PACKAGES:
        found = f"its pickle asks to call '{full}', which no checkpoint needs and an attack does"
        return f"{place}: unsafe: {found}; nothing was run - get the file from a source you trust"
    found = f"it holds a pickled object of class '{full}', a whole model or training object instead of its tensors"
    cure = "where that class can be imported, load it and run torch.save(model.state_dict(), path)"
    return f"{place}: {found} - {cure}"


def direct_tensors(container: Dict) -> List[str]:
    """The keys of a dict whose values are tensors."""
    tensors = (StoredTensor, RefusedTensor)
    return [key for key, value in dict.items(container) if isinstance(key, str) and isinstance(value, tensors)]
