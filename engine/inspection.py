"""What is inside an engine: the inspector's JSON, and which of our layers each of the engine's layers is made of.

    "conv1 + relu1"                                            -> conv1, relu1
    "PWN(PWN(sigmoid), mul)"                                   -> sigmoid, mul
    "{ForeignNode[fc1...prob]}"                                -> all from fc1 to prob that no other layer names
    "Reformatting CopyNode for Input Tensor 0 to conv1"        -> conv1, as a reformat
    "__myl_MulAdd_myl0_3", output tensor "bn2"                 -> bn2, by its metadata or else by its outputs

TensorRT's layers carry our names (`name`, `name/part`), which fusion joins but keeps, so the names are enough.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

from engine.tensorrt_api import TensorRT
from spec.errors import TensorRTError


class EngineTensor(NamedTuple):
    """An input or output of an engine's layer; `dtype` is empty where the document does not tell."""

    name: str
    shape: Tuple[int, ...]
    dtype: str
    format: str


class EngineLayer(NamedTuple):
    """One layer of an engine. A plan built without detailed verbosity tells nothing but the name."""

    name: str
    kind: str = ""
    tactic: str = ""
    inputs: Tuple[EngineTensor, ...] = ()
    outputs: Tuple[EngineTensor, ...] = ()
    metadata: str = ""

    def as_json(self) -> Dict[str, Any]:
        tensors = {"inputs": self.inputs, "outputs": self.outputs}
        rows = {key: [tensor._asdict() for tensor in found] for key, found in tensors.items()}
        return {"name": self.name, "kind": self.kind, "tactic": self.tactic, **rows}

    @property
    def is_reformat(self) -> bool:
        """A copy between formats that TensorRT put in by itself."""
        return self.name.startswith("Reformatting CopyNode") or self.kind == "Reformat"


class Join(NamedTuple):
    """Engine layers beside ours.

    Attributes:
        ours: our layers by the name of the engine's, in our order; empty where none belongs to it.
        vanished: our layers that no layer of the engine is made of: folded away, or without any work to do.
    """

    ours: Dict[str, Tuple[str, ...]]
    vanished: Tuple[str, ...]

    @property
    def foreign(self) -> Tuple[str, ...]:
        """Engine layers that belong to none of ours."""
        return tuple(name for name, ours in self.ours.items() if not ours)


def engine_document(tensorrt: TensorRT, engine: Any) -> Dict[str, Any]:
    """The inspector's JSON of a whole engine.

    Raises:
        TensorRTError: there is none, or it is no JSON; a plan built with verbosity `none` tells nothing.
    """
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(tensorrt.module.LayerInformationFormat.JSON)
    try:
        document = json.loads(text, strict=False)  # layer names may hold control characters
    except (TypeError, ValueError) as error:
        raise TensorRTError(f"{tensorrt.title}: the engine's inspector gave no JSON: {error}") from None
    if not isinstance(document, dict) or not document.get("Layers"):
        raise TensorRTError(
            f"{tensorrt.title}: the plan tells nothing of its layers; build it with --profiling-verbosity detailed"
        )
    return document


def engine_layers(document: Mapping[str, Any]) -> List[EngineLayer]:
    """The layers of a document, each either an object or, in a plan without details, its name alone."""
    return [EngineLayer(row) if isinstance(row, str) else _layer(row) for row in document["Layers"]]


def _layer(row: Mapping[str, Any]) -> EngineLayer:
    inputs, outputs = (tuple(_tensor(tensor) for tensor in row.get(key, ())) for key in ("Inputs", "Outputs"))
    tactic = row.get("TacticName") or row.get("TacticValue") or ""
    return EngineLayer(row["Name"], row.get("LayerType", ""), str(tactic), inputs, outputs, row.get("Metadata") or "")


_DTYPES = {
    # what the documents of several versions call them: ours
    "fp32": "fp32", "float": "fp32", "fp16": "fp16", "half": "fp16", "bf16": "bf16", "bfloat16": "bf16",
    "int8": "int8", "uint8": "uint8", "int32": "int32", "int64": "int64", "bool": "bool", "fp8": "fp8",
}  # fmt: skip


def _tensor(row: Mapping[str, Any]) -> EngineTensor:
    """Up to TensorRT 10 one field says both, `Row major linear FP32`; 11 has a field for each."""
    layout = row.get("Format/Datatype") or row.get("Format") or ""
    words = re.findall(r"\w+", f"{row.get('DataType') or ''} {layout}".lower())
    dtype = next((_DTYPES[word] for word in words if word in _DTYPES), "")
    return EngineTensor(row.get("Name", ""), tuple(row.get("Dimensions") or ()), dtype, layout)


_NOISE = re.compile(
    r"^Reformatting CopyNode for (?:(?:Input|Output) Tensor \d+ (?:to|from) |Network (?:Input|Output) )"
    r"|\(Unnamed Layer\* \d+\) \[\w+\]"
    r"|^\[\w+ \d+\]"
    r"|\[profile \d+\]$"
)
"""TensorRT's own words, in which a layer that is called `0` or `Input` must not be found."""

_RANGE = re.compile(r"\{ForeignNode\[(.*?)\.\.\.(.*)\]\}")


def join(layers: Sequence[EngineLayer], names: Sequence[str]) -> Join:
    """Which of our layers (`names`, in the order of the graph) each layer of an engine is made of."""
    search = _Search(names)
    named = {layer.name: search.of_layer(layer) for layer in layers}
    direct = {name for layer in layers if not layer.is_reformat for name in named[layer.name]}
    for layer in layers:
        if not layer.is_reformat:
            inner = [name for name in search.between(layer.name) if name not in direct]
            named[layer.name] = search.ordered([*named[layer.name], *inner])
    present = {name for layer in layers if not layer.is_reformat for name in named[layer.name]}
    return Join(named, tuple(name for name in names if name not in present))


class _Search:
    """Finds our names in TensorRT's; `name/part` is ours too, and so is `name_myl0_3`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._position = {name: position for position, name in enumerate(names)}
        words = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        # a longer name is tried first, so that `a` is not found in `a/b` where that is a layer too
        self._pattern = re.compile(rf"(?<![\w.:/-])(?:{words})(?=$|/|_myl\d|[^\w.:-])") if names else None

    def of_layer(self, layer: EngineLayer) -> Tuple[str, ...]:
        """From the first that speaks of ours: the layer's name, its metadata, its outputs."""
        outputs = " ".join(tensor.name for tensor in layer.outputs)
        return next(filter(None, map(self.of_text, (layer.name, layer.metadata, outputs))), ())

    def of_text(self, text: str) -> Tuple[str, ...]:
        if self._pattern is None:
            return ()
        return self.ordered(self._pattern.findall(_NOISE.sub("", text).replace("...", " ")))

    def between(self, text: str) -> List[str]:
        """All our layers from the first to the last of a range."""
        found = _RANGE.search(text)
        if found is None:
            return []
        ends = self.of_text(found.group(1)), self.of_text(found.group(2))
        positions = [self._position[name] for end in ends for name in end]
        if not all(ends):
            return []
        return [name for name, position in self._position.items() if min(positions) <= position <= max(positions)]

    def ordered(self, names: Sequence[str]) -> Tuple[str, ...]:
        return tuple(sorted(set(names), key=self._position.__getitem__))


def output_types(layer: EngineLayer) -> str:
    """The dtypes of a layer's outputs, each once."""
    return ", ".join(dict.fromkeys(tensor.dtype for tensor in layer.outputs if tensor.dtype))
