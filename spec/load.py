"""A YAML file becomes a ModelSpec; every problem is reported at once, with file:line and the nearest known word."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Collection, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Type, Union

from pydantic import BaseModel, ValidationError

from spec.errors import ConfigError, did_you_mean
from spec.layers import LAYERS, Layer
from spec.model import ModelSpec
from spec.other_words import meant
from spec.yaml_file import TYPED, Document, Keys, read_yaml

WANTED = {
    # pydantic's error type: what a YAML file should have there
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text (numbers, yes and no are text in quotes)",
    "string_pattern_mismatch": "a name of letters, digits, _, - and .",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}


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
        problems.append(f"{place}: no architecture '{_short(word)}'{_known(word, architectures)}")
    elsewhere = {key for each in architectures.values() for key in _keys(each)} - set(_keys(ModelSpec))
    own, shared = _split(document.data, options_class, elsewhere)
    also = _keys(options_class) if options_class else ()
    model = _validated(_Part(ModelSpec, shared, also=also), document, problems)
    options = None
    if options_class is not None:
        options = _validated(_Part(options_class, _with_layers(own, document, problems)), document, problems)
    if problems or model is None:
        raise ConfigError(sorted(set(problems), key=problems.index))
    return model.loaded(options, path, document.places)


class _Part(NamedTuple):
    """Values of the file that one class describes.

    `keys` lead to them, `who` names them in messages, `also` are more words that are known beside the class's own.
    """

    cls: Type[BaseModel]
    data: Any
    keys: Keys = ()
    who: str = ""
    also: Tuple[str, ...] = ()


def _keys(cls: Type[BaseModel]) -> Tuple[str, ...]:
    return tuple(field.alias or name for name, field in cls.model_fields.items())


def _split(
    data: Dict[str, Any], options_class: Optional[Type[BaseModel]], elsewhere: Collection[str]
) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """The keys of the architecture, and all others; without a known one all that some architecture has are let be."""
    if options_class is None:
        return {}, {key: value for key, value in data.items() if key not in elsewhere}
    names = _keys(options_class)
    return {key: data[key] for key in data if key in names}, {key: data[key] for key in data if key not in names}


def _with_layers(own: Dict[str, Any], document: Document, problems: List[str]) -> Dict[str, Any]:
    """The options with each row of `layers` turned into a Layer."""
    if not isinstance(own.get("layers"), list) or not own["layers"]:
        return own
    rows = [_layer(row, ("layers", position), document, problems) for position, row in enumerate(own["layers"])]
    # a list whose every row is wrong is not empty: the rows' own messages are enough
    return dict(own, layers=[row for row in rows if row is not None] or [Layer.model_construct(name="wrong")])


def _layer(row: Any, keys: Keys, document: Document, problems: List[str]) -> Optional[Layer]:
    """One row, `- convolution: {name: conv1, ...}`."""
    place = document.place(keys)
    misplaced = _misplaced(row, keys, document)
    if misplaced:
        problems += misplaced
        return None
    if not isinstance(row, dict) or len(row) != 1 or not isinstance(next(iter(row.values())), dict):
        problems.append(f"{place}: a layer is one row `- type: {{name: ..., ...}}`, found {_shown(row)}")
        return None
    word, body = next(iter(row.items()))
    if word not in LAYERS:
        problems.append(f"{place}: no layer type '{_short(word)}'{meant(str(word)) or _known(word, LAYERS)}")
        return None
    who = f"layer '{_short(str(body['name']))}': " if "name" in body else f"{word}: "
    layer = _validated(_Part(LAYERS[word], body, keys + (word,), who), document, problems)
    return layer.at(place) if layer is not None else None


def _misplaced(row: Any, keys: Keys, document: Document) -> List[str]:
    """Each key that a `--set` put beside a layer's type instead of below it, with the path that is right."""
    typed = [key for key in row if document.place(keys + (key,)).startswith(TYPED)] if isinstance(row, dict) else []
    types = [word for word in row if word not in typed] if typed else []
    if len(types) != 1:
        return []
    where, word = ".".join(map(str, keys)), _short(types[0])
    return [
        f"{document.place(keys + (key,))}: {where} is a row `- {word}: {{name: ..., ...}}`, whose keys stand below "
        f"'{word}'; say --set {where}.{word}.{'KEY' if key in LAYERS else _short(key)}=..."
        for key in typed
    ]


