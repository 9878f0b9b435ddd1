"""manifest.json of a bundle: what every file must be, sealed by its own sha256, and the check of all of it.

    {"kind": ..., "files": {name: {"bytes", "sha256"}}, ..., "seal": sha256 of all the rest}

A flipped bit anywhere, a missing file, one too many: each is refused by name before anything is built from it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Mapping

from engine.atomic_file import json_bytes
from engine.manifest import sha256_of_file
from spec.errors import CheckpointError, UsageError

KIND = "trt-transplant bundle 1"
MANIFEST, MODEL, WEIGHTS, SAMPLES, RANGES = (
    "manifest.json", "model.yaml", "weights.safetensors", "samples.safetensors", "ranges.json",
)  # fmt: skip
RESULTS = "out"
"""The one thing in a bundle's folder that is none of its files: where a device puts its plan."""


def is_bundle(path: Path) -> bool:
    """Whether a path is a folder with a manifest, whole or not.

    Raises:
        UsageError: it is one that is still zipped, or another zip: PyTorch's and Keras' checkpoints are.
    """
    if os.path.isfile(path) and zipfile.is_zipfile(path):  # Path.is_file raises where a name is too long
        if not _holds_manifest(path):
            named = f"weights: {{path: {path}}}"
            raise UsageError(f"{path}: is a zip without a bundle; wanted a YAML file; it names a checkpoint: {named}")
        command = shlex.join(["python3", "-m", "zipfile", "-e", str(path), "."])
        raise UsageError(f"{path}: is a zip; unpack it with `{command}` and name the bundle's folder")
    return os.path.isfile(path / MANIFEST)


def _holds_manifest(path: Path) -> bool:
    """Whether a zip holds a bundle, in a folder of its own or in none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.rpartition("/")[2] == MANIFEST for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def sealed(facts: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """The bytes of manifest.json.

    Args:
        facts: what the bundle was made from and needs.
        files: content of every other file by name.
    """
    rows = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(files.items())
    }
    return _with_seal({"kind": KIND, **facts, "files": rows})


def verified(folder: Path) -> Dict[str, Any]:
    """The manifest of a bundle of which every byte is as it was made.

    Raises:
        CheckpointError: with every file that is missing, changed or too many.
    """
    manifest = _read(folder / MANIFEST)
    files: Dict[str, Dict[str, Any]] = manifest["files"]
    problems: List[str] = []
    for name, row in files.items():
        problems += _wrong(folder / name, row)
    problems += [
        f"{folder / name}: is no file of this bundle - remove it; results go to {RESULTS}/"
        for name in _names(folder)
        if name not in files and name != MANIFEST
    ]
    if problems:
        raise CheckpointError(problems)
    return manifest


def _read(path: Path) -> Dict[str, Any]:
    """The manifest, refused unless it is byte for byte what `sealed` writes."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror} - copy the bundle again") from None
    try:
        manifest = json.loads(content)
        whole = content == _with_seal({key: value for key, value in manifest.items() if key != "seal"})
    except (ValueError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise CheckpointError(f"{path}: damaged: it is not what its seal says - copy the bundle again")
    if manifest.get("kind") != KIND:
        raise CheckpointError(f"{path}: is '{manifest.get('kind')}', wanted '{KIND}'; use the bundle's own run.py")
    return manifest


def _with_seal(facts: Dict[str, Any]) -> bytes:
    return json_bytes({**facts, "seal": hashlib.sha256(json_bytes(facts)).hexdigest()})


def _wrong(path: Path, row: Mapping[str, Any]) -> List[str]:
    if not path.is_file():
        return [f"{path}: is missing - copy the bundle again"]
    size = path.stat().st_size
    if size != row["bytes"]:
        return [f"{path}: has {size:,} bytes, wanted {row['bytes']:,} - copy the bundle again"]
    found = sha256_of_file(path)
    if found != row["sha256"]:
        return [f"{path}: damaged: its sha256 is {found[:12]}..., wanted {row['sha256'][:12]}... - copy it again"]
    return []


def _names(folder: Path) -> List[str]:
    """Everything in the folder but the results; a folder counts as one name."""
    return sorted(path.name for path in folder.iterdir() if not (path.name == RESULTS and path.is_dir()))
