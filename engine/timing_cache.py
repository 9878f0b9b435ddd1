"""A timing cache on disk: what a build measured of each tactic, kept for the next one, merged and written whole.

One file per TensorRT version and GPU: TensorRT refuses the measurements of another.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any, MutableMapping, Optional
from weakref import WeakKeyDictionary

from engine.atomic_file import check_writable, write_whole
from engine.tensorrt_api import TensorRT
from spec.errors import UsageError

_log = logging.getLogger(__name__)

_given: MutableMapping[Any, bytes] = WeakKeyDictionary()
"""By builder configuration, the file's content that it was given: what still stands there needs no merging.

TensorRT 8.5.3.1 merges no caches in which its compiler Myelin keeps something ("Myelin error from unknown graph").
"""


def default_path(tensorrt: TensorRT, gpu: str) -> Path:
    """`~/.cache/trt-transplant/timing-8.5.3.1-nvidia-h200.cache`; raises UsageError for a user without a home."""
    name = f"timing-{tensorrt.version}-{gpu}".lower()
    try:
        home = Path.home()
    except (RuntimeError, KeyError):  # KeyError: Python 3.8's
        raise UsageError("--timing-cache: this user has no home directory to keep one in; name a FILE") from None
    return home / ".cache" / "trt-transplant" / (re.sub(r"[^\w.]+", "-", name) + ".cache")


def usable_default(tensorrt: TensorRT, gpu: str) -> Optional[Path]:
    """`default_path`, for a build that was told of none; None, with a warning, where nothing can be kept there."""
    try:
        path = default_path(tensorrt, gpu)
        _content(path)
    except UsageError as error:
        _log.warning("built without a timing cache: %s", error)
        return None
    return path


def attach(tensorrt: TensorRT, config: Any, path: Path) -> None:
    """Gives a builder configuration the cache of a file; one that is damaged, or of another GPU, counts as empty.

    Raises:
        UsageError: the file can be neither read nor written.
    """
    content = _content(path)
    cache = config.create_timing_cache(content)  # None, or empty, where it cannot be read
    if cache is not None and config.set_timing_cache(cache, False):
        _given[config] = content
    else:
        config.set_timing_cache(config.create_timing_cache(b""), False)
    tensorrt.log.take()  # else a later failure would be told with these words


def _content(path: Path) -> bytes:
    """What the file holds, nothing where there is none; UsageError where it could be neither read nor written."""
    try:
        check_writable(path.parent)
        return path.read_bytes() if path.exists() else b""
    except UsageError as error:
        raise UsageError(f"--timing-cache {path}: {error}") from None
    except OSError as error:
        raise UsageError(f"--timing-cache {path}: cannot be read: {error.strerror}") from None


def save(tensorrt: TensorRT, config: Any, path: Path) -> None:
    """Writes what the build knows now, with what another build has written meanwhile; what is foreign is replaced.

    Raises:
        UsageError: the file cannot be written.
    """
    cache = config.get_timing_cache()
    if cache is None:
        return
    written = _content(path)
    foreign = bool(written) and written != _given.get(config)
    before = config.create_timing_cache(written) if foreign else None
    if foreign and (before is None or not cache.combine(before, False)):
        words = f"what it held could not be merged, so it holds what this build knows: {tensorrt.log.take()}"
        _log.warning("--timing-cache %s: replaced, for %s", path, words)
    write_whole(path, bytes(memoryview(cache.serialize())))
