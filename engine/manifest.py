"""The JSON beside a plan, never inside it: what it was made from, by what, for what; both are written whole or not."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

from engine.atomic_file import json_bytes, staged, write
from spec.errors import UsageError
from spec.graph import Graph

_BLOCK = 1 << 20
LEDGER = "ledger.json"


def describe_tensors(graph: Graph, names: Sequence[str]) -> List[Dict[str, Any]]:
    """Name, shape, dtype and layout of inputs or outputs; a dynamic batch is -1."""

    rows = []
    for name in names:
        shape, dtype = graph.tensors[name]
        layout = graph.inputs[name].layout if name in graph.inputs else "NCHW" if len(shape) == 4 else None
        rows.append({"name": name, "shape": list(shape), "dtype": dtype, "layout": layout})
    return rows


def sha256_of_file(path: Path) -> str:
    """Hex digest of a file, read in blocks; raises UsageError where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            for block in iter(lambda: stream.read(_BLOCK), b""):
                digest.update(block)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def sha256_of_files(paths: Sequence[Path]) -> Dict[str, str]:
    """Hex digest by file name."""
    return {path.name: sha256_of_file(path) for path in paths}


def write_plan(path: Path, plan: Any, manifest: Mapping[str, Any], ledger: bytes = b"[]\n") -> Dict[str, Any]:
    """Writes PATH, PATH.json and ledger.json beside them, each whole or not at all.

    Returns the manifest, to which the plan's size and sha256 and the ledger's sha256 are added.

    Raises:
        UsageError: the directory cannot be written, or the disk is full; what stood there before still stands.
    """
    view = memoryview(plan)
    head = {"plan": {"file": path.name, "bytes": view.nbytes, "sha256": hashlib.sha256(view).hexdigest()}}
    complete = dict(head, **manifest, ledger={"file": LEDGER, "sha256": hashlib.sha256(ledger).hexdigest()})
    ledger_path = path.with_name(LEDGER)
    with staged(Path(f"{path}.json")) as manifest_file, staged(ledger_path) as ledger_file, staged(path) as plan_file:
        write(plan_file, view)
        write(ledger_file, ledger)
        write(manifest_file, json_bytes(complete))
    return complete
