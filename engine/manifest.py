"""The JSON beside a plan, never inside it: what it was made from, by what, for what; both are written, or none."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from engine.atomic_file import check_file, json_bytes, staged_together, write
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


def check_place(path: Path) -> None:
    """Proves that `write_plan` can write at PATH, before the long build, and leaves no trace; raises UsageError."""
    for each in (path, _beside(path), path.with_name(LEDGER)):
        if os.path.isdir(each):  # unlike Path.is_dir, False for a name too long
            raise UsageError(f"{each}: is a folder, where a file is to be written; move it away, or write elsewhere")
    check_file(_beside(path))


def write_plan(path: Path, plan: Any, manifest: Mapping[str, Any], ledger: Optional[bytes] = None) -> Dict[str, Any]:
    """Writes PATH, PATH.json and, where there is one, ledger.json beside them: all of them, or none.

    Returns the manifest, to which the plan's size and sha256 and the ledger's sha256 are added. What `staged_together`
    says of kills and of two writers holds here; a plan with another's manifest is refused when it is read.

    Raises:
        UsageError: a file cannot be written, or the disk is full; what stood there before still stands.
    """
    view = memoryview(plan)
    head = {"plan": {"file": path.name, "bytes": view.nbytes, "sha256": hashlib.sha256(view).hexdigest()}}
    complete = {**head, **manifest}
    contents: Dict[Path, Any] = {path: view}
    if ledger is not None:
        complete["ledger"] = {"file": LEDGER, "sha256": hashlib.sha256(ledger).hexdigest()}
        contents[path.with_name(LEDGER)] = ledger
    with staged_together([*contents, _beside(path)]) as (*files, described):
        for file in files:
            write(file, contents[file.path])
        write(described, json_bytes(complete))  # last, as its place is: what describes the others
    return complete


def _beside(path: Path) -> Path:
    """Where the manifest of a plan is."""
    return Path(f"{path}.json")
