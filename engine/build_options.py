"""What a build may be told, and how each TensorRT takes it: one row of SETTINGS an option.

An option that the installed TensorRT lacks is refused in one sentence that names the version that has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from engine import timing_cache
from engine.tensorrt_api import TensorRT
from spec.errors import UsageError, did_you_mean


class PlanOptions(NamedTuple):
    """What a build may be told; None and False leave TensorRT's default. In brackets: trtexec's name.

    Attributes:
        targets: compute capabilities of a TensorRT-RTX plan (`sm75`, ...); none: every RTX GPU.
        workspace: bytes of scratch memory at most (memPoolSize=workspace).
        timing_cache: a file with earlier builds' measurements, read and written (timingCacheFile).
        optimization_level: 0 to 5, how long to search (builderOptimizationLevel).
        tactic_sources: `-CUBLAS,+CUDNN,...` changes of the default (tacticSources).
        sparsity: use 2:4 sparse kernels where the weights are (sparsity=enable).
        dla_core: run what can on this DLA (useDLACore).
        gpu_fallback: let layers a DLA cannot run be the GPU's (allowGPUFallback).
        hardware_compatibility: `ampere_plus` or `same_compute_capability` (hardwareCompatibilityLevel).
        version_compatible: a plan that newer TensorRTs run (versionCompatible).
        profiling: `layer_names_only`, `detailed` or `none`: what the plan tells of its layers (profilingVerbosity).
        refit: weights may be exchanged later (refit).
        strip_weights: a plan without them (stripWeights).
    """

    targets: Tuple[str, ...] = ()
    workspace: Optional[int] = None
    timing_cache: Optional[Path] = None
    optimization_level: Optional[int] = None
    tactic_sources: Optional[str] = None
    sparsity: bool = False
    dla_core: Optional[int] = None
    gpu_fallback: bool = False
    hardware_compatibility: Optional[str] = None
    version_compatible: bool = False
    profiling: Optional[str] = None
    refit: bool = False
    strip_weights: bool = False


class Setting(NamedTuple):
    """One option: its name on the command line, the capability it needs (empty: every TensorRT), and how it is set."""

    option: str
    capability: str
    apply: Callable[[TensorRT, Any, Any], None]


def known_targets(tensorrt: TensorRT) -> List[str]:
    """The `smNN` words of this TensorRT-RTX."""
    return [word.lower() for word in tensorrt.module.ComputeCapability.__members__ if word.startswith("SM")]


def _targets(tensorrt: TensorRT, config: Any, targets: Tuple[str, ...]) -> None:
    known = known_targets(tensorrt)
    unknown = [target for target in targets if target not in known]
    if unknown:
        hints = [f"'{target}'{did_you_mean(target, known)}" for target in unknown]
        raise UsageError(f"--target: {tensorrt.title} knows no {', '.join(hints)}; it knows {', '.join(known)}")
    twice = sorted({target for target in targets if targets.count(target) > 1})
    if twice:
        raise UsageError(f"--target: {', '.join(twice)} stands twice; name each once")
    config.num_compute_capabilities = len(targets)
    for position, target in enumerate(targets):
        if not config.set_compute_capability(getattr(tensorrt.module.ComputeCapability, target.upper()), position):
            raise UsageError(f"--target {target}: {tensorrt.title} refused it: {tensorrt.log.take()}")


def _workspace(tensorrt: TensorRT, config: Any, size: int) -> None:
    config.set_memory_pool_limit(tensorrt.module.MemoryPoolType.WORKSPACE, size)


def _optimization_level(tensorrt: TensorRT, config: Any, level: int) -> None:
    config.builder_optimization_level = level
    if config.builder_optimization_level != level:
        raise UsageError(f"--builder-optimization-level {level}: {tensorrt.title} takes 0 to 5")


def _tactic_sources(tensorrt: TensorRT, config: Any, changes: str) -> None:
    """Adds (+NAME) and removes (-NAME) sources of the default set."""
    known = tensorrt.module.TacticSource.__members__
    sources = config.get_tactic_sources()
    for change in changes.replace(" ", "").split(","):
        sign, word = change[:1], change[1:].upper()
        if sign not in ("+", "-") or word not in known:
            hint = did_you_mean(word, known) or f"; known: {', '.join(known)}"
            raise UsageError(f"--tactic-sources {change}: wanted +NAME or -NAME{hint}")
        bit = 1 << int(known[word])
        sources = sources | bit if sign == "+" else sources & ~bit
    if not config.set_tactic_sources(sources):
        raise UsageError(f"--tactic-sources {changes}: {tensorrt.title} refused it: {tensorrt.log.take()}")


def _dla_core(tensorrt: TensorRT, config: Any, core: int) -> None:
    config.default_device_type = tensorrt.module.DeviceType.DLA
    config.DLA_core = core
    if config.DLA_core != core:  # TensorRT keeps -1 without a word
        raise UsageError(f"--dla-core {core}: this machine has no such DLA")


def _hardware_compatibility(tensorrt: TensorRT, config: Any, word: str) -> None:
    config.hardware_compatibility_level = _member(
        tensorrt, "HardwareCompatibilityLevel", word, "--hardware-compatibility"
    )


def _profiling(tensorrt: TensorRT, config: Any, word: str) -> None:
    config.profiling_verbosity = _member(tensorrt, "ProfilingVerbosity", word, "--profiling-verbosity")


def _member(tensorrt: TensorRT, enumeration: str, word: str, option: str) -> Any:
    """A member of one of TensorRT's enumerations by its name in small letters."""
    members = {name.lower(): value for name, value in getattr(tensorrt.module, enumeration).__members__.items()}
    if word.lower() not in members:
        hint = did_you_mean(word.lower(), members) or f"; known: {', '.join(members)}"
        raise UsageError(f"{option} {word}: {tensorrt.title} has no such level{hint}")
    return members[word.lower()]


