"""Field types of layers: what a YAML value may look like, what it becomes, and the JSON Schema that says so.

    padding: 3  ->  ((3, 3), (3, 3))        kernel: 3  ->  (3, 3)        scale: 1/255  ->  0.00392156...

Nothing is coerced beyond that: `true` is no number, "3" and 3.0 are no whole numbers, .inf and .nan are refused.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Tuple, Union

from annotated_types import Ge, Gt, MinLen
from pydantic import AllowInfNan, BeforeValidator, Strict, WithJsonSchema
from typing_extensions import Annotated, Literal

from spec.errors import did_you_mean

_FRACTION_PART = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_FRACTION = rf"^\s*{_FRACTION_PART}\s*/\s*{_FRACTION_PART}\s*$"
_WORDS = ("same", "same_lower", "valid")
_PIXELS = "pixels on every side, [height, width], or [[top, bottom], [left, right]]"
_PADDING = f"same (TensorFlow: odd pixel behind), same_lower (in front), valid, or {_PIXELS}"
_WINDOW = "global, one number, or [height, width]"

_POSITIVE: Dict[str, Any] = {"type": "integer", "minimum": 1}
_NOT_NEGATIVE: Dict[str, Any] = {"type": "integer", "minimum": 0}
_FINITE: Dict[str, Any] = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": _FRACTION}]}


def _pair(value: Any) -> Any:
    """3 -> (3, 3); [3, 5] stays (height, width)."""
    return (value, value) if _is_integer(value) else value


def _size(value: Any) -> Any:
    pair = _pair(value)
    if not _is_pair(pair):
        raise ValueError(f"found {_short(value)}, wanted one whole number or [height, width]")
    return pair


def _sides(value: Any) -> Any:
    """3 -> ((3, 3), (3, 3)); [3, 5] -> ((3, 3), (5, 5)); [[top, bottom], [left, right]] stays."""
    pair = _pair(value)
    if isinstance(pair, (list, tuple)) and len(pair) == 2:
        return tuple(_pair(side) for side in pair)
    return value


def _edges(value: Any) -> Any:
    sides = _sides(value)
    if not _is_pair(sides) or not all(_is_pair(side) and _not_negative(side) for side in sides):
        raise ValueError(f"found {_short(value)}, wanted {_PIXELS}")
    return sides


def _padding(value: Any) -> Any:
    if not isinstance(value, str):
        return _edges(value)
    if value not in _WORDS:
        raise ValueError(f"found '{value[:60]}', wanted {', '.join(_WORDS)} or {_PIXELS}{did_you_mean(value, _WORDS)}")
    return value


def _window(value: Any) -> Any:
    pair = _pair(value)
    if pair == "global" or _is_pair(pair) and _not_negative(pair) and 0 not in pair:
        return pair
    raise ValueError(f"found {_short(value)}, wanted {_WINDOW}")


def _number(value: Any) -> Any:
    """A string with a fraction, `1/255`, becomes the number it says."""
    if not isinstance(value, str) or not re.match(_FRACTION, value):
        return value
    numerator, denominator = value.split("/")
    return float(numerator) / float(denominator) if float(denominator) else value


def _numbers(value: Any) -> Any:
    """A number or a list of numbers becomes a tuple."""
    return tuple(_number(item) for item in value) if isinstance(value, (list, tuple)) else (_number(value),)


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2


def _not_negative(values: Any) -> bool:
    return all(_is_integer(value) and value >= 0 for value in values)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _pair_of(item: Dict[str, Any]) -> Dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 2, "maxItems": 2}


# No Field() in these: up to pydantic 2.10, the last for Python 3.8, the default of `groups: Positive = 1` would
# get into that shared object, and every other required `Positive` would silently be 1.
Integer = Annotated[int, Strict()]
Positive = Annotated[int, Strict(), Ge(1)]
NotNegative = Annotated[int, Strict(), Ge(0)]
Flag = Annotated[bool, Strict()]
Finite = Annotated[float, Strict(), AllowInfNan(False)]
PositiveNumber = Annotated[float, Strict(), AllowInfNan(False), Gt(0)]

Pair = Annotated[
    Tuple[Positive, Positive],
    BeforeValidator(_size),
    WithJsonSchema({"anyOf": [_POSITIVE, _pair_of(_POSITIVE)], "description": "one number, or [height, width]"}),
]
NotNegativePair = Annotated[
    Tuple[NotNegative, NotNegative],
    BeforeValidator(_size),
    WithJsonSchema({"anyOf": [_NOT_NEGATIVE, _pair_of(_NOT_NEGATIVE)]}),
]
Sides = Tuple[Tuple[NotNegative, NotNegative], Tuple[NotNegative, NotNegative]]
_SIDES_SCHEMA = [_NOT_NEGATIVE, _pair_of({"anyOf": [_NOT_NEGATIVE, _pair_of(_NOT_NEGATIVE)]})]
SidesField = Annotated[Sides, BeforeValidator(_edges), WithJsonSchema({"anyOf": _SIDES_SCHEMA})]
PaddingField = Annotated[
    Union[Literal["same", "same_lower", "valid"], Sides],
    BeforeValidator(_padding),
    WithJsonSchema({"anyOf": [{"enum": list(_WORDS)}] + _SIDES_SCHEMA, "description": _PADDING}),
]
WindowField = Annotated[
    Union[Literal["global"], Tuple[Positive, Positive]],
    BeforeValidator(_window),
    WithJsonSchema({"anyOf": [{"const": "global"}, _POSITIVE, _pair_of(_POSITIVE)], "description": _WINDOW}),
]
Number = Annotated[Finite, BeforeValidator(_number), WithJsonSchema(_FINITE)]
Numbers = Annotated[
    Tuple[Finite, ...],
    MinLen(1),
    BeforeValidator(_numbers),
    WithJsonSchema({"anyOf": _FINITE["anyOf"] + [{"type": "array", "items": _FINITE, "minItems": 1}]}),
]
Names = Annotated[
    Tuple[str, ...],
    BeforeValidator(_names),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Axis = Annotated[
    Union[Literal["n", "c", "h", "w"], Integer],
    WithJsonSchema({"anyOf": [{"enum": ["n", "c", "h", "w"]}, {"type": "integer"}]}),
]
