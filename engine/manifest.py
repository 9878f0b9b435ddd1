"""The JSON beside a plan, never inside it: what it was made from, by what, for what; both are written whole or not."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

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


def write_plan(path: Path, plan: Any, manifest: Mapping[str, Any], ledger: Optional[bytes] = None) -> Dict[str, Any]:
    """Writes PATH, PATH.json and, where there is one, ledger.json beside them, each whole or not at all.

    Returns the manifest, to which the plan's size and sha256 and the ledger's sha256 are added.

    Raises:
        UsageError: the directory cannot be written, or the disk is full; what stood there before still stands.
    """
    view = memoryview(plan)
    head = {"plan": {"file": path.name, "bytes": view.nbytes, "sha256": hashlib.sha256(view).hexdigest()}}
    complete = {**head, **manifest}
    contents = {path: view}
    if ledger is not None:
        complete["ledger"] = {"file": LEDGER, "sha256": hashlib.sha256(ledger).hexdigest()}
        contents[path.with_name(LEDGER)] = memoryview(ledger)
    with ExitStack() as stack:
        # what is staged last takes its place first: the plan, and at the end what describes it
        described = stack.enter_context(staged(Path(f"{path}.json")))
        temporary = {target: stack.enter_context(staged(target)) for target in reversed(list(contents))}
        for target, content in contents.items():
            write(temporary[target], content)
        write(described, json_bytes(complete))
    return complete
