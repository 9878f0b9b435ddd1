"""Source frameworks: imported only when a reference needs one; which one is missing; what one says when it fails."""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Dict, NamedTuple

from spec.errors import MissingFramework


class Framework(NamedTuple):
    """What people call a package, and how to install it."""

    title: str
    install: str


FRAMEWORKS: Dict[str, Framework] = {
    "tensorflow": Framework("TensorFlow", "pip install tensorflow-cpu"),
    "keras": Framework("Keras 3", "pip install keras tensorflow-cpu"),
    # with dependencies, pip would fetch the GPU build of TensorFlow over tensorflow-cpu
    "tf_keras": Framework("Keras 2", "pip install --no-deps tf_keras"),
    "torch": Framework("PyTorch", "pip install torch"),
    "safetensors": Framework("safetensors", "pip install safetensors"),
    "h5py": Framework("h5py", "pip install h5py"),
}


def import_framework(name: str, place: str) -> ModuleType:
    """The package of a row of FRAMEWORKS, or a module of it (`safetensors.numpy`).

    Raises:
        MissingFramework: it does not import here; names `place`, the package and how to do without.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow greets on standard error otherwise
    try:
        return importlib.import_module(name)
    except ImportError as error:
        row = FRAMEWORKS[name.split(".")[0]]
        found = f"the reference needs {row.title}, which does not import here ({error})"
        cure = f"{row.install}; or run `run.py record` where it is installed and name the file as reference.activations"
        raise MissingFramework(f"{place}: {found} - {cure}") from error


def first_line(error: BaseException) -> str:
    """What a framework says first; its later lines are tracebacks and advice that does not fit here."""
    return (str(error).splitlines() or [type(error).__name__])[0]
