"""What a script of `run.py polygraphy` calls: our network and its builder configuration, for Polygraphy's TensorRT."""

from __future__ import annotations

import argparse
from typing import Any, List, Tuple

from commands.console import Console
from commands.stages import in_precision, prepare, read_config
from spec.errors import UsageError

_definitions: List[Any] = []
"""TensorRT reads the weights from numpy's memory until the build is over, and nobody else holds on to it."""


def load_network(config: str, *overrides: str) -> Tuple[Any, Any]:
    """TensorRT's builder and the network definition of a config, in its precision.

    Raises:
        TransplantFailure: the config or the checkpoint is not usable, or TensorRT refuses the network.
    """
    options = argparse.Namespace(config=config, set=list(overrides), sample=False, ledger=False, backend=_backend())
    console = Console(verbosity=-1)
    definition = in_precision(prepare(options, console, *read_config(options, console)))
    _definitions.append(definition)
    return definition.trt_builder, definition.network


def load_config(network: Any, **options: Any) -> Any:
    """The builder configuration of a network that `load_network` made.

    Args:
        options: fields of engine.build_options.PlanOptions.

    Raises:
        UsageError: another network, or an option that this TensorRT lacks.
    """
    from engine.build_options import PlanOptions
    from engine.plan import configuration

    for definition in _definitions:
        if definition.network is network:
            return configuration(definition, PlanOptions(**options))
    raise UsageError("load_config: not a network of load_network; give Polygraphy the same script for both")


def _backend() -> str:
    """The TensorRT that Polygraphy imports: objects of two cannot be mixed."""
    from polygraphy import config

    return "tensorrt_rtx" if getattr(config, "USE_TENSORRT_RTX", False) else "tensorrt"
