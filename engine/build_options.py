"""What a build may be told, and how each TensorRT takes it: one row of SETTINGS an option.

An option that the installed TensorRT lacks is refused in one sentence that names the version that has it; so is what
it takes and drops: each value is read back, or its setter's own answer is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from engine import timing_cache
from engine.targets import no_dla_because, version_of
from engine.tensorrt_api import TensorRT
from spec.errors import UsageError, did_you_mean


class PlanOptions(NamedTuple):
    """What a build may be told; None and False leave TensorRT's default. In brackets: trtexec's name.

    Attributes:
        targets: compute capabilities of a TensorRT-RTX plan (`sm75`, ...); none: every RTX GPU.
        workspace: bytes of scratch memory at most (memPoolSize=workspace).
        timing_cache: a file with earlier builds' measurements, read and written (timingCacheFile).
        optimization_level: 0 to 5, how long to search (builderOptimizationLevel).
        average_timing: how often a kernel is timed before its average is judged (avgTiming); none: as trtexec does.
        tactic_sources: `-CUBLAS,+CUDNN,...` changes of the default (tacticSources).
        sparsity: use 2:4 sparse kernels where the weights are (sparsity=enable).
        dla_core: run what can on this DLA (useDLACore).
        gpu_fallback: let layers a DLA cannot run be the GPU's (allowGPUFallback).
        hardware_compatibility: `ampere_plus` or `same_compute_capability` (hardwareCompatibilityLevel).
        version_compatible: a plan that newer TensorRTs run (versionCompatible).
        profiling: `layer_names_only`, `detailed` or `none`: what the plan tells of its layers (profilingVerbosity).
        refit: weights may be exchanged later (refit).
        strip_weights: a plan without them (stripWeights).
        dla_sram: bytes of a DLA's own memory, for each subnetwork on it (memPoolSize=dlaSRAM).
        dla_local_dram: bytes for tensors between its layers (memPoolSize=dlaLocalDRAM).
        dla_global_dram: bytes for its weights (memPoolSize=dlaGlobalDRAM).
    """

    targets: Tuple[str, ...] = ()
    workspace: Optional[int] = None
    timing_cache: Optional[Path] = None
    optimization_level: Optional[int] = None
    average_timing: Optional[int] = None
    tactic_sources: Optional[str] = None
    sparsity: bool = False
    dla_core: Optional[int] = None
    gpu_fallback: bool = False
    hardware_compatibility: Optional[str] = None
    version_compatible: bool = False
    profiling: Optional[str] = None
    refit: bool = False
    strip_weights: bool = False
    dla_sram: Optional[int] = None
    dla_local_dram: Optional[int] = None
    dla_global_dram: Optional[int] = None


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


def _pool(word: str, option: str) -> Callable[[TensorRT, Any, int], None]:
    """Sets the limit of a member of MemoryPoolType and reads it back, since a refusal is only logged."""

    def apply(tensorrt: TensorRT, config: Any, size: int) -> None:
        pool = getattr(tensorrt.module.MemoryPoolType, word)
        config.set_memory_pool_limit(pool, size)
        if config.get_memory_pool_limit(pool) != size:
            raise UsageError(f"{option}: {tensorrt.title} refused {size:,} bytes: {tensorrt.log.take()}")

    return apply


def _optimization_level(tensorrt: TensorRT, config: Any, level: int) -> None:
    config.builder_optimization_level = level
    if config.builder_optimization_level != level:
        raise UsageError(f"--builder-optimization-level {level}: {tensorrt.title} takes 0 to 5")


def _average_timing(tensorrt: TensorRT, config: Any, count: int) -> None:
    if count < 1:
        raise UsageError(f"--avg-timing {count}: wanted 1 or more")
    config.avg_timing_iterations = count
    _check_kept(tensorrt, f"--avg-timing {count}", config.avg_timing_iterations == count)


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
    _check_kept(tensorrt, f"--tactic-sources {changes}", config.set_tactic_sources(sources))


def _dla_core(tensorrt: TensorRT, config: Any, core: int) -> None:
    config.default_device_type = tensorrt.module.DeviceType.DLA
    config.DLA_core = core
    if config.DLA_core != core:  # TensorRT keeps -1 without a word
        why = "" if tensorrt.is_rtx else no_dla_because(version_of(tensorrt.version))
        raise UsageError(f"--dla-core {core}: {why or 'this machine has no such DLA'}")


def _hardware_compatibility(tensorrt: TensorRT, config: Any, word: str) -> None:
    level = _member(tensorrt, "HardwareCompatibilityLevel", word, "--hardware-compatibility")
    config.hardware_compatibility_level = level
    _check_kept(tensorrt, f"--hardware-compatibility {word}", config.hardware_compatibility_level == level)


def _profiling(tensorrt: TensorRT, config: Any, word: str) -> None:
    level = _member(tensorrt, "ProfilingVerbosity", word, "--profiling-verbosity")
    config.profiling_verbosity = level
    _check_kept(tensorrt, f"--profiling-verbosity {word}", config.profiling_verbosity == level)


def _member(tensorrt: TensorRT, enumeration: str, word: str, option: str) -> Any:
    """A member of one of TensorRT's enumerations by its name in small letters."""
    members = {name.lower(): value for name, value in getattr(tensorrt.module, enumeration).__members__.items()}
    if word.lower() not in members:
        hint = did_you_mean(word.lower(), members) or f"; known: {', '.join(members)}"
        raise UsageError(f"{option} {word}: {tensorrt.title} has no such level{hint}")
    return members[word.lower()]


