"""Our code as the walk has to know it, and what each TensorRT lacks of it.

    RECEIVERS, RETURNS, CONDITIONS    what an object is, which no annotation says
    KNOWN, DYNAMIC                    what the walk cannot see for itself, each row with its reason
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from tests.tensorrt_apis import RECORDS, comes, results, wrong_with
from tests.tensorrt_uses import Collection, Use, collect
from tests.tensorrt_values import Facts, Vocabulary

ROOT = Path(__file__).resolve().parents[1]

RECEIVERS = {
    # where: class of an object by the last words of its spelling; empty: nothing of TensorRT's
    "engine/": {
        "trt": "module",
        "module": "module",
        "trt_builder": "Builder",
        "network": "INetworkDefinition",
        "config": "IBuilderConfig",
        "engine": "ICudaEngine",
        "context": "IExecutionContext",
        "runtime": "Runtime",
        "_runtime": "Runtime",
        "added": "ILayer",
    },
    "engine/devices/": {"module": "", "context": ""},
    "engine/emission.py": {"tensor": "ITensor", "source": "ITensor", "self.added": ""},
    "engine/emitters/": {"tensor": "ITensor", "source": "ITensor"},
    "engine/inside.py": {"tensor": "ITensor"},
    "engine/interpreter/readback.py": {"tensor": "ITensor", "layer": "ILayer"},
    "engine/network.py": {"tensor": "ITensor"},
    "engine/pinning.py": {"emission.added": ""},
}

RETURNS = {
    # function of ours, with the name before its dot: class of what it returns
    "create_builder": "Builder",
    "_activated": "IActivationLayer",
    "_sliced": "ISliceLayer",
    "_with_kernel": "IConvolutionLayer",
    "emission.reshape": "IShuffleLayer",
    "emission.constant": "ITensor",
    "emission.part": "ITensor",
    "emission.whole": "ITensor",
    "self.part": "ITensor",
    "self._named": "ITensor",
}

CONDITIONS: Dict[str, Facts] = {
    # attribute of ours: what holds where it is true
    "typed": {"fp16 flag": False},
}


class Known(NamedTuple):
    """Uses of a file that nothing lexically before them guards, and what holds there all the same.

    Attributes:
        facts: None where they are used only if they were found.
    """

    path: str
    uses: Tuple[str, ...]
    facts: Optional[Facts]
    reason: str


KNOWN = [
    Known(
        "engine/emission.py",
        ("INetworkDefinition.add_cast",),
        {"fp16 flag": False},
        "a tensor is half where the graph says float32 only in a strongly typed network",
    ),
    Known(
        "engine/inside.py",
        (
            "INetworkDefinition.mark_debug",
            "IExecutionContext.set_debug_listener",
            "IExecutionContext.set_all_tensors_debug_state",
            "module.IDebugListener",
            "IDebugListener.process_debug_tensor",
        ),
        {"debug tensors": True},
        "way_of asks for the capability of the way",
    ),
    Known(
        "engine/inside.py",
        (
            "INetworkDefinition.mark_unfused_tensors_as_debug_tensors",
            "IExecutionContext.unfused_tensors_debug_state",
        ),
        {"unfused debug tensors": True},
        "way_of asks for the capability of the way",
    ),
    Known(
        "engine/interpreter/readback.py",
        (
            "module.ICastLayer",
            "module.IFullyConnectedLayer",
            "module.INormalizationLayer",
            "module.ISqueezeLayer",
            "module.IUnsqueezeLayer",
        ),
        None,
        "the class of a layer that was read back",
    ),
]

DYNAMIC = {
    # file and class: why `getattr` may have a word there that cannot be read off the code
    ("engine/build_options.py", "ComputeCapability"): "a word of known_targets, which are its members",
    ("engine/emission.py", "ILayer"): "reads back what it has just set",
    ("engine/interpreter/readback.py", "ILayer"): "FIELDS, see below",
    ("engine/tensorrt_api.py", "DataType"): "_DTYPES, see below",
}


def collected(sources: Mapping[str, str]) -> Collection:
    """What sources by path use of TensorRT."""
    trees = {path: ast.parse(source, path) for path, source in sources.items()}
    return collect(trees, Vocabulary(results(RECORDS.values()), RECEIVERS, RETURNS, CONDITIONS))


def our_sources() -> Dict[str, str]:
    """Files by path; `commands` calls functions of the engine and asks for capabilities before, too."""
    folders = ("engine", "deploy", "verify", "commands")
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def problems(api: Mapping[str, Any], uses: Iterable[Use], known: Iterable[Known] = KNOWN) -> List[str]:
    """Every use that this TensorRT comes to and lacks."""
    wrong = set()
    for use in uses:
        lacks = wrong_with(api, use)
        if lacks and comes(api, use.facts) and all(comes(api, row.facts) for row in known if is_of(use, row)):
            wrong.add(f"{use.place}: {use.owner}.{use.attribute} {lacks} in {api['module']} {api['version']}")
    return sorted(wrong)


def is_of(use: Use, row: Known) -> bool:
    return use.place.startswith(f"{row.path}:") and f"{use.owner}.{use.attribute}" in row.uses
