"""A YAML file as plain values that remember the line each key stood on.

text --read_yaml()--> Document(data, places): places[("layers", 3, "convolution", "stride")] = "model1.yaml:41"
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import yaml

from spec.errors import ConfigError, UsageError

Keys = Tuple[Any, ...]


class Document(NamedTuple):
    """Plain values, and `file:line` of each by the keys that lead to it."""

    path: Path
    data: Any
    places: Dict[Keys, str]

    def place(self, keys: Sequence[Any]) -> str:
        """Where a value stands, or the nearest value above it."""
        keys = tuple(keys)
        while keys not in self.places and keys:
            keys = keys[:-1]
        return self.places.get(keys, str(self.path))


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-5 as text, because it has no dot; here it is the number that YAML 1.2 says."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(path: Path, overrides: Sequence[str] = ()) -> Document:
    """Reads a file and applies `key.key=value` overrides.

    Raises:
        UsageError: the file cannot be read, or an override is no `key=value`.
        ConfigError: the text is no YAML mapping, or a key stands twice.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no UTF-8 text (byte {error.start}); a config is a YAML file") from None
    places: Dict[Keys, str] = {}
    problems: List[str] = []
    try:
        node = loader.get_single_node()
        data = _plain(loader, node, (), path, places, problems) if node else None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}:{error.problem_mark.line + 1}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(data, dict):
        problems.append(f"{path}: holds no mapping; a config starts with `name: ...`")
    if problems:
        raise ConfigError(problems)
    for override in overrides:
        _override(data, places, override)
    return Document(path, data, places)


def _plain(loader: Any, node: Any, keys: Keys, path: Path, places: Dict[Keys, str], problems: List[str]) -> Any:
    places.setdefault(keys, f"{path}:{node.start_mark.line + 1}")
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item, keys + (i,), path, places, problems) for i, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node, deep=True)
    loader.flatten_mapping(node)
    result: Dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        place = f"{path}:{key_node.start_mark.line + 1}"
        if key in result:
            problems.append(f"{place}: key '{key}' stands twice; the first is at {places[keys + (key,)]}")
        places[keys + (key,)] = place
        result[key] = _plain(loader, value_node, keys + (key,), path, places, problems)
    return result


def _override(data: Any, places: Dict[Keys, str], override: str) -> None:
    """Sets the value at a dotted key, making mappings on the way; numbers index lists."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise UsageError(f"--set {override}: wanted key=value, for example --set weights.path=model.ckpt")
    keys: List[Any] = [int(key) if key.isdigit() else key for key in dotted.split(".")]
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError:
        raise UsageError(f"--set {override}: '{text}' is no YAML value") from None
    target = data
    for key, below in zip(keys, keys[1:] + [None]):
        if not _reachable(target, key):
            raise UsageError(f"--set {override}: there is no '{key}' to set")
        if below is None:
            target[key] = value
        elif isinstance(target, dict):
            target = target.setdefault(key, {})
        else:
            target = target[key]
    places[tuple(keys)] = f"--set {dotted}"


def _reachable(target: Any, key: Any) -> bool:
    if isinstance(target, list):
        return isinstance(key, int) and key < len(target)
    return isinstance(target, dict)
