"""Which TensorRT is here, what it can do, and its one logger.

    load("auto") --> TensorRT(module, name, version, log)     has("cast layer"), require("...")

One logger per process: TensorRT keeps the first it is given and ignores later ones.
"""

from __future__ import annotations

import importlib
import logging
import re
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from engine.cuda_driver import gpu_count
from spec.errors import UsageError

_NO_GPU_NOISE = re.compile(r"cudaError (35|100)\b|CUDA initialization failure|Unable to determine GPU memory usage")
"""Without a driver (35) or a device (100) TensorRT repeats this after every message; it says nothing of the network."""

_log = logging.getLogger("tensorrt")


class Capability(NamedTuple):
    """Something not every TensorRT has: the attribute that proves it, and which versions have it.

    Attributes:
        attribute: its path in the module; whoever asks whether it is there asks for the capability.
        first, last: the TensorRTs that have it, as `8.6`; no `last`: it is still there; no `first`: none has.
        rtx: whether TensorRT-RTX has it.

    The proof is the attribute; the versions are for the sentence that refuses, and checked against recorded APIs.
    """

    attribute: str
    first: str = ""
    last: str = ""
    rtx: bool = True

    @property
    def versions(self) -> str:
        """`TensorRT 8.5 to 10.16`, `TensorRT 8.6 and newer or TensorRT-RTX`."""
        until = f"to {self.last}" if self.last else "and newer"
        found = [f"TensorRT {self.first} {until}"] if self.first else []
        return " or ".join(found + ["TensorRT-RTX"] * self.rtx)


CAPABILITIES: Dict[str, Capability] = {
    "cast layer": Capability("INetworkDefinition.add_cast", first="8.6"),
    "explicit batch flag": Capability(
        "NetworkDefinitionCreationFlag.EXPLICIT_BATCH", first="8.5", last="10.16", rtx=False
    ),
    "gelu activation": Capability("ActivationType.GELU_ERF", first="10.0"),
    "progress monitor": Capability("IProgressMonitor", first="10.0"),
    "compute capability targets": Capability("IBuilderConfig.set_compute_capability"),
    "optimization level": Capability("IBuilderConfig.builder_optimization_level", first="8.6"),
    "hardware compatibility level": Capability("HardwareCompatibilityLevel", first="8.6"),
    "version compatibility": Capability("BuilderFlag.VERSION_COMPATIBLE", first="8.6"),
    "plans without weights": Capability("BuilderFlag.STRIP_PLAN", first="10.0"),
    "fp16 flag": Capability("BuilderFlag.FP16", first="8.5", last="10.16", rtx=False),
    "layer precision": Capability("ILayer.precision", first="8.5", last="10.16", rtx=False),
    "quantize with a type": Capability("IQuantizeLayer.to_type", first="10.0"),
    "layer metadata": Capability("ILayer.metadata", first="8.6"),
    "serialization flags": Capability("SerializationFlag", first="10.0"),
    "refittable serialization": Capability("SerializationFlag.INCLUDE_REFIT", first="10.14"),
    "debug tensors": Capability("INetworkDefinition.mark_debug", first="10.0"),
    "unfused debug tensors": Capability("INetworkDefinition.mark_unfused_tensors_as_debug_tensors", first="10.12"),
}


class TensorRT:
    """One TensorRT Python module with its logger.

    Attributes:
        module: `tensorrt` or `tensorrt_rtx`.
        name: the module's name.
        version: for example `8.5.3.1`.
        log: what TensorRT said, see `MessageLog`.
    """

    def __init__(self, module: Any) -> None:
        self.module, self.name, self.version = module, module.__name__, str(module.__version__)
        self.log = MessageLog()
        self.logger = _make_logger(module, self.log)

    @property
    def title(self) -> str:
        return f"{'TensorRT-RTX' if self.is_rtx else 'TensorRT'} {self.version}"

    @property
    def is_rtx(self) -> bool:
        return self.name == "tensorrt_rtx"

    def has(self, capability: str) -> bool:
        """Whether this TensorRT has a row of CAPABILITIES."""
        found = self.module
        for part in CAPABILITIES[capability].attribute.split("."):
            found = getattr(found, part, None)
            if found is None:
                return False
        return True

    def require(self, capability: str, wanted_by: str) -> None:
        """Refuses in one sentence what this TensorRT lacks."""
        if not self.has(capability):
            versions = CAPABILITIES[capability].versions
            raise UsageError(f"{wanted_by}: {self.title} has no {capability}; {versions} has it")


