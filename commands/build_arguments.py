"""The options of a build on the command line; trtexec's names are aliases of ours, so its users need learn nothing."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from commands.argument_types import whole
from spec.errors import UsageError, did_you_mean

WORDS = ("fp32", "tf32", "fp16", "int8")
POOLS: Dict[str, str] = {
    # trtexec's word: field of PlanOptions
    "workspace": "workspace",
    "dlaSRAM": "dla_sram",
    "dlaLocalDRAM": "dla_local_dram",
    "dlaGlobalDRAM": "dla_global_dram",
}
UNITS = {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
SMALLEST_DLA_POOL = 4096
"""Bytes; NvInfer.h, MemoryPoolType: pools of a DLA are at least 4 KiB and powers of two."""


class Coarsest(argparse.Action):
    """trtexec's users write --int8 --fp16, in any order, and mean int8 with half beside it."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        given = getattr(namespace, self.dest)
        setattr(namespace, self.dest, given if given == "int8" else self.const)


def add_precision(parser: Any, words: str) -> None:
    """`--precision` with these words for help, and trtexec's names for it."""
    add = parser.add_argument
    add("--precision", choices=WORDS, help=words)
    add("--fp16", dest="precision", action=Coarsest, const="fp16", nargs=0, help="--precision fp16")
    add("--int8", dest="precision", action=Coarsest, const="int8", nargs=0,
        help="--precision int8, with --fp16 too: what is not int8 is half anyway")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything that a PlanOptions holds, and the precision."""
    group = parser.add_argument_group("build")
    add = group.add_argument
    add_precision(group, "of all layers; the YAML's `precision` can name exceptions")
    add("--target", type=target_words, default=(), metavar="NAME,...",
        help="the device: orin, xavier-nx@5.1, ...; TensorRT-RTX: PCs, sm75,sm89 or turing,ada or rtx")  # fmt: skip
    add("--workspace", type=_bytes, metavar="MIB", help="scratch memory the build may use; --pools workspace:MIB")
    add("--pools", "--memPoolSize", type=_pools, default={}, metavar="NAME:MIB,...",
        help=f"memory by pool: {', '.join(POOLS)}")  # fmt: skip
    add("--timing-cache", "--timingCacheFile", metavar="FILE",
        help="keep measurements; `auto`: per version and GPU (not TensorRT-RTX, which makes none)")  # fmt: skip
    add("--builder-optimization-level", "--builderOptimizationLevel", type=int, metavar="N", dest="optimization_level",
        help="0 to 5: how long to search (TensorRT 8.6 and newer)")  # fmt: skip
    add("--avg-timing", "--avgTiming", type=int, metavar="N", dest="average_timing",
        help="time each kernel N times and choose by the average (default: 8, as trtexec)")  # fmt: skip
    add("--tactic-sources", "--tacticSources", metavar="+NAME,-NAME", help="libraries the build may take kernels from")
    add("--sparsity", action="store_true", help="2:4 sparse kernels where the weights are sparse")
    add("--dla-core", "--useDLACore", type=whole(0), metavar="N", help="run what can on this DLA")
    add("--gpu-fallback", "--allowGPUFallback", action="store_true",
        help="with --dla-core: layers a DLA cannot run go to the GPU")  # fmt: skip
    add("--hardware-compatibility", "--hardwareCompatibilityLevel", metavar="LEVEL",
        help="ampere_plus, ... (TensorRT 8.6 and newer; TensorRT-RTX has --target)")  # fmt: skip
    add("--version-compatible", "--versionCompatible", action="store_true", help="a plan that newer TensorRTs run")
    add("--profiling-verbosity", "--profilingVerbosity", metavar="LEVEL", dest="profiling",
        help="none, layer_names_only or detailed")  # fmt: skip
    add("--refit", action="store_true", help="weights may be exchanged later, by TensorRT's Refitter")
    add("--strip-weights", "--stripWeights", action="store_true", help="a plan without its weights")


def runnable_options(options: argparse.Namespace, tensorrt: Any) -> Any:
    """`plan_options` for an engine that is to be run; raises UsageError where it would have no weights."""
    refuse_stripped(options)
    return plan_options(options, tensorrt)


def refuse_stripped(options: argparse.Namespace) -> None:
    """Raises UsageError where an engine that is to be run would have no weights."""
    if options.strip_weights:
        raise UsageError("--strip-weights: an engine without its weights cannot be run; leave it out")


def plan_options(options: argparse.Namespace, tensorrt: Any) -> Any:
    """The PlanOptions that were asked for.

    Raises:
        UsageError: a target that this machine cannot build for, with what its TensorRT lacks besides; or options that
            do not go together.
    """
    from engine.build_options import PlanOptions

    if options.workspace and "workspace" in options.pools:
        raise UsageError("--workspace and --pools workspace say the same; keep one")
    if options.gpu_fallback and options.dla_core is None:
        raise UsageError("--gpu-fallback: every layer is the GPU's already; name a DLA with --dla-core or leave it out")
    given = {field: getattr(options, field) for field in PlanOptions._fields if hasattr(options, field)}
    given.update(options.pools, timing_cache=_timing_cache(options.timing_cache, tensorrt))
    capabilities = tuple(compute_capabilities(options))
    if capabilities == options.target:
        return PlanOptions(**given, targets=capabilities)
    return _for_jetson(options.target[0], PlanOptions(**given), options.precision, tensorrt)


def _timing_cache(word: Optional[str], tensorrt: Any) -> Optional[Path]:
    """The file of `--timing-cache`; for `auto` the GPU is asked for its name."""
    from engine.build_options import require_option
    from engine.timing_cache import default_path

    if word != "auto":
        return Path(word) if word else None
    require_option(tensorrt, "timing_cache")  # else the user would first be sent for a GPU
    return default_path(tensorrt, _gpu_name())


def compute_capabilities(options: argparse.Namespace) -> List[str]:
    """The `smNN` words of the targets; none where none was named."""
    from engine.targets import capability_word

    return [capability_word(word) for word in options.target]


def _for_jetson(word: str, plan: Any, precision: Any, tensorrt: Any) -> Any:
    """The options with the device's own memory pools, where this is the device."""
    from engine.build_options import needed_capabilities
    from engine.targets import find_target, is_this_machine

    target = find_target(word)
    if not is_this_machine(target, tensorrt):
        here = f"--target {word}: plans do not travel: one for a {target.title} is built on it, not by {tensorrt.title}"
        lacking = target.lacks(needed_capabilities(plan)) + target.lacks_precision([precision] if precision else [])
        raise UsageError([f"{here} on this machine; pack what it needs with `run.py bundle`", *lacking])
    pools = {field: size << 20 for field, size in target.pools.items() if getattr(plan, field) is None}
    if plan.dla_core is None:
        pools = {field: size for field, size in pools.items() if field == "workspace"}
    return plan._replace(**pools)


