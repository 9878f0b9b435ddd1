"""References in PyTorch: a module that the user's own code builds, with the weights of weights.path, on the CPU.

callable module:function ─> nn.Module ┐
                                      ├─> eval, float32 ─ Recorder ─> tensors by name
weights.path, .key, .prefix ──────────┘   strict: nothing missing, nothing left over but weights.ignore
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from spec.errors import TransplantFailure, UsageError, VerificationError, did_you_mean
from spec.layers import Layer
from spec.layers.arrangement import TO_NCHW
from spec.model import InputSpec, ModelSpec
from verify.frameworks import first_line, import_framework
from verify.module_folders import importable
from verify.reference import Reference, spellings
from verify.tensor_guess import parts
from verify.torch_recorder import Recorder
from verify.torch_weights import load_weights


def open_source(model: ModelSpec) -> Reference:
    """Builds the module of `reference.callable` and loads its weights; see verify.reference.open_reference."""
    place = f"{model.place('reference', 'callable')}: reference.callable"
    torch = import_framework("torch", place)
    module = _built(model, place)
    if not isinstance(module, torch.nn.Module):
        found = f"{model.reference.callable} returned a {type(module).__name__}"
        raise UsageError(f"{place}: {found}, wanted a torch.nn.Module")
    load_weights(torch, module, model)
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
        self._names, self._shapes = recorder.names(), recorder.shapes
        self._order = list(model.inputs)

    def names(self) -> Sequence[str]:
        return list(self._names)

    def shape(self, name: str) -> Optional[Tuple[int, ...]]:
        return self._shapes[self._names[name]]

    def function(self, name: str) -> Optional[str]:
        """By the class of the module itself, or the function's name; a Hardtanh is neither."""
        path, _, function = self._names[name].name.partition(":")
        if function:
            return function if function in ("relu", "relu6") else None
        nn = self._torch.nn
        return {nn.ReLU: "relu", nn.ReLU6: "relu6"}.get(type(self._module.get_submodule(path)))

    def takes(self, name: str) -> Tuple[Optional[Tuple[int, ...]], str]:
        """Modules do not say; their weights are float32."""
        return None, "float32"

    def by_rule(self, layers: Sequence[Layer]) -> Dict[str, str]:
        """The module of the layer's name; for our `S.add` or `S/add`, the function `add` that module S calls."""
        found = {}
        for layer in layers:
            known = [name for name in (*spellings(layer), ":".join(parts(layer.name))) if name in self._names]
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


def _built(model: ModelSpec, place: str) -> Any:
    """What `module:function` returns: beside the config, beside its folder, in the working directory, or installed."""
    module_name, _, name = model.reference.callable.partition(":")
    beside = model.path.resolve().parent
    folders = list(dict.fromkeys(map(str, (beside, beside.parent, Path.cwd()))))
    if not name:
        raise UsageError(f"{place}: found '{module_name}', wanted module:function")
    with importable(module_name, folders):
        module = _foreign(f"{place}: import of {module_name}", lambda: _imported(module_name, folders, place))
        function = getattr(module, name, None)
        if not callable(function):
            known = [word for word, value in vars(module).items() if callable(value)]
            where = f"{module_name} ({getattr(module, '__file__', None) or 'a folder'})"
            raise UsageError(f"{place}: no function '{name}' in {where}{did_you_mean(name, known)}")
        return _foreign(f"{place}: {model.reference.callable}()", function)


def _imported(module_name: str, folders: List[str], place: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, and something that it imports is not
        looked = f"looked in {', '.join(folders)}, and among what is installed"
        raise UsageError(f"{place}: cannot import '{module_name}' ({error}) - {looked}") from error


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
