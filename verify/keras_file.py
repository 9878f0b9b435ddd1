"""A full Keras model out of its file, by the Keras that wrote it, without running code that the file holds.

    m.keras, m.h5 ─ its version ─> Keras 3, or tf_keras ─> the model          a Lambda in it: refused

Keras 3 cannot open models of Keras 2 (`Unrecognized keyword arguments ...`), so those go to tf_keras. A Lambda holds
Python code, and tf_keras runs it out of any .h5: files with one are refused, Keras' own safe mode stays on.
"""

from __future__ import annotations

import importlib.util
import json
import os
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any, Iterator, Tuple

from spec.errors import UsageError, VerificationError
from verify.frameworks import first_line, import_framework


def load_keras_model(path: Path, place: str) -> Tuple[ModuleType, Any]:
    """Keras, and the model of a file.

    Raises:
        UsageError: no such file.
        MissingFramework: the Keras that wrote it is not here.
        VerificationError: no full model, damaged, or one that holds Python code.
    """
    if not path.is_file():
        raise UsageError(f"{place}: no file {path} - wanted a full model, .keras or .h5")
    version, config = _written_by(path, place)
    lambdas = sorted(_lambdas(config))
    if lambdas:
        cure = "record its activations where you trust the file, and name them as reference.activations"
        raise VerificationError(
            f"{place}: {path} holds Python code (Lambda {', '.join(lambdas)}), not run here - {cure}"
        )
    keras = _keras(version, place)
    try:
        return keras, keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise VerificationError(f"{place}: {title_of(keras)} cannot load {path}: {first_line(error)}") from error


def title_of(keras: ModuleType) -> str:
    """`Keras 3.14.0 (tensorflow)`."""
    backend = keras.backend.backend() if hasattr(keras.backend, "backend") else "tensorflow"
    return f"Keras {keras.__version__} ({backend})"


def _written_by(path: Path, place: str) -> Tuple[str, Any]:
    """The version of the Keras that wrote a file, and the config of the model in it."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                version = json.loads(archive.read("metadata.json"))["keras_version"]
                return version, json.loads(archive.read("config.json"))
        with import_framework("h5py", place).File(path, "r") as file:
            version = file.attrs.get("keras_version", file.get("model_weights", file).attrs.get("keras_version", "1"))
            return _text(version), json.loads(_text(file.attrs["model_config"]))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        found = f"{path} is no full Keras model, or damaged ({error})"
        raise VerificationError(f"{place}: {found} - save it with model.save(), not save_weights()") from error


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _lambdas(config: Any) -> Iterator[str]:
    """Names of the Lambda layers, and of functions stored as code, anywhere in a config."""
    if isinstance(config, dict):
        if config.get("class_name") in ("Lambda", "__lambda__"):
            inner = config.get("config")
            yield f"'{config.get('name') or (inner.get('name') if isinstance(inner, dict) else None) or '?'}'"
        config = list(config.values())
    for value in config if isinstance(config, list) else ():
        yield from _lambdas(value)


def _keras(version: str, place: str) -> ModuleType:
    """The Keras that opens files of a version."""
    if int(version.split(".")[0]) < 3:
        return import_framework("tf_keras", place)
    found = {name: importlib.util.find_spec(name) is not None for name in ("tensorflow", "torch")}
    if found["torch"] and not found["tensorflow"]:
        os.environ.setdefault("KERAS_BACKEND", "torch")
    return import_framework("keras", place)
