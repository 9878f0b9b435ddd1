"""The script that gives Polygraphy our network and our builder configuration, instead of an ONNX file.

    polygraphy run SCRIPT --model-type=trt-network-script --trt --trt-config-script=SCRIPT
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any, Mapping, Sequence

_TEMPLATE = '''\
"""{name} for Polygraphy: the network as trt-transplant defines it, with the weights of its checkpoint.

    polygraphy run {script} --model-type=trt-network-script --trt --trt-config-script={script}

Without --trt-config-script Polygraphy ignores the config's precision and profile and takes its own options.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CLONE = os.environ.get("TRT_TRANSPLANT", os.path.join(HERE, {clone}))
CONFIG = os.path.join(HERE, {config})
OVERRIDES = {overrides}  # of keys of the YAML, as --set takes them
OPTIONS = {options!r}  # of the build, fields of engine.build_options.PlanOptions

sys.path.insert(1, CLONE)  # not 0: Polygraphy puts this script's folder there while it loads it, then removes the first

from commands import polygraphy_network  # noqa: E402


def load_network():
    """The builder and the network definition."""
    return polygraphy_network.load_network(CONFIG, *OVERRIDES)


def load_config(builder, network):
    """The builder configuration: precision, profile and options."""
    return polygraphy_network.load_config(network, **OPTIONS)
'''


def script_text(
    name: str, script: Path, clone: Path, config: Path, overrides: Sequence[str], options: Mapping[str, Any]
) -> str:
    """The text of a script.

    Args:
        name: the model's.
        script: where the text will lie; the paths in it are relative to that folder.
        clone: the folder of our packages.
        config: the YAML.
        overrides: `key=value` words.
        options: fields of PlanOptions that differ from the default.
    """
    folder = script.resolve().parent
    return _TEMPLATE.format(
        name=name,
        script=shlex.quote(script.name),
        clone=_literal(os.path.relpath(clone.resolve(), folder)),
        config=_literal(os.path.relpath(config.resolve(), folder)),
        overrides=_literal(list(overrides)),
        options=dict(options),
    )


def _literal(value: Any) -> str:
    """Text in double quotes as Python reads it: JSON's escapes beyond 16 bits are two characters there."""
    return json.dumps(value, ensure_ascii=False)
