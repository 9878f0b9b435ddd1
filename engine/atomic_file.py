"""Files written whole or not at all: a temporary file beside the target takes its place when all went well."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Sequence

from engine.interruption import held_interrupts
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
    if os.path.isdir(path):  # unlike Path.is_dir, False where it cannot be told
        raise UsageError(f"{path}: cannot be written: it is a folder; name a file in it")
    check_writable(path.parent)
    with for_a_moment(path.parent), _temporary(path):
        pass  # the name may be too long


class Staged(NamedTuple):
    """A temporary file on its way to a path beside it."""

    path: Path
    handle: int
    name: str

    def settle(self) -> None:
        """Has all of it on the disk, for everybody to read."""
        with _refusals_of(self.path):
            os.fsync(self.handle)
            os.chmod(self.name, 0o644)

    def replace(self) -> None:
        """Takes the place of what stands at the path."""
        with _refusals_of(self.path):
            os.replace(self.name, self.path)


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Staged]:
    """A temporary file beside PATH that takes its place when the block ends well, and is gone when it does not.

    The folder of PATH is made where there is none.
    """
    with staged_together([path]) as (target,):
        yield target


@contextlib.contextmanager
def staged_together(paths: Sequence[Path]) -> Iterator[List[Staged]]:
    """Temporary files beside PATHS that all take their places when the block ends well, or none, as `staged`.

    They do so in order, while no signal ends it. Writers take turns, so that no two mix theirs, where the file system
    knows locks. Only a kill or a power cut between two renames leaves the first replaced and the second not.

    Args:
        paths: in one folder.
    """
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(_temporary(path)) for path in paths]
        yield files
        for file in files:
            file.settle()
        with _turn_in(paths[0].parent), held_interrupts(), contextlib.ExitStack() as replaced:
            for file in files[:-1]:
                replaced.enter_context(_replaced(file))
            files[-1].replace()


def write(target: Staged, content: Any) -> None:
    """All of a buffer into a staged file; raises UsageError where the disk is full."""
    view = memoryview(content).cast("B")
    with _refusals_of(target.path):
        while view.nbytes:
            view = view[os.write(target.handle, view[:_BLOCK]) :]


@contextlib.contextmanager
def _refusals_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}; what stood there before still stands") from None


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Staged]:
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        yield Staged(path, handle, name)
    finally:
        os.close(handle)
        if os.path.exists(name):
            os.unlink(name)


@contextlib.contextmanager
def _turn_in(folder: Path) -> Iterator[None]:
    """One writer of a folder at a time; the kernel lets go when the process dies."""
    with contextlib.ExitStack() as stack:
        # NFS locks no folder, one without the right to read cannot be opened, Windows has no fcntl
        with contextlib.suppress(OSError, ImportError):
            import fcntl

            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _replaced(file: Staged) -> Iterator[None]:
    """The file in its place; what stood there is back when the block fails."""
    old, done = Path(f"{file.name}.old"), False
    with _refusals_of(file.path):
        there = _second_name(file.path, old)
    try:
        file.replace()
        yield
        done = True
    finally:
        if not done and there:
            os.replace(old, file.path)
        elif not done:
            _remove(file.path)
        _remove(old)  # there still, also where it was put back: a rename between two names of one file does nothing


def _second_name(path: Path, name: Path) -> bool:
    """Gives what stands at a path another name besides; returns whether anything does."""
    try:
        os.link(path, name, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None
        os.rename(path, name)  # FAT has no second names, Linux refuses them for others' files
    return True


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
