"""A YAML file becomes a ModelSpec; every problem is reported at once, with file:line and the nearest known word."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Type

from pydantic import BaseModel, ValidationError

from spec.errors import ConfigError, did_you_mean
from spec.layers import LAYERS, Layer
from spec.model import ModelSpec
from spec.yaml_file import Document, Keys, read_yaml


def load_model(path: Path, architectures: Mapping[str, Type[BaseModel]], overrides: Sequence[str] = ()) -> ModelSpec:
    """Reads and validates a config.

    Args:
        path: the YAML file.
        architectures: the options class of each architecture (builders.ARCHITECTURES).
        overrides: `key.key=value` strings that replace values of the file.

    Raises:
        UsageError: the file cannot be read.
        ConfigError: with every problem of the file.
    """
    document = read_yaml(path, overrides)
    word = document.data.get("architecture")
    options_class = architectures.get(word) if isinstance(word, str) else None
    problems: List[str] = []
    if isinstance(word, str) and options_class is None:
        place = document.place(("architecture",))
        problems.append(f"{place}: no architecture '{word}'{_known(word, architectures)}")
    own, shared = _split(document.data, options_class)
    model = _validated(ModelSpec, shared, (), document, problems, also=_keys(options_class) if options_class else None)
    options = (
        _validated(options_class, _with_layers(own, document, problems), (), document, problems)
        if options_class
        else None
    )
    if problems or model is None:
        raise ConfigError(sorted(set(problems), key=problems.index))
    return model.loaded(options, path, document.places)


def _keys(cls: Type[BaseModel]) -> Tuple[str, ...]:
    return tuple(field.alias or name for name, field in cls.model_fields.items())


def _split(data: Dict[str, Any], options_class: Optional[Type[BaseModel]]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """The keys of the architecture, and all others. Without a known architecture only ModelSpec's keys are judged."""
    if options_class is None:
        return {}, {key: value for key, value in data.items() if key in _keys(ModelSpec)}
    names = _keys(options_class)
    return {key: data[key] for key in data if key in names}, {key: data[key] for key in data if key not in names}


def _with_layers(own: Dict[str, Any], document: Document, problems: List[str]) -> Dict[str, Any]:
    """The options with each row of `layers` turned into a Layer."""
    if not isinstance(own.get("layers"), list):
        return own
    rows = [_layer(row, ("layers", position), document, problems) for position, row in enumerate(own["layers"])]
    return dict(own, layers=[row for row in rows if row is not None])


def _layer(row: Any, keys: Keys, document: Document, problems: List[str]) -> Optional[Layer]:
    """One row, `- convolution: {name: conv1, ...}`."""
    place = document.place(keys)
    if not isinstance(row, dict) or len(row) != 1 or not isinstance(next(iter(row.values())), dict):
        problems.append(f"{place}: a layer is one row `- type: {{name: ..., ...}}`, found {_short(row)}")
        return None
    word, body = next(iter(row.items()))
    if word not in LAYERS:
        problems.append(f"{place}: no layer type '{word}'{_known(str(word), LAYERS)}")
        return None
    who = f"layer '{body['name']}': " if "name" in body else f"{word}: "
    layer = _validated(LAYERS[word], body, keys + (word,), document, problems, who=who)
    return layer.at(place) if layer is not None else None


def _validated(
    cls: Any,
    data: Any,
    keys: Keys,
    document: Document,
    problems: List[str],
    who: str = "",
    also: Optional[Sequence[str]] = None,
) -> Any:
    """An instance of `cls`, or None with its problems appended; `also` are more words that are known at the top."""
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        told: List[Keys] = []
        for detail in error.errors():
            trail = _trail(detail["loc"], data)
            # every branch of a union complains about the same value: the first complaint is enough
            if detail["type"] != "missing" and trail and trail in told:
                continue
            told.append(trail)
            problems.append(_message(cls, detail, trail, keys, document, who, also))
        return None


def _message(
    cls: Any, detail: Any, trail: Keys, keys: Keys, document: Document, who: str, also: Optional[Sequence[str]]
) -> str:
    """Place - layer - what was found - what was wanted, from one entry of pydantic's error list."""
    place = document.place(keys + trail)
    dotted = ".".join(str(key) for key in trail)
    if detail["type"] == "extra_forbidden":
        known = _siblings(cls, trail) + tuple(also or ())
        return f"{place}: {who}unknown key '{trail[-1]}'{_known(str(trail[-1]), known)}"
    if detail["type"] == "missing":
        return f"{place}: {who}needs key '{detail['loc'][-1]}'"
    found = _short(detail["input"])
    if detail["type"] == "value_error":
        return f"{place}: {who}{dotted + ': ' if dotted else ''}{detail['ctx']['error']}"
    if detail["type"] == "literal_error":
        wanted = detail["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return f"{place}: {who}{dotted}: found {found}, wanted one of {', '.join(wanted)}{did_you_mean(str(detail['input']), wanted)}"
    message = detail["msg"][0].lower() + detail["msg"][1:]
    return f"{place}: {who}{dotted}: found {found}; {message.replace('input should', 'it should')}"


def _trail(loc: Sequence[Any], data: Any) -> Keys:
    """The part of pydantic's location that stands in the file: its union branches have no counterpart there."""
    trail: List[Any] = []
    for key in loc:
        inside = (
            isinstance(data, dict)
            and key in data
            or isinstance(data, list)
            and isinstance(key, int)
            and key < len(data)
        )
        if not inside:
            break
        trail.append(key)
        data = data[key]
    return tuple(trail)


def _siblings(cls: Any, trail: Keys) -> Tuple[str, ...]:
    """The keys known where an unknown one was found."""
    for key in trail[:-1]:
        field = cls.model_fields.get(key) if isinstance(cls, type) and issubclass(cls, BaseModel) else None
        cls = _model_inside(field.annotation) if field is not None else cls
    return _keys(cls) if isinstance(cls, type) and issubclass(cls, BaseModel) else ()


def _model_inside(annotation: Any) -> Any:
    """The model class within Optional[...], Dict[str, ...], Tuple[..., ...]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_inside(argument)
        if found is not None:
            return found
    return None


def _known(word: str, words: Any) -> str:
    return did_you_mean(word, words) or f"; known: {', '.join(sorted(words))}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
