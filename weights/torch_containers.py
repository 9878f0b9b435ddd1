"""Where in a training checkpoint the state_dict is.

    {"epoch": 3, "state_dict": {...}, "optimizer": {"state": {...}, "param_groups": [...]}}   ──>  state_dict
    {"model": {...}, "ema": {...}}                                                            ──>  an error: which one?

Every training script has its own keys; USUAL_KEYS are those of well-known ones.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, Optional, Tuple

from spec.errors import CheckpointError, did_you_mean
from spec.wording import counted

from .torch_pickle import RefusedTensor, StoredTensor, direct_tensors

# The usual keys of a state_dict; dicts of tensors under other keys count only when none of these is there.
USUAL_KEYS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "net_state_dict",
    "network",
    "ema",
    "ema_state_dict",
    "model_ema",
    "state_dict_ema",
    "params",
    "params_ema",
    "weights",
    "module",
)
_DEPTH = 3
_OPTIMIZER_KEYS = {"state", "param_groups"}


def find_state_dict(root: Any, key: Optional[str], place: str) -> Tuple[str, Dict]:
    """Dotted path ("" for the root) and value of the dict that holds the model's tensors.

    Args:
        root: the object of the pickle.
        key: the dotted path the user chose, or None.
        place: the file, for messages.

    Raises:
        CheckpointError: there is none, several fit, or `key` is not among them.
    """
    found = dict(_dicts_of_tensors(root, "", _DEPTH))
    if not found:
        raise CheckpointError(f"{place}: no tensors in it: {_describe(root)} - save model.state_dict()")
    if key is not None:
        if key not in found:
            found_none = f"no tensors under the key '{key}'{did_you_mean(key, found)}"
            raise CheckpointError(f"{place}: {found_none} - {_list(found)}")
        return key, found[key]
    candidates = _candidates(found)
    if len(candidates) > 1:
        raise CheckpointError(f"{place}: several state_dicts in one file - {_list(candidates)}; choose one with `key`")
    return next(iter(candidates.items()))


def _candidates(found: Dict[str, Dict]) -> Dict[str, Dict]:
    usual = {path: value for path, value in found.items() if path.rsplit(".", 1)[-1] in USUAL_KEYS}
    # Without a usual key, tensors at the root are the state_dict, and dicts below them some layer's extra state.
    return usual or ({"": found[""]} if "" in found else found)


def _dicts_of_tensors(node: Any, path: str, depth: int) -> Iterator[Tuple[str, Dict]]:
    if not isinstance(node, dict) or _OPTIMIZER_KEYS <= set(dict.keys(node)):
        return
    if direct_tensors(node):
        yield path, node
    for key, value in dict.items(node) if depth else ():
        if isinstance(key, str):
            yield from _dicts_of_tensors(value, f"{path}.{key}" if path else key, depth - 1)


def _list(found: Dict[str, Dict]) -> str:
    sizes = {path: counted(len(direct_tensors(value)), "tensor") for path, value in found.items()}
    return "found " + ", ".join(f"'{path}' ({size})" for path, size in sizes.items())


def _describe(root: Any) -> str:
    if isinstance(root, (StoredTensor, RefusedTensor)):
        return "one tensor without a name"
    if not isinstance(root, dict):
        return f"a {type(root).__name__} instead of a dict"
    keys = [str(key) for key in dict.keys(root)]
    shown = ", ".join(f"'{key}'" for key in keys[:8]) + (", ..." if len(keys) > 8 else "")
    return f"a dict with the keys {shown}" if keys else "an empty dict"
