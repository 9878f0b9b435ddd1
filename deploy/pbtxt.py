"""Protocol-buffer text, written from plain values, so that writing a Triton config needs no package of Triton's.

    {"name": "m", "input": [{"dims": [3, 4]}]}   ─>   name: "m"
                                                       input {
                                                         dims: [3, 4]
                                                       }
"""

from __future__ import annotations

from typing import Any, List, Mapping


class Word(str):
    """The name of an enumeration's member, written without quotes."""


def write_text(message: Mapping[str, Any]) -> str:
    """The text of a message, its fields in the order given: the same message, the same text.

    Args:
        message: field name -> text, number, bool, Word, message, or a list of one of these (a repeated field). A map
            is a list of messages with `key` and `value`.

    Raises:
        TypeError: a value that no field of a message can have.
    """
    return "".join(f"{line}\n" for line in _lines(message))


def _lines(message: Mapping[str, Any]) -> List[str]:
    return [line for name, value in message.items() for line in _field(name, value)]


def _field(name: str, value: Any) -> List[str]:
    if isinstance(value, Mapping):
        return [f"{name} {{", *(f"  {line}" for line in _lines(value)), "}"]
    if not isinstance(value, (list, tuple)):
        return [f"{name}: {_scalar(value)}"]
    if any(isinstance(item, Mapping) for item in value):
        return [line for item in value for line in _field(name, item)]
    return [f"{name}: [{', '.join(_scalar(item) for item in value)}]"]


def _scalar(value: Any) -> str:
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _quoted(value)
    raise TypeError(f"{value!r} is no field of a message")


def _quoted(text: str) -> str:
    """In double quotes; what is not printable ASCII as octal escapes of its UTF-8 bytes, which every parser takes."""
    escaped = {ord('"'): '\\"', ord("\\"): "\\\\", ord("\n"): "\\n"}
    return '"' + "".join(
        escaped.get(byte, chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}") for byte in text.encode()
    ) + '"'  # fmt: skip
