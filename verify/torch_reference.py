"""References in PyTorch: a module that the user's own code builds, with the weights of weights.path, on the CPU.

callable module:function ─> nn.Module ┐
                                      ├─> eval, float32 ─ Recorder ─> tensors by name
weights.path, .key, .prefix ──────────┘   strict: nothing missing, nothing left over but weights.ignore
"""

from __future__ import annotations

import contextlib
import fnmatch
import importlib
import os
import pickle
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from spec.errors import TransplantFailure, UsageError, VerificationError, did_you_mean
from spec.layers import Layer
from spec.layers.arrangement import TO_NCHW
from spec.model import InputSpec, ModelSpec
from verify.frameworks import first_line, import_framework
from verify.reference import Reference, spellings
from verify.torch_recorder import Recorder

_DEPTH = 3  # of a state_dict inside a training checkpoint


def open_source(model: ModelSpec) -> Reference:
    """Builds the module of `reference.callable` and loads its weights; see verify.reference.open_reference."""
    place = f"{model.place('reference', 'callable')}: reference.callable"
    torch = import_framework("torch", place)
    function = _function(model, place)
    module = _foreign(f"{place}: {model.reference.callable}()", function)
    if not isinstance(module, torch.nn.Module):
        found = f"{model.reference.callable} returned a {type(module).__name__}"
        raise UsageError(f"{place}: {found}, wanted a torch.nn.Module")
    _load(torch, module, model)
    title = f"PyTorch {torch.__version__}, {model.reference.callable} with {model.weights_path.name}"
    return TorchReference(torch, module.eval().float().cpu(), title, model, place)


class TorchReference(Reference):
    """A module with its weights; what it calls is found by running it once on zeros."""

    image_layout = "NCHW"
    is_sequence = True

    def __init__(self, torch: ModuleType, module: Any, title: str, model: ModelSpec, place: str) -> None:
        self._torch, self._module, self._place, self.title = torch, module, place, title
        recorder = Recorder(module)
        self._run(recorder, [torch.zeros(_shape(spec)) for spec in model.inputs.values()])
        self._names = recorder.names()
        self._order = list(model.inputs)

    def names(self) -> Sequence[str]:
        return list(self._names)

    def takes(self, name: str) -> Tuple[Optional[Tuple[int, ...]], str]:
        """Modules do not say; their weights are float32."""
        return None, "float32"

    def by_rule(self, layers: Sequence[Layer]) -> Dict[str, str]:
        """The module of the layer's name; for our `S.add`, the function `add` that module S calls."""
        found = {}
        for layer in layers:
            scope, _, part = layer.name.rpartition(".")
            known = [name for name in (*spellings(layer), f"{scope}:{part}") if name in self._names]
            if known:
                found[layer.name] = known[0]
        return found

    def activations(self, inputs: Mapping[str, np.ndarray], names: Iterable[str]) -> Dict[str, np.ndarray]:
        wanted = {name: self._names[name] for name in names}
        recorder = Recorder(self._module, set(wanted.values()))
        self._run(recorder, [self._torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in self._order])
        lost = [name for name, key in wanted.items() if key not in recorder.kept]
        if lost:
            message = f"this input takes another way, without {', '.join(lost[:5])}"
            raise VerificationError(f"{self._place}: {self.title}: {message}")
        return {name: recorder.kept[key].numpy() for name, key in wanted.items()}

    def _run(self, recorder: Recorder, inputs: List[Any]) -> None:
        shapes = ", ".join(str(list(each.shape)) for each in inputs)
        _foreign(f"{self._place}: {self.title}: forward on {shapes}", lambda: recorder.run(*inputs))


def _shape(spec: InputSpec) -> List[int]:
    shape = [1 if size == -1 else size for size in spec.shape]
    return [shape[axis] for axis in TO_NCHW] if spec.layout == "NHWC" else shape


# the module


def _function(model: ModelSpec, place: str) -> Callable[[], Any]:
    """What `module:function` names: beside the config, beside its directory, in the working directory, or installed."""
    module_name, _, name = model.reference.callable.partition(":")
    beside = model.path.resolve().parent
    folders = [str(folder) for folder in (beside, beside.parent, Path.cwd())]
    if not name:
        raise UsageError(f"{place}: found '{module_name}', wanted module:function")
    with _importable(folders):
        module = _foreign(f"{place}: import of {module_name}", lambda: _imported(module_name, folders, place))
    function = getattr(module, name, None)
    if not callable(function):
        known = [word for word, value in vars(module).items() if callable(value)]
        where = f"{module_name} ({getattr(module, '__file__', None) or 'a folder'})"
        raise UsageError(f"{place}: no function '{name}' in {where}{did_you_mean(name, known)}")
    return function


