"""A YAML file as plain values that remember the line each key stood on.

text --read_yaml()--> Document(data, places): places[("layers", 3, "convolution", "stride")] = "model1.yaml:41"

Keys are text; values are text, numbers, true, false or null. YAML's dates, sets and binaries are not read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import yaml

from spec.errors import ConfigError, TransplantFailure, UsageError

Keys = Tuple[Any, ...]

TYPED = "--set"
"""What the place of a value starts with that stands on the command line."""

MOST_BYTES = 1_000_000
"""A ResNet-152 with every layer written out has 60 kB; PyYAML reads about 200 kB a second."""

MOST_VALUES = 100_000
"""Aliases of aliases multiply: nine lines of nine make a billion values."""

MAP, SEQUENCE, MERGE, TIMESTAMP = (f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "merge", "timestamp"))


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
    """YAML 1.1 reads 1e-5 as text, because it has no dot, and 2020-01-01 as a date; here they are as in YAML 1.2."""

    yaml_implicit_resolvers = {
        first: [rule for rule in rules if rule[0] != TIMESTAMP]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {
        tag: yaml.SafeLoader.yaml_constructors[tag]
        for tag in (f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str"))
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(path: Path, overrides: Sequence[str] = ()) -> Document:
    """Reads a file and applies `key.key=value` overrides.

    Raises:
        UsageError: the file cannot be read, or an override is no `key=value`.
        ConfigError: the text is no YAML mapping, a key stands twice, or a value is of a kind no config has.
    """
    reading = _Reading(str(path))
    data = reading.parse(_text(path))
    if not isinstance(data, dict) and not reading.problems:
        reading.problems.append(f"{path}: holds no mapping; a config starts with `name: ...`")
    if reading.problems:
        raise ConfigError(reading.problems)
    document = Document(path, data, reading.places)
    problems = [problem for override in overrides for problem in _override(document, override)]
    if problems:
        raise UsageError(problems)
    return document


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise ConfigError(f"{path}: is above {MOST_BYTES // 1000} kB; a config is a YAML file, not a checkpoint")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no UTF-8 text (byte {error.start}); a config is a YAML file") from None


class _Reading:
    """One walk over YAML's nodes: plain values, where each stands, and what is wrong with them.

    Args:
        source: the file, or the override.
        numbered: whether a place is `source:line`.
    """

    def __init__(self, source: str, numbered: bool = True) -> None:
        self.source, self.numbered = source, numbered
        self.places: Dict[Keys, str] = {}
        self.problems: List[str] = []
        self.values = 0

    def parse(self, text: str) -> Any:
        """The plain value of a YAML text; raises ConfigError where it is no YAML, collects smaller problems."""
        try:
            self.loader = _Loader(text)
            node = self.loader.get_single_node()
            return self._value(node, ()) if node else None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise ConfigError(f"{self.source}:{line}: not valid YAML: a control character") from None
        except yaml.MarkedYAMLError as error:
            hint = "; YAML is indented with spaces" if "'\\t'" in str(error.problem) else ""
            raise ConfigError(f"{self._place(error.problem_mark)}: not valid YAML: {error.problem}{hint}") from None
        except RecursionError:
            raise ConfigError(f"{self.source}: nests too deep; does an alias contain itself?") from None

    def _place(self, mark: Any) -> str:
        return f"{self.source}:{mark.line + 1}" if self.numbered else self.source

    def _value(self, node: Any, keys: Keys) -> Any:
        self._count()
        self.places.setdefault(keys, self._place(node.start_mark))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if node.tag not in (MAP, SEQUENCE):
            self.problems.append(f"{self._place(node.start_mark)}: tag {node.tag} is not for configs; leave it out")
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, keys + (position,)) for position, item in enumerate(node.value)]
        result: Dict[str, Any] = {}
        self._fill(result, node, keys, inherited=False)
        return result

    def _scalar(self, node: Any) -> Any:
        try:
            value = self.loader.yaml_constructors[node.tag](self.loader, node)
            if "\0" in str(value).encode("utf-8").decode("utf-8"):
                raise ValueError("no file has such a name")
        except (ValueError, LookupError):
            # !!date 2020, !!int abc, !!bool maybe; a number of 5,000 digits; NUL, and half of a surrogate pair
            kind = node.tag.rsplit(":", 1)[-1]
            self.problems.append(f"{self._place(node.start_mark)}: {node.value[:60]!r} is no {kind} that configs have")
            return None
        return value

    def _fill(self, result: Dict[str, Any], node: Any, keys: Keys, inherited: bool) -> None:
        """Puts a mapping's own keys into `result`, then those that `<<` merges in and that are not there yet."""
        self._count()
        merged: List[Any] = []
        for key_node, value_node in node.value:
            if key_node.tag == MERGE:
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            else:
                self._pair(result, key_node, value_node, keys, inherited)
        for source in merged:
            if isinstance(source, yaml.MappingNode):
                self._fill(result, source, keys, inherited=True)
            else:
                self.problems.append(f"{self._place(source.start_mark)}: `<<` merges mappings; name one with *alias")

    def _pair(self, result: Dict[str, Any], key_node: Any, value_node: Any, keys: Keys, inherited: bool) -> None:
        place = self._place(key_node.start_mark)
        single = isinstance(key_node, yaml.ScalarNode)
        key = self._scalar(key_node) if single else None
        if not isinstance(key, str):
            self.problems.append(f"{place}: key {key_node.value[:60] if single else '[...]'} is no text; quote it")
        elif key not in result:
            self.places[keys + (key,)] = place
            result[key] = self._value(value_node, keys + (key,))
        elif not inherited:
            self.problems.append(f"{place}: key '{key}' stands twice; the first is at {self.places[keys + (key,)]}")

    def _count(self) -> None:
        self.values += 1
        if self.values > MOST_VALUES:
            raise ConfigError(f"{self.source}: above {MOST_VALUES} values; its aliases multiply")


