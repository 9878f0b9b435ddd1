"""The options of a build on the command line; trtexec's names are aliases of ours, so its users need learn nothing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Tuple

WORDS = ("fp32", "tf32", "fp16", "int8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything that a PlanOptions holds, and the precision."""
    group = parser.add_argument_group("build")
    add = group.add_argument
    add("--precision", choices=WORDS, help="of all layers; the YAML's `precision` can name exceptions")
    for word in ("fp16", "int8"):
        add(f"--{word}", dest="precision", action="store_const", const=word, help=f"--precision {word}")
    add("--target", type=_words, default=(), metavar="SM,...", help="TensorRT-RTX: compute capabilities, sm75,sm89")
    add("--workspace", "--memPoolSize", type=_bytes, metavar="MIB", help="scratch memory the build may use")
    add("--timing-cache", "--timingCacheFile", metavar="FILE", help="keep measurements; `auto`: per version and GPU")
    add("--builder-optimization-level", "--builderOptimizationLevel", type=int, metavar="N", dest="optimization_level",
        help="0 to 5: how long to search (TensorRT 8.6 and newer)")  # fmt: skip
    add("--tactic-sources", "--tacticSources", metavar="+NAME,-NAME", help="libraries the build may take kernels from")
    add("--sparsity", action="store_true", help="2:4 sparse kernels where the weights are sparse")
    add("--dla-core", "--useDLACore", type=int, metavar="N", help="run what can on this DLA")
    add("--gpu-fallback", "--allowGPUFallback", action="store_true", help="layers a DLA cannot run go to the GPU")
    add("--hardware-compatibility", "--hardwareCompatibilityLevel", metavar="LEVEL", help="ampere_plus, ...")
    add("--version-compatible", "--versionCompatible", action="store_true", help="a plan that newer TensorRTs run")
    add("--profiling-verbosity", "--profilingVerbosity", metavar="LEVEL", dest="profiling",
        help="none, layer_names_only or detailed")  # fmt: skip
    add("--refit", action="store_true", help="weights may be exchanged later, by TensorRT's Refitter")
    add("--strip-weights", "--stripWeights", action="store_true", help="a plan without its weights")


def plan_options(options: argparse.Namespace, tensorrt: Any) -> Any:
    """The PlanOptions that were asked for."""
    from engine.build_options import PlanOptions
    from engine.timing_cache import default_path

    given = {field: getattr(options, field) for field in PlanOptions._fields if hasattr(options, field)}
    cache = options.timing_cache
    if cache == "auto":
        cache = default_path(tensorrt, _gpu_name())
    return PlanOptions(**{**given, "targets": options.target, "timing_cache": Path(cache) if cache else None})


def _gpu_name() -> str:
    from engine.devices import open_device

    device = open_device()
    name = device.facts().name
    device.close()
    return name


def _bytes(text: str) -> int:
    """The number of bytes that so many MiB are, `512` or trtexec's `workspace:512`."""
    size = float(text.rsplit(":", 1)[-1]) * (1 << 20)
    if not 1 <= size < 1 << 50:
        raise argparse.ArgumentTypeError(f"wanted MiB, for example 512, found {text}")
    return int(size)


def _words(text: str) -> Tuple[str, ...]:
    return tuple(word.strip().lower() for word in text.split(",") if word.strip())
