"""Files written whole or not at all: a temporary file beside the target takes its place when all went well."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any, Iterator, List, Tuple

from spec.errors import UsageError

_BLOCK = 64 << 20


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all; raises UsageError where it cannot."""
    with staged(path) as target:
        write(target, content)


def json_bytes(value: Any) -> bytes:
    """A JSON document; raises ValueError for NaN and infinities, which JSON has not: see `json_number`."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def json_number(value: float) -> Any:
    """The number, or the word for it where JSON has no number: "inf", "-inf" or "nan"."""
    return value if math.isfinite(value) else str(value)


def check_writable(directory: Path) -> None:
    """Proves that a file can be written in a directory, before any long work starts, and leaves no trace.

    Raises UsageError.
    """
    try:
        with for_a_moment(directory), tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UsageError(f"{directory}: cannot be written: {error.strerror}; choose another directory") from None


@contextlib.contextmanager
def for_a_moment(directory: Path) -> Iterator[None]:
    """A directory that is there within the block; what was made for that goes again where it stayed empty."""
    missing: List[Path] = []
    try:
        missing.extend(itertools.takewhile(lambda each: not each.exists(), (directory, *directory.parents)))
        directory.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for each in missing:
            with contextlib.suppress(OSError):
                each.rmdir()


def check_file(path: Path) -> None:
    """Proves that a file can be written at PATH, before any long work starts; raises UsageError."""
    if path.is_dir():
        raise UsageError(f"{path}: cannot be written: it is a folder; name a file in it")
    check_writable(path.parent)


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Tuple[Path, int]]:
    """A temporary file beside PATH that takes its place when the block ends well, and is gone when it does not.

    The folder of PATH is made where there is none.
    """
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        yield path, handle
        os.fsync(handle)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}; what stood there before still stands") from None
    finally:
        os.close(handle)
        if os.path.exists(name):
            os.unlink(name)


def write(target: Tuple[Path, int], content: Any) -> None:
    """All of a buffer into a staged file."""
    view = memoryview(content).cast("B")
    while view.nbytes:
        view = view[os.write(target[1], view[:_BLOCK]) :]