def _gpu_name() -> str:
    from engine.devices import open_device

    with open_device() as device:
        return device.facts().name


def _bytes(text: str) -> int:
    """`512` is MiB; `64K`, `1.5G` have their unit, as trtexec's sizes have."""
    number, factor = (text[:-1], UNITS[text[-1]]) if text[-1:] in UNITS else (text, UNITS["M"])
    size = float(number) * factor if re.fullmatch(r"\d*\.?\d+", number) else 0.0
    if not 1 <= size < 1 << 50:
        raise argparse.ArgumentTypeError(f"wanted MiB, for example 512, found '{text}'")
    return int(size)


def _pools(text: str) -> Dict[str, int]:
    """Bytes by field of PlanOptions, of trtexec's `workspace:512,dlaSRAM:1`."""
    sizes: Dict[str, int] = {}
    for item in text.split(","):
        word, colon, size = item.partition(":")
        if not colon or word not in POOLS:
            hint = did_you_mean(word, POOLS) or f"; pools are {', '.join(POOLS)}"
            raise argparse.ArgumentTypeError(f"wanted NAME:MIB, found '{item}'{hint}")
        if POOLS[word] in sizes:
            raise argparse.ArgumentTypeError(f"{word} stands twice")
        sizes[POOLS[word]] = _checked_pool(word, _bytes(size))
    return sizes


def _checked_pool(word: str, size: int) -> int:
    whole = size >= SMALLEST_DLA_POOL and size & (size - 1) == 0
    if word != "workspace" and not whole:
        raise argparse.ArgumentTypeError(f"{word}: a DLA's pool is a power of two from 4 KiB on, found {size:,} bytes")
    return size


def target_words(text: str) -> Tuple[str, ...]:
    """`smNN` words, or the name of one device; for argparse."""
    from engine.targets import resolve_targets

    try:
        return resolve_targets(word.strip() for word in text.split(",") if word.strip())
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