def _validated(part: _Part, document: Document, problems: List[str]) -> Any:
    """An instance of the part's class, or None with its problems appended."""
    try:
        return part.cls.model_validate(part.data)
    except ValidationError as error:
        told: List[Keys] = []
        for detail in error.errors():
            trail = _trail(detail["loc"], part.data)
            # every branch of a union complains about the same value: the first complaint is enough
            if detail["type"] != "missing" and trail and trail in told or _counted_wrong(detail, trail, part.data):
                continue
            told.append(trail)
            problems.append(f"{document.place(part.keys + trail)}: {part.who}{_message(part, detail, trail)}")
        return None


def _counted_wrong(detail: Any, trail: Keys, data: Any) -> bool:
    """pydantic counts a list's right items only, so that one wrong item makes a list of one too short as well."""
    found = _at(data, trail)
    return detail["type"] == "too_short" and isinstance(found, list) and len(found) >= detail["ctx"]["min_length"]


def _message(part: _Part, detail: Any, trail: Keys) -> str:
    """What was found and what was wanted, from one entry of pydantic's error list."""
    extra = detail["type"] == "extra_forbidden"
    where = "".join(f"{key}." for key in (trail[:-1] if extra else trail))[:-1]
    where += ": " if where else ""
    if extra:
        return f"{where}unknown key '{_short(trail[-1])}'{_known(trail[-1], _siblings(part, trail))}"
    if detail["type"] == "missing":
        return f"{where}needs key '{detail['loc'][-1]}'"
    if detail["type"] == "value_error":
        return f"{where}{detail['ctx']['error']}"
    return f"{where}found {_shown(_at(part.data, trail))}, {_wanted(detail)}"


def _wanted(detail: Any) -> str:
    """`wanted a whole number`: the words of a YAML file for pydantic's."""
    if detail["type"] in WANTED:
        return f"wanted {WANTED[detail['type']]}"
    if detail["type"] == "literal_error":
        words = detail["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        one_of = "one of " if len(words) > 1 else ""
        return f"wanted {one_of}{', '.join(words)}{did_you_mean(str(detail['input'])[:60], words)}"
    message = detail["msg"].replace("Tuple", "the list").replace("Dictionary", "the mapping")
    return message.replace(" after validation", "").replace("Input", "it").replace("String", "it")


def _trail(loc: Sequence[Any], data: Any) -> Keys:
    """The part of pydantic's location that stands in the file: its union branches have no counterpart there."""
    trail: List[Any] = []
    for key in loc:
        in_mapping = isinstance(data, dict) and key in data
        if not in_mapping and not (isinstance(data, list) and isinstance(key, int) and key < len(data)):
            break
        trail.append(key)
        data = data[key]
    return tuple(trail)


def _at(data: Any, trail: Keys) -> Any:
    for key in trail:
        data = data[key]
    return data


def _siblings(part: _Part, trail: Keys) -> Tuple[str, ...]:
    """The keys known where an unknown one was found."""
    found: Any = part.cls
    for key in trail[:-1]:
        found = _inside(found, key)
    return _keys(found) + (part.also if len(trail) == 1 else ())


def _inside(annotation: Any, key: Any) -> Any:
    """The type of what stands under `key`, without Optional."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        annotation = annotation.model_fields[key].annotation
    else:
        annotation = annotation.__args__[1 if annotation.__origin__ is dict else 0]
    optional = getattr(annotation, "__origin__", None) is Union
    return annotation.__args__[0] if optional else annotation


def _known(word: str, words: Any) -> str:
    return did_you_mean(word, words) or f"; known: {', '.join(sorted(words))}"


def _shown(value: Any) -> str:
    """A value as the file has it: true, not True."""
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else _short(repr(value))


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