def _override(document: Document, override: str) -> List[str]:
    """Sets the value at a dotted key, making mappings on the way; numbers index lists. Returns what is wrong."""
    dotted, equals, text = override.partition("=")
    if not equals or "" in dotted.split("."):
        return [f"{TYPED} {override}: wanted key=value, for example --set weights.path=model.ckpt"]
    place = f"{TYPED} {dotted}"
    reading = _Reading(place, numbered=False)
    try:
        keys = _assign(document.data, dotted.split("."), reading.parse(text), place)
    except TransplantFailure as error:
        return list(error.problems)
    for below in [known for known in document.places if known[: len(keys)] == keys]:
        del document.places[below]
    for length in range(1, len(keys) + 1):
        document.places.setdefault(keys[:length], place)
    return reading.problems


def _assign(target: Any, words: Sequence[str], value: Any, place: str) -> Keys:
    """Puts `value` where `words` lead, and returns that place's keys; raises UsageError where there is none."""
    keys: List[Any] = []
    for word in words:
        keys.append(_key(target, word, keys, place))
        if len(keys) == len(words):
            target[keys[-1]] = value
        elif isinstance(target, dict) and target.get(word) is None:
            target[word] = {}
        target = target[keys[-1]]
    return tuple(keys)


def _key(target: Any, word: str, above: Sequence[Any], place: str) -> Any:
    """`word` as a key of `target`: an index where that is a list."""
    where = ".".join(str(key) for key in above)
    if isinstance(target, dict):
        return word
    if not isinstance(target, list):
        raise UsageError(f"{place}: '{where}' is a single value, nothing stands below it")
    if not word.isdecimal() or int(word) >= len(target):
        raise UsageError(f"{place}: '{where}' is a list, wanted a number below {len(target)}, found '{word}'")
    return int(word)
