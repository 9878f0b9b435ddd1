"""One value of a YAML file exchanged in its text, every other byte as it was.

    a: 1  # one        --with_value("a", {"c": 3})-->        a: {c: 3}  # one
    b: [2]                                                   b: [2]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from spec.errors import ConfigError

WIDTH = 110
"""Columns after which a written value goes on in the next line."""


def with_value(path: Path, text: str, key: str, value: Any) -> str:
    """The text of a config with another value at a top-level key, which is added at the end where it is not there.

    Args:
        path: the file, for messages.
        text: what it holds, a YAML mapping that spec.yaml_file reads.

    Raises:
        ConfigError: the text is written in a way that cannot be edited, with anchors or as one `{...}`.
    """
    root = yaml.compose(text, yaml.SafeLoader)
    shown = written(value, "\r\n" if "\r\n" in text else "\n")
    found = next((pair for pair in root.value if pair[0].value == key), None)
    edited = _added(text, root, f"{key}: {shown}") if found is None else _exchanged(text, *found, shown)
    if not _differs_only_in(text, edited, key):
        line = (root if found is None else found[0]).start_mark.line + 1
        raise ConfigError(f"{path}:{line}: '{key}' is written so that it cannot be edited; write there: {key}: {shown}")
    return edited


def written(value: Any, newline: str = "\n") -> str:
    """A value in YAML's flow style, `{default: fp16, fp32: [fc]}`, without a newline at its end."""
    text = str(yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=WIDTH, line_break=newline))
    return (text[: -len(newline + "...")] if text.endswith(f"{newline}...{newline}") else text).rstrip()


def _added(text: str, root: Any, row: str) -> str:
    """A row behind the line of the last value."""
    newline = "\r\n" if "\r\n" in text else "\n"
    end = _end(root)
    break_ = text.find("\n", end - 1 if text[:end].endswith("\n") else end)
    before, after = (text + newline, "") if break_ < 0 else (text[: break_ + 1], text[break_ + 1 :])
    return f"{before}{row}{newline}{after}"


def _exchanged(text: str, key: Any, value: Any, shown: str) -> str:
    """The value's own characters replaced; `key:` alone, which is null, gets a space first."""
    start, end = value.start_mark.index, _end(value)
    return f"{text[:start]}{'' if text[start - 1].isspace() else ' '}{shown}{text[end:]}"


def _end(node: Any) -> int:
    """Behind the last character of a value; YAML itself ends a block where the next key starts, comments included."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return max(map(_end, last)) if isinstance(last, tuple) else _end(last)


def _differs_only_in(text: str, edited: str, key: str) -> bool:
    """Whether the edited text is YAML with the same values at all other keys."""
    try:
        before, after = yaml.safe_load(text), yaml.safe_load(edited)
    except yaml.YAMLError:
        return False
    before.pop(key, None)
    return bool(after.pop(key, None) is not None and before == after)
