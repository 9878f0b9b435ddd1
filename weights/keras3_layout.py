"""The HDF5 layout of Keras 3, whose files know layers by class and count, variables by number.

    layers/conv2d_1/vars/0, 1              attribute `name` of `vars`, or configuration  ──> conv1/0, conv1/1
    layers/functional/layers/dense/vars/0  layer `fc` of the nested model `inner`        ──> inner/fc/0
    optimizer/vars/0, metrics/...                                                        ──> not listed

The count is per class in the order of the model's configuration and starts anew in each nested model.
Source: keras/src/saving/saving_lib.py (_save_state, _save_container_state), keras/src/utils/naming.py.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, Dict, List, Optional, Sequence, Tuple

from spec.errors import CheckpointError

from .hdf5_file import Hdf5File

# Attribute that holds the layers -> how often each layer counts. Keras 2.12 and 2.13 walk over a dictionary with two
# entries for every layer that has weights, so that their names are conv2d, conv2d_2, conv2d_4.
_CONTAINERS = {"layers": 1, "_layer_checkpoint_dependencies": 2}
_VARIABLES = "vars"
_NOT_OF_THE_MODEL = ("optimizer", "metrics", "loss_tracker", "compile_metrics")

# Group of a layer (`layers/conv2d_1`) -> the layer's own name.
_LayerNames = Dict[str, str]


def named_datasets(files: Sequence[Hdf5File], config: Optional[Dict]) -> Tuple[Dict[str, Tuple[Hdf5File, Any]], str]:
    """File and dataset of every variable by name, and what was found, for people.

    Args:
        files: one file, or all shards.
        config: the configuration of the model, where there is one.
    """
    members = [(file, path, member) for file in files for path, member in file.walk(file.root)]
    layer_names = _layer_names(members, config)
    # conv2d_10 comes after conv2d_9.
    variables = sorted((item for item in members if _is_variable(*item[1:])), key=lambda item: _numerical(item[1]))
    names = [_name(path, layer_names) for _, path, _ in variables]
    counts = Counter(names)
    # Two variables of one name keep their paths, which are unique.
    unique = [name if counts[name] == 1 else path for name, (_, path, _) in zip(names, variables)]
    named = {name: (file, dataset) for name, (file, _, dataset) in zip(unique, variables)}
    return named, _detail(files, layer_names)


def _detail(files: Sequence[Hdf5File], layer_names: _LayerNames) -> str:
    dropped = sorted({name for file in files for name, _ in file.children(file.root) if name in _NOT_OF_THE_MODEL})
    unnamed = "" if layer_names else ", layer names unknown: paths of the file instead"
    return f"Keras-3 layout{unnamed}" + (f"; {' and '.join(dropped)} variables not listed" if dropped else "")


def _layer_names(members: Sequence[Tuple[Hdf5File, str, Any]], config: Optional[Dict]) -> _LayerNames:
    names: _LayerNames = {}
    for container in _CONTAINERS if config else ():
        names.update(_names_in_config(config, container))
    for file, path, member in members:
        name = file.attribute(member, "name") if path.endswith(f"/{_VARIABLES}") else None
        names.update({path[: -len(_VARIABLES) - 1]: str(name)} if name else {})
    return names


def stored_config(file: Hdf5File) -> Optional[Dict]:
    """The model configuration in the root attributes, where there is one."""
    stored = file.attribute(file.root, "model_config")
    try:
        return json.loads(stored) if isinstance(stored, str) else None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file.place}: attribute 'model_config': damaged: no JSON ({error})") from error


def snake_case(name: str) -> str:
    """Keras' own spelling of a class as a group name (keras.src.utils.naming.to_snake_case)."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _is_variable(path: str, member: Any) -> bool:
    parts = path.split("/")
    in_variables = len(parts) >= 2 and parts[-2] == _VARIABLES and not hasattr(member, "keys")
    return in_variables and parts[0] not in _NOT_OF_THE_MODEL


def _numerical(path: str) -> List[Tuple[str, int]]:
    return [(re.sub(r"_?\d+$", "", part), int((re.findall(r"\d+$", part) or ["-1"])[0])) for part in path.split("/")]


def _name(path: str, layer_names: _LayerNames) -> str:
    """`layers/functional/layers/conv2d/vars/0` -> `inner/conv1/0`; a layer without a name keeps its path."""
    *group, _, number = path.split("/")
    parts: List[str] = []
    for position, part in enumerate(group):
        if part in _CONTAINERS and position + 1 < len(group) and "/".join(group[: position + 2]) in layer_names:
            continue
        follows_container = position and group[position - 1] in _CONTAINERS
        parts.append(layer_names.get("/".join(group[: position + 1]), part) if follows_container else part)
    return "/".join(parts + [number])


def _names_in_config(config: Dict, container: str, above: str = "") -> _LayerNames:
    names: _LayerNames = {}
    counts: Counter = Counter()
    for layer in _layers(config):
        kind = snake_case(layer.get("class_name", ""))
        group = f"{above}{container}/{kind}" + (f"_{counts[kind]}" if counts[kind] else "")
        counts[kind] += _CONTAINERS[container]
        names[group] = layer.get("config", {}).get("name", "")
        names.update(_names_in_config(layer, container, f"{group}/"))
    return names


def _layers(config: Dict) -> List[Dict]:
    inside = config.get("config")
    layers = inside.get("layers", []) if isinstance(inside, dict) else []
    return [layer for layer in layers if isinstance(layer, dict) and isinstance(layer.get("config"), dict)]
