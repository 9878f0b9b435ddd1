"""A timing cache on disk: what a build measured of each tactic, kept for the next one, merged and written whole.

One file per TensorRT version and GPU: TensorRT refuses the measurements of another.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from engine.atomic_file import check_writable, write_whole
from engine.tensorrt_api import TensorRT
from spec.errors import UsageError

_log = logging.getLogger(__name__)


def default_path(tensorrt: TensorRT, gpu: str) -> Path:
    """`~/.cache/trt-transplant/timing-8.5.3.1-nvidia-h200.cache`."""
    name = f"timing-{tensorrt.version}-{gpu}".lower()
    return Path.home() / ".cache" / "trt-transplant" / (re.sub(r"[^\w.]+", "-", name) + ".cache")


def attach(tensorrt: TensorRT, config: Any, path: Path) -> None:
    """Gives a builder configuration the cache of a file; one that is damaged, or of another GPU, counts as empty."""
    cache = config.create_timing_cache(_content(path))  # None, or empty, where it cannot be read
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
    tensorrt.log.take()  # else a later failure would be told with these words


def _content(path: Path) -> bytes:
    """What the file holds, nothing where there is none; UsageError where it could be neither read nor written."""
    check_writable(path.parent)
    try:
        return path.read_bytes() if path.exists() else b""
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
    before = config.create_timing_cache(written) if written else None
    if written and (before is None or not cache.combine(before, False)):
        words = f"what it held could not be merged, so it holds what this build knows: {tensorrt.log.take()}"
        _log.warning("--timing-cache %s: replaced, for %s", path, words)
    write_whole(path, bytes(memoryview(cache.serialize())))
