"""Definition -> plan: builder configuration, optimisation profile, progress, and the build itself."""

from __future__ import annotations

import logging
from typing import Any, Optional, Sequence

from engine import timing_cache
from engine.build_options import PlanOptions, apply_options
from engine.dla.placing import place_layers
from engine.interruption import held_interrupts
from engine.network import Definition
from engine.tensorrt_api import TensorRT
from spec.errors import TensorRTError, UsageError

_log = logging.getLogger(__name__)

TRTEXECS_AVERAGE_TIMING = 8
"""trtexec's default of --avgTiming; TensorRT's own is 1, and one slow moment then chooses another kernel."""


class Progress:
    """What a build tells while it runs; the default says nothing. Phases nest: a phase has a parent or None."""

    def start(self, phase: str, parent: Optional[str], steps: int) -> None:
        """A phase of so many steps begins."""

    def step(self, phase: str, step: int) -> None:
        """Step number `step` of a phase is done."""

    def finish(self, phase: str) -> None:
        """A phase is over."""


def build_plan(definition: Definition, options: PlanOptions, progress: Progress) -> Any:
    """Builds; returns TensorRT's memory block with the plan, readable through the buffer protocol.

    Raises:
        UsageError: an option that this TensorRT lacks.
        TensorRTError: the build failed, with TensorRT's own words.
        KeyboardInterrupt: Ctrl-C or SIGTERM came while it ran.
    """
    tensorrt, trt_builder = definition.tensorrt, definition.trt_builder
    config = configuration(definition, options)
    with held_interrupts() as interrupts:  # raised in a callback, it cannot cross TensorRT's C++, which drops it
        if tensorrt.has("progress monitor"):
            config.progress_monitor = _make_monitor(tensorrt.module, progress, interrupts)
        plan = trt_builder.build_serialized_network(definition.network, config)
        words = tensorrt.log.take()
    if interrupts:
        raise KeyboardInterrupt  # whoever handles the signal may have noted it only
    if plan is None:
        raise TensorRTError(f"{tensorrt.title} could not build '{definition.graph.name}': {words}")
    _save_timing_cache(tensorrt, config, options)
    return plan


def _save_timing_cache(tensorrt: TensorRT, config: Any, options: PlanOptions) -> None:
    """A cache that cannot be kept is no reason to throw the plan away."""
    if options.timing_cache is None:
        return
    try:
        timing_cache.save(tensorrt, config, options.timing_cache)
    except UsageError as error:
        _log.warning("the plan is built, but its timing cache is not saved: %s", error)


def configuration(definition: Definition, options: PlanOptions) -> Any:
    """TensorRT's IBuilderConfig with the precision, the options and the profile of a definition; raises UsageError."""
    config = definition.trt_builder.create_builder_config()
    config.avg_timing_iterations = TRTEXECS_AVERAGE_TIMING
    set_precision(definition, config)
    apply_options(definition.tensorrt, config, options)
    if options.dla_core is not None:
        place_layers(definition, config, options.gpu_fallback)
    _add_profile(definition, config)
    return config


def set_precision(definition: Definition, config: Any) -> None:
    """The builder flags of a precision; a strongly typed network needs none but TF32's.

    TF32 is on by default in TensorRT; here fp32 means all 23 bits of the mantissa. Half tensors that the graph itself
    has need the FP16 flag too, where there is one.
    """
    tensorrt, precision = definition.tensorrt, definition.precision
    flags = tensorrt.module.BuilderFlag
    if not precision.uses("tf32"):
        config.clear_flag(flags.TF32)
    if not tensorrt.has("fp16 flag"):
        return
    if precision.needs_half(definition.graph):
        config.set_flag(flags.FP16)
        config.set_flag(flags.OBEY_PRECISION_CONSTRAINTS)
    if precision.uses("int8"):
        config.set_flag(flags.INT8)


def _add_profile(definition: Definition, config: Any) -> None:
    """One optimisation profile with the bounds of a dynamic batch."""
    batch = definition.graph.batch
    if batch is None:
        return
    profile = definition.trt_builder.create_optimization_profile()
    for name in definition.graph.inputs:
        rest = tuple(definition.graph.tensors[name].shape[1:])
        profile.set_shape(name, (batch.min,) + rest, (batch.opt,) + rest, (batch.max,) + rest)
    if config.add_optimization_profile(profile) < 0:
        raise TensorRTError(f"batch {batch.min}/{batch.opt}/{batch.max}: refused: {definition.tensorrt.log.take()}")


def _make_monitor(trt: Any, progress: Progress, interrupts: Sequence[int]) -> Any:
    """Passes progress on, and ends the build at the next step once there is an interrupt."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: Optional[str], num_steps: int) -> None:
            progress.start(phase_name, parent_phase or None, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.step(phase_name, step)
            return not interrupts

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()
