"""Recorded activations: what `run.py record` writes once beside the framework, so that later comparisons need none.

name.safetensors    layer:NAME  our tensors, in our layouts        input:NAME  what the engine was fed
                    metadata    kind, model, checkpoint (sha256 by file), title, input, names (the framework's own)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterable, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from engine.atomic_file import write_whole
from spec.errors import UsageError, VerificationError, did_you_mean
from spec.layers import Layer
from spec.model import ModelSpec
from spec.shapes import show
from verify.frameworks import import_framework
from verify.reference import Reference
from verify.verification import Activations

KIND = "trt-transplant activations 1"
_LAYER, _INPUT = "layer:", "input:"


class Origin(NamedTuple):
    """What activations were recorded of: the graph's name, and sha256 by file name of the checkpoint."""

    model: str
    checkpoint: Mapping[str, str]


def record(path: Path, activations: Activations, origin: Origin) -> None:
    """Writes a file that `reference: {activations: path}` opens, whole or not at all.

    Raises:
        UsageError: the package safetensors is missing, or the file cannot be written.
        VerificationError: there is nothing to record.
    """
    if not activations.arrays:
        raise VerificationError(f"{path}: no activations to record: {activations.title} has none of our tensors")
    safetensors = import_framework("safetensors.numpy", str(path))
    tensors = {_LAYER + name: np.ascontiguousarray(array) for name, array in activations.arrays.items()}
    tensors.update((_INPUT + name, np.ascontiguousarray(array)) for name, array in activations.inputs.items())
    metadata = {
        "kind": KIND,
        "model": origin.model,
        "checkpoint": json.dumps(dict(origin.checkpoint)),
        "title": activations.title,
        "input": activations.input_title,
        "names": json.dumps(dict(activations.names)),
    }
    write_whole(path, safetensors.save(tensors, metadata))


def open_source(model: ModelSpec) -> Reference:
    """Opens the file of `reference.activations`; see verify.reference.open_reference."""
    place = f"{model.place('reference', 'activations')}: reference.activations"
    path = model.beside(model.reference.activations, "reference", "activations")
    if not path.is_file():
        raise UsageError(f"{place}: no file {path} - write it with `run.py record` where the framework is")
    file = _open(path, place)
    metadata = file.metadata() or {}
    if metadata.get("kind") != KIND:
        raise VerificationError(f"{place}: {path} holds no activations ('{metadata.get('kind')}'), wanted '{KIND}'")
    if metadata["model"] != model.name:
        raise VerificationError(f"{place}: {path} was recorded of model '{metadata['model']}', this is '{model.name}'")
    return Recorded(file, metadata, model, f"{place}: {path}")


class Recorded(Reference):
    """Activations of one input, with that input.

    Attributes:
        input_title: where the input came from, for people.
        checkpoint: sha256 by file name of the checkpoint they were recorded with; see `check_checkpoint`.
    """

    image_layout = "NCHW"
    recorded = True

    def __init__(self, file: Any, metadata: Mapping[str, str], model: ModelSpec, place: str) -> None:
        self._file, self._place = file, place
        self._names: Dict[str, str] = json.loads(metadata["names"])
        self.checkpoint: Dict[str, str] = json.loads(metadata["checkpoint"])
        self.input_title = metadata["input"]
        self.title = f"{metadata['title']}, recorded in {Path(model.reference.activations).name}"
        stored = [key[len(_INPUT) :] for key in file.keys() if key.startswith(_INPUT)]
        self.inputs = {name: file.get_tensor(_INPUT + name) for name in stored}

    def names(self) -> Sequence[str]:
        return list(self._names)

    def original(self, name: str) -> str:
        return self._names[name]

    def by_rule(self, layers: Sequence[Layer]) -> Dict[str, str]:
        return {layer.name: layer.name for layer in layers if layer.name in self._names}

    def takes(self, name: str) -> Tuple[Optional[Tuple[int, ...]], str]:
        return self.inputs[name].shape, self.inputs[name].dtype.name

    def activations(self, inputs: Mapping[str, np.ndarray], names: Iterable[str]) -> Dict[str, np.ndarray]:
        """Raises VerificationError where an input is not the recorded one."""
        problems = [f"{self._place}: {problem}" for name in inputs for problem in self._other_input(name, inputs[name])]
        if problems:
            raise VerificationError(problems)
        return {name: self._file.get_tensor(_LAYER + name) for name in names}

    def check_checkpoint(self, found: Mapping[str, str]) -> None:
        """Compares sha256 by file name with those of the checkpoint that the engine is built from.

        Raises:
            VerificationError: the activations are those of other weights.
        """
        if dict(found) != self.checkpoint:
            files = ", ".join(name for name, digest in found.items() if self.checkpoint.get(name) != digest) or "files"
            raise VerificationError(f"{self._place}: recorded with another checkpoint ({files} differ) - record again")

    def _other_input(self, name: str, array: np.ndarray) -> Iterable[str]:
        cure = f"a recording has one input: compare on that ({self.input_title}), or record again on this"
        recorded = (self.inputs or {}).get(name)
        if recorded is None:
            yield f"no input '{name}' in it{did_you_mean(name, self.inputs or {})} - {cure}"
        elif (recorded.shape, recorded.dtype) != (array.shape, array.dtype):
            was = f"{show(recorded.shape)} {recorded.dtype}"
            yield f"input '{name}' was {was}, this one is {show(array.shape)} {array.dtype} - {cure}"
        elif not np.array_equal(recorded, array):
            count = int((recorded != array).sum())
            yield f"input '{name}' is not the recorded one: {count:,} of {array.size:,} numbers differ - {cure}"


def _open(path: Path, place: str) -> Any:
    safetensors = import_framework("safetensors", place)
    try:
        return safetensors.safe_open(str(path), framework="numpy")
    except (safetensors.SafetensorError, OSError) as error:
        raise VerificationError(f"{place}: {path} is damaged: {error} - copy it again") from error