def _flag(name: str) -> Callable[[TensorRT, Any, Any], None]:
    return lambda tensorrt, config, value: config.set_flag(getattr(tensorrt.module.BuilderFlag, name))


SETTINGS: Dict[str, Setting] = {
    # field of PlanOptions: option, capability, how
    "targets": Setting("--target", "compute capability targets", _targets),
    "workspace": Setting("--workspace", "", _workspace),
    "timing_cache": Setting("--timing-cache", "", timing_cache.attach),
    "optimization_level": Setting("--builder-optimization-level", "optimization level", _optimization_level),
    "tactic_sources": Setting("--tactic-sources", "", _tactic_sources),
    "sparsity": Setting("--sparsity", "", _flag("SPARSE_WEIGHTS")),
    "dla_core": Setting("--dla-core", "", _dla_core),
    "gpu_fallback": Setting("--gpu-fallback", "", _flag("GPU_FALLBACK")),
    "hardware_compatibility": Setting(
        "--hardware-compatibility", "hardware compatibility level", _hardware_compatibility
    ),
    "version_compatible": Setting("--version-compatible", "version compatibility", _flag("VERSION_COMPATIBLE")),
    "profiling": Setting("--profiling-verbosity", "", _profiling),
    "refit": Setting("--refit", "", _flag("REFIT")),
    "strip_weights": Setting("--strip-weights", "plans without weights", _flag("STRIP_PLAN")),
}


def apply_options(tensorrt: TensorRT, config: Any, options: PlanOptions) -> None:
    """Sets every option that was given; raises UsageError for one that this TensorRT lacks or refuses."""
    for field, setting in SETTINGS.items():
        value = getattr(options, field)
        if value is None or value is False or value == ():
            continue
        if setting.capability:
            tensorrt.require(setting.capability, setting.option)
        setting.apply(tensorrt, config, value)