class MessageLog:
    """The errors TensorRT logged since they were last taken; everything also goes to Python's `logging`.

    A warning counts once: TensorRT-RTX repeats one for every quantized convolution.
    """

    def __init__(self) -> None:
        self._errors: List[str] = []
        self._warnings: Set[str] = set()

    def add(self, level: int, text: str) -> None:
        if _NO_GPU_NOISE.search(text):
            level = logging.DEBUG
        if level >= logging.ERROR:
            self._errors.append(text)
            level = logging.INFO  # an error becomes part of our own message, which says it once, with the layer's name
        elif level == logging.WARNING and text in self._warnings:
            level = logging.DEBUG
        if level == logging.WARNING:
            self._warnings.add(text)
        _log.log(level, text)

    def take(self) -> str:
        """TensorRT's own words for what just failed."""
        words = "; ".join(_without_source(text) for text in self._errors)
        self._errors.clear()
        return words or "it gave no reason"


_SOURCE = re.compile(
    r"^(\d+: )?(\[[^\]]*\]\s*)?(\w+::\w+: )?(Error Code:? \d+: )?([\w ]+ Error \()?"
    r"|\.?\s*In \w+ at \S+\)?$"
)


def _without_source(text: str) -> str:
    """The reason alone, of `INetworkDefinition::addX: Error Code 3: API Usage Error (reason. In addX at x.cpp:1)`."""
    return _SOURCE.sub("", text).strip()


def load(backend: str = "auto") -> TensorRT:
    """The TensorRT to use; `auto` is `tensorrt` where it is installed and a GPU answers, else `tensorrt_rtx`.

    Raises:
        UsageError: neither is installed, or the one asked for is not.
    """
    wanted = ["tensorrt", "tensorrt_rtx"] if backend == "auto" else [backend]
    if backend == "auto" and not gpu_count():
        wanted = ["tensorrt_rtx"]
    for name in wanted:
        found = _loaded.get(name) or _import(name)
        if found is not None:
            _loaded[name] = found
            return found
    raise UsageError(f"{' and '.join(wanted)} cannot be imported; pip install {_PACKAGES[wanted[-1]]}")


_PACKAGES = {"tensorrt": "tensorrt (needs a GPU to build)", "tensorrt_rtx": "tensorrt-rtx (builds without a GPU)"}
_loaded: Dict[str, TensorRT] = {}


def _import(name: str) -> Optional[TensorRT]:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise UsageError(f"{name} is installed but needs the module '{error.name}'") from None
        return None
    except ImportError as error:
        raise UsageError(f"{name} is installed but cannot be loaded: {error}") from None
    return TensorRT(module)


def require_gpu(tensorrt: TensorRT, wanted_by: str) -> None:
    """Refuses where no GPU answers; TensorRT-RTX makes other plans without one, but no refittable ones."""
    if not gpu_count():
        raise UsageError(
            f"{wanted_by}: {tensorrt.title} makes and refits refittable plans on a GPU only, and none answers here; "
            "run it on the machine with the GPU"
        )


def _make_logger(module: Any, log: MessageLog) -> Any:
    severity = module.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.ERROR,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.WARNING,
        severity.INFO: logging.INFO,
        severity.VERBOSE: logging.DEBUG,
    }

    class Logger(module.ILogger):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            log.add(levels.get(severity, logging.DEBUG), text)

    return Logger()


_DTYPES: Tuple[Tuple[str, str], ...] = (
    # our name, trt.DataType's; an own table, since trt.nptype fails on TensorRT 8.5 with numpy 1.24 and newer
    ("float32", "FLOAT"),
    ("float16", "HALF"),
    ("int8", "INT8"),
    ("int32", "INT32"),
    ("uint8", "UINT8"),
    ("bool", "BOOL"),
)


def trt_dtype(module: Any, dtype: str) -> Any:
    """trt.DataType of one of our dtype names."""
    return getattr(module.DataType, dict(_DTYPES)[dtype])


def dtype_name(dtype: Any) -> str:
    """Our name of a trt.DataType, or TensorRT's where we have none."""
    word = str(dtype).rsplit(".", 1)[-1]
    names = {trt: ours for ours, trt in _DTYPES}
    names["INT64"] = "int64"  # of shapes from TensorRT 10 on; 8 has no such type, so none is asked for
    return names.get(word, word)
