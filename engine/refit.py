"""New weights in an existing plan, without a build.

plan --deserialize--> engine --Refitter: set each weight by its name, refit--> engine --serialize--> plan
"""

from __future__ import annotations

from typing import Any, Collection, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from engine.runner import new_runtime
from engine.tensorrt_api import TensorRT
from spec.errors import TensorRTError, listed
from spec.wording import counted


class Refitted(NamedTuple):
    """A plan with new weights, as TensorRT's memory block, and how many weights were set."""

    plan: Any
    count: int


def refit_plan(
    tensorrt: TensorRT,
    plan: Any,
    named: Mapping[str, np.ndarray],
    unchanged: Collection[str] = (),
    dla_core: Optional[int] = None,
) -> Refitted:
    """Sets every weight that the engine can exchange, and serializes it.

    Args:
        plan: the bytes of a plan that was built with the REFIT flag, or without its weights (STRIP_PLAN).
        named: `Definition.named` of the same network with the new weights.
        unchanged: names of the weights that are as they were, and which the engine may therefore have fixed.
        dla_core: the DLA that the plan was built for, if it was.

    Raises:
        TensorRTError: the plan cannot be loaded or refitted, cannot take a weight that changed, or lacks one.
        UsageError: this machine has no such DLA.
    """
    runtime = new_runtime(tensorrt, dla_core)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise TensorRTError(f"{tensorrt.title} cannot load this plan: {tensorrt.log.take()}")
    if not engine.refittable:
        raise TensorRTError("this plan was built without --refit, so its weights are fixed; build it with --refit")
    count = _exchange(tensorrt, engine, named, unchanged)
    serialized = _serialized(tensorrt, engine)
    if serialized is None:
        raise TensorRTError(f"{tensorrt.title} cannot serialize the refitted engine: {tensorrt.log.take()}")
    return Refitted(serialized, count)


def _exchange(tensorrt: TensorRT, engine: Any, named: Mapping[str, np.ndarray], unchanged: Collection[str]) -> int:
    """Sets all weights the engine knows, not only the changed: those that it has fused must be set together.

    The refitter lives no longer than this call, since it must be gone before its engine.
    """
    trt = tensorrt.module
    refitter = trt.Refitter(engine, tensorrt.logger)
    known = refitter.get_all_weights()
    check_engine_names(known, named, unchanged)
    for name in known:
        if not refitter.set_named_weights(name, trt.Weights(named[name])):
            raise TensorRTError(f"weights '{name}': {tensorrt.title} refused them: {tensorrt.log.take()}")
    missing = [*refitter.get_missing_weights(), *(str(layer) for layer in refitter.get_missing()[0])]
    if missing:
        raise TensorRTError(f"the refit lacks weights that {tensorrt.title} wants with the others: {listed(missing)}")
    if not refitter.refit_cuda_engine():
        raise TensorRTError(f"{tensorrt.title} could not refit the engine: {tensorrt.log.take()}")
    return len(known)


def _serialized(tensorrt: TensorRT, engine: Any) -> Any:
    """The whole plan: with its weights, which one without them would stay without, and refittable once more.

    TensorRT 10.14 and newer else make a plan whose weights are fixed (pytorch/TensorRT pull 3932).
    """
    if not tensorrt.has("serialization flags"):
        return engine.serialize()
    flags, config = tensorrt.module.SerializationFlag, engine.create_serialization_config()
    config.clear_flag(flags.EXCLUDE_WEIGHTS)
    if tensorrt.has("refittable serialization"):
        config.set_flag(flags.INCLUDE_REFIT)
    return engine.serialize_with_config(config)


def check_engine_names(known: Sequence[str], named: Mapping[str, np.ndarray], unchanged: Collection[str]) -> None:
    """The engine's names against ours; raises TensorRTError for what it wants and we lack, or it cannot take."""
    problems: List[str] = []
    foreign = [name for name in known if name not in named]
    if foreign:
        problems.append(f"the engine wants weights that this network has not: {listed(foreign)}; build the plan again")
    fixed = sorted(set(named) - set(known) - set(unchanged))
    if fixed:
        changed = counted(len(fixed), "changed weight")
        problems.append(
            f"fixed in the engine: {changed}: {listed(fixed)}; TensorRT built them in, so build the plan again"
        )
    if problems:
        raise TensorRTError(problems)
