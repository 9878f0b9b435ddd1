"""A bundle on disk: one folder with all that a device needs to build a plan and prove it, written whole or not at all.

    model.yaml weights.safetensors samples.safetensors ranges.json      what is built and what it must compute
    run.py code.zip.xz build.sh README.txt                                 how
    manifest.json                                                        every file's sha256, and what it was made from

The same content gives the same bytes: no dates, everything in order.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, Mapping

import numpy as np

from deploy import bundle_launcher
from deploy.bundle_code import code_archive, without_comments, zip_bytes
from deploy.bundle_manifest import MANIFEST, RESULTS, sealed, verified
from deploy.bundle_texts import BUILD_SH, README
from engine.atomic_file import check_writable, for_a_moment, write_whole
from engine.interruption import held_interrupts
from spec.errors import AuditError, CheckpointError, UsageError

MOST = 1.05
"""A bundle is at most so many times its weights as they are stored, unless these are below four megabytes."""

MANIFEST_BYTES = 4_000
"""Left for the manifest when samples are counted; it has 2.6 kB."""

FLOAT16_MAX = float(np.finfo(np.float16).max)


def device_files() -> Dict[str, bytes]:
    """The files that are the same in every bundle: code, launcher, shell script, instructions."""
    launcher = Path(bundle_launcher.__file__).read_text(encoding="utf-8")
    texts = {"run.py": without_comments(launcher), "build.sh": BUILD_SH, "README.txt": README}
    return {"code.zip.xz": code_archive(), **{name: text.encode() for name, text in texts.items()}}


def stored_weights(arrays: Mapping[Any, np.ndarray], half: bool) -> Dict[Any, np.ndarray]:
    """The parameters as the bundle stores them, float32 or float16, contiguous in TensorRT's axis orders.

    Raises:
        AuditError: numbers that float16 cannot hold; names each.
    """
    dtype = np.float16 if half else np.float32
    with np.errstate(over="ignore"):
        stored = {key: np.ascontiguousarray(array, dtype) for key, array in arrays.items()}
    problems = [
        f"layer '{layer}': {role} holds {np.abs(stored_from).max():.3g}, float16 ends at {FLOAT16_MAX:.0f}; "
        "leave --half out"
        for (layer, role), stored_from in arrays.items()
        if not np.isfinite(stored[layer, role]).all()
    ]
    if problems:
        raise AuditError(problems)
    return stored


def safetensors_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """The content of a safetensors file; raises UsageError where the package is missing."""
    try:
        from safetensors.numpy import save
    except ModuleNotFoundError:
        raise UsageError("a bundle is written with the package safetensors: pip install safetensors") from None
    return save(dict(tensors), dict(metadata))


def check_target(folder: Path) -> None:
    """Refuses, before any long work, a place where no bundle can be written.

    Raises:
        UsageError: a file or anything but a whole bundle stands there, or the directory above cannot be written.
    """
    check_writable(folder.resolve().parent)
    with for_a_moment(folder.resolve().parent):
        _staging(folder.resolve()).rmdir()  # the name may be too long
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; name a folder for the bundle")
    if folder.resolve() == Path.cwd():
        raise UsageError(f"{folder}: is the folder this runs in, which a bundle would replace; name one below it")
    if folder.is_dir() and any(folder.iterdir()) and not _is_whole(folder):
        raise UsageError(f"{folder}: holds something else than a whole bundle; name an empty or a new folder")
    if any((folder / RESULTS).glob("*")):
        raise UsageError(f"{folder / RESULTS}: was built from the bundle there; move it away, or write elsewhere")


def write_bundle(folder: Path, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> int:
    """Writes all files and their manifest; a bundle that stands there is replaced. Returns the bytes written.

    Raises:
        UsageError: it cannot be written; what stood there before still stands.
    """
    folder = folder.resolve()
    complete = {**files, MANIFEST: sealed(facts, files)}
    staging = _staging(folder)
    try:
        for name, content in complete.items():
            (staging / name).write_bytes(content)
            (staging / name).chmod(0o644)  # whatever the umask
        staging.chmod(0o755)
        _take_place(staging, folder)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return sum(map(len, complete.values()))


def write_zip(path: Path, folder: Path) -> None:
    """The bundle as one file, in a folder of its own; raises UsageError where it cannot be written."""
    files = {f"{folder.name}/{each.name}": each.read_bytes() for each in folder.iterdir() if each.is_file()}
    write_whole(path, zip_bytes(files))


def _is_whole(folder: Path) -> bool:
    """Whether a folder may be replaced: many programs call a file manifest.json, and somebody may have added one."""
    try:
        return bool(verified(folder))
    except CheckpointError:
        return False


def _staging(folder: Path) -> Path:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror}") from None


def _take_place(staging: Path, folder: Path) -> None:
    """Two renames where a bundle is replaced: a folder can only be renamed onto an empty one."""
    if not folder.exists() or not any(folder.iterdir()):
        os.replace(staging, folder)
        return
    old = staging.with_name(f"{staging.name}.old")
    with held_interrupts():
        os.rename(folder, old)
        try:
            os.rename(staging, folder)
        finally:
            if not folder.exists():
                os.rename(old, folder)
        shutil.rmtree(old)
