"""One inference of a definition on the GPU: built, loaded, run, gone. For proofs; a server keeps its engine.

definition -> plan -> Runner -> outputs by name
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

import numpy as np

from engine.build_options import PlanOptions
from engine.devices import open_device
from engine.network import Definition
from engine.plan import Progress, build_plan
from engine.runner import Runner
from engine.tensorrt_api import TensorRT


def run_definition(
    definition: Definition, inputs: Mapping[str, np.ndarray], options: PlanOptions, progress: Progress
) -> Dict[str, np.ndarray]:
    """Builds a definition and runs the engine once on the first GPU; its outputs by name.

    Raises:
        TensorRTError: the build failed, or the inputs do not fit.
        DeviceError: CUDA reports an error.
        UsageError: an option this TensorRT lacks, no such DLA here, or no GPU binding is installed.
    """
    return run_plan(definition.tensorrt, build_plan(definition, options, progress), inputs, options.dla_core)


def run_plan(
    tensorrt: TensorRT, plan: Any, inputs: Mapping[str, np.ndarray], dla_core: Optional[int] = None
) -> Dict[str, np.ndarray]:
    """Runs a plan once on the first GPU, with the DLA it is for, if it is; its outputs by name.

    Raises as `run_definition` does.
    """
    with open_device() as device, Runner(tensorrt, plan, device, dla_core) as runner:
        return runner.run(inputs)
