"""The weights of a PyTorch reference: the state_dict that weights.path, .key and .prefix name, loaded strictly.

    file ─_read()─> dicts ─weights.key─> state_dict ─weights.prefix, .ignore─> module.load_state_dict
"""

from __future__ import annotations

import fnmatch
import pickle
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Iterator, Mapping, Tuple

from spec.errors import UsageError, VerificationError
from spec.model import ModelSpec
from verify.frameworks import first_line, import_framework

_DEPTH = 3  # of a state_dict inside a training checkpoint


def load_weights(torch: ModuleType, module: Any, model: ModelSpec) -> None:
    """Loads the state_dict of weights.path into the module, strictly.

    Raises:
        UsageError: there is no such file, or it needs a package that is not installed.
        VerificationError: it is damaged, holds more than tensors, or does not fit the module.
    """
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