def _imported(module_name: str, folders: List[str], place: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, and something that it imports is not
        looked = f"looked in {', '.join(dict.fromkeys(folders))}, and among what is installed"
        raise UsageError(f"{place}: cannot import '{module_name}' ({error}) - {looked}") from error


@contextlib.contextmanager
def _importable(folders: List[str]) -> Iterator[None]:
    """More folders to import from, for a while."""
    before = list(sys.path)
    sys.path[:0] = folders
    try:
        yield
    finally:
        sys.path[:] = before


# errors in it


def _foreign(what: str, function: Callable[[], Any]) -> Any:
    """What a function of the user's returns.

    Raises:
        VerificationError: it failed; names `what`, the error, and the line of the user's own file.
    """
    try:
        return function()
    except TransplantFailure:
        raise
    except (Exception, SystemExit) as error:  # the code is the user's own: no list of what it may raise is complete
        says = error.msg if isinstance(error, SyntaxError) else first_line(error)
        where = _place_in(error)
        message = f"{what} raised {type(error).__name__}: {says}{where and f', at {where}'}"
        raise VerificationError(f"{message} - this is the model's own code: correct it there") from error


def _place_in(error: BaseException) -> str:
    """`file:line` of the last call outside PyTorch, Python's importing and this package; empty if there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{each.filename}:{each.lineno}" for each in frames if not each.filename.startswith(_not_the_users())]
    return places[-1] if places else ""


def _not_the_users() -> Tuple[str, ...]:
    files = (__file__, importlib.__file__, sys.modules["torch"].__file__)
    return ("<frozen importlib", *(f"{Path(file).parent}{os.sep}" for file in files if file))


# its weights


def _load(torch: ModuleType, module: Any, model: ModelSpec) -> None:
    """Loads the state_dict of weights.path, strictly."""
    place = f"{model.place('weights', 'path')}: weights.path"
    path = model.weights_path
    found = dict(_state_dicts(torch, _read(torch, path, place), "", _DEPTH))
    stripped = {key: _stripped(state, model.weights.prefix) for key, state in found.items()}
    state = _chosen(stripped, module, model, f"{place}: {path}")
    kept = {name: each for name, each in state.items() if name in module.state_dict() or not _ignored(model, name)}
    try:
        missing, unused = module.load_state_dict(kept, strict=False)
    except RuntimeError as error:
        raise VerificationError(f"{place}: {path}: {str(error)}") from error
    if missing or unused:
        lists = [
            f"{word} {', '.join(names[:5])}" for word, names in (("missing", missing), ("unused", unused)) if names
        ]
        fit = f"{path} does not fit {model.reference.callable}: {'; '.join(lists)}"
        raise VerificationError(f"{place}: {fit} - is weights.prefix '{model.weights.prefix}' or weights.key wrong?")


def _read(torch: ModuleType, path: Path, place: str) -> Any:
    """The object of a file; tensors and plain values only, no code of a pickle is run."""
    if not path.is_file():
        raise UsageError(f"{place}: no file {path}")
    try:
        if path.suffix == ".safetensors":
            return import_framework("safetensors.torch", place).load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        cure = "save model.state_dict() alone"
        raise VerificationError(f"{place}: {path}: PyTorch refuses it: {first_line(error)} - {cure}") from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise VerificationError(f"{place}: {path} is damaged: {first_line(error)}") from error


def _state_dicts(torch: ModuleType, node: Any, key: str, depth: int) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Every dict with tensors in it, by the dotted keys that lead to it; the outermost is ''."""
    if not isinstance(node, Mapping):
        return
    tensors = {name: value for name, value in node.items() if isinstance(value, torch.Tensor)}
    if tensors:
        yield key, tensors
    for name, value in node.items() if depth else ():
        if isinstance(name, str):
            yield from _state_dicts(torch, value, f"{key}.{name}" if key else name, depth - 1)


def _stripped(state: Dict[str, Any], prefix: str) -> Dict[str, Any]:
    return {name[len(prefix) :] if name.startswith(prefix) else name: each for name, each in state.items()}


def _ignored(model: ModelSpec, name: str) -> bool:
    spellings = (name, model.weights.prefix + name)
    return any(fnmatch.fnmatchcase(each, pattern) for each in spellings for pattern in model.weights.ignore)


def _chosen(found: Dict[str, Dict[str, Any]], module: Any, model: ModelSpec, place: str) -> Dict[str, Any]:
    """The state_dict of weights.key; without one, the only that shares names with the module."""
    if model.weights.key is not None:
        if model.weights.key not in found:
            raise VerificationError(f"{place}: no tensors under weights.key '{model.weights.key}'; found {list(found)}")
        return found[model.weights.key]
    names = set(module.state_dict())
    sharing = {key: state for key, state in found.items() if names & set(state)} or found
    if len(sharing) != 1:
        keys = ", ".join(f"'{key}'" for key in sharing) or "none"
        raise VerificationError(
            f"{place}: {len(sharing)} state_dicts in it ({keys}), wanted one - choose by weights.key"
        )
    return next(iter(sharing.values()))