def _flag(word: str, option: str) -> Callable[[TensorRT, Any, bool], None]:
    """Sets a member of BuilderFlag."""

    def apply(tensorrt: TensorRT, config: Any, value: bool) -> None:
        flag = getattr(tensorrt.module.BuilderFlag, word)
        config.set_flag(flag)
        _check_kept(tensorrt, option, config.get_flag(flag))

    return apply


def _check_kept(tensorrt: TensorRT, option: str, kept: bool) -> None:
    """Raises UsageError where TensorRT did not take what was set: its setters log, or say nothing at all."""
    if not kept:
        raise UsageError(f"{option}: {tensorrt.title} refused it: {tensorrt.log.take()}")


SETTINGS: Dict[str, Setting] = {
    # field of PlanOptions: option, capability, how
    "targets": Setting("--target", "compute capability targets", _targets),
    "workspace": Setting("--workspace", "", _pool("WORKSPACE", "--workspace")),
    "timing_cache": Setting("--timing-cache", "", timing_cache.attach),
    "optimization_level": Setting("--builder-optimization-level", "optimization level", _optimization_level),
    "average_timing": Setting("--avg-timing", "", _average_timing),
    "tactic_sources": Setting("--tactic-sources", "", _tactic_sources),
    "sparsity": Setting("--sparsity", "", _flag("SPARSE_WEIGHTS", "--sparsity")),
    "dla_core": Setting("--dla-core", "", _dla_core),
    "gpu_fallback": Setting("--gpu-fallback", "", _flag("GPU_FALLBACK", "--gpu-fallback")),
    "hardware_compatibility": Setting(
        "--hardware-compatibility", "hardware compatibility level", _hardware_compatibility
    ),
    "version_compatible": Setting(
        "--version-compatible", "version compatibility", _flag("VERSION_COMPATIBLE", "--version-compatible")
    ),
    "profiling": Setting("--profiling-verbosity", "", _profiling),
    "refit": Setting("--refit", "", _flag("REFIT", "--refit")),
    "strip_weights": Setting("--strip-weights", "plans without weights", _flag("STRIP_PLAN", "--strip-weights")),
    "dla_sram": Setting("--pools dlaSRAM", "", _pool("DLA_MANAGED_SRAM", "--pools dlaSRAM")),
    "dla_local_dram": Setting("--pools dlaLocalDRAM", "", _pool("DLA_LOCAL_DRAM", "--pools dlaLocalDRAM")),
    "dla_global_dram": Setting("--pools dlaGlobalDRAM", "", _pool("DLA_GLOBAL_DRAM", "--pools dlaGlobalDRAM")),
}

NOT_IN_RTX: Dict[str, str] = {
    # field of PlanOptions: why TensorRT-RTX, whose module has the attributes, has not the option
    "timing_cache": "times no kernels while it builds, so there is nothing to keep; TensorRT 8.5 and newer does",
    "hardware_compatibility": "ignores it, TensorRT 8.6 and newer has it; name the GPUs of the plan with --target",
    "version_compatible": "comes without the lean runtime such plans need; TensorRT 8.6 and newer has it",
}


def given_options(options: PlanOptions) -> Dict[str, Any]:
    """What was given, by field; TensorRT's own default holds for the rest."""
    fields = options._asdict().items()
    return {field: value for field, value in fields if not (value is None or value is False or value == ())}


def describe_options(options: PlanOptions) -> Dict[str, Any]:
    """What was given, as JSON for a manifest: sizes in bytes, paths as text."""
    described = given_options(options)
    return {field: str(value) if isinstance(value, Path) else value for field, value in described.items()}


def needed_capabilities(options: PlanOptions) -> List[Tuple[str, str]]:
    """(row of CAPABILITIES, option) of everything given that not every TensorRT has."""
    rows = [SETTINGS[field] for field in given_options(options)]
    return [(setting.capability, setting.option) for setting in rows if setting.capability]


def require_option(tensorrt: TensorRT, field: str) -> None:
    """Raises UsageError where this TensorRT lacks what a field of PlanOptions asks for."""
    setting = SETTINGS[field]
    if tensorrt.is_rtx and field in NOT_IN_RTX:
        raise UsageError(f"{setting.option}: {tensorrt.title} {NOT_IN_RTX[field]}")
    if setting.capability:
        tensorrt.require(setting.capability, setting.option)


def apply_options(tensorrt: TensorRT, config: Any, options: PlanOptions) -> None:
    """Sets every option that was given; raises UsageError for one that this TensorRT lacks or refuses."""
    given = given_options(options)
    for field, setting in SETTINGS.items():
        if field in given:
            require_option(tensorrt, field)
            setting.apply(tensorrt, config, given[field])
