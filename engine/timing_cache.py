"""A timing cache on disk: what a build measured of each tactic, kept for the next one, merged and written whole.

One file per TensorRT version and GPU: TensorRT refuses the measurements of another.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from engine.atomic_file import check_writable, write_whole
from engine.tensorrt_api import TensorRT
from spec.errors import UsageError


def default_path(tensorrt: TensorRT, gpu: str) -> Path:
    """`~/.cache/trt-transplant/timing-8.5.3.1-nvidia-h200.cache`."""
    name = f"timing-{tensorrt.version}-{gpu}".lower()
    return Path.home() / ".cache" / "trt-transplant" / (re.sub(r"[^\w.]+", "-", name) + ".cache")


def attach(tensorrt: TensorRT, config: Any, path: Path) -> None:
    """Gives a builder configuration the cache of a file; a file of another TensorRT or GPU counts as empty."""
    content = _content(path)
    if not config.set_timing_cache(config.create_timing_cache(content), False):
        tensorrt.log.take()
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _content(path: Path) -> bytes:
    """What the file holds, nothing where there is none; UsageError where it could be neither read nor written."""
    check_writable(path.parent)
    try:
        return path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise UsageError(f"--timing-cache {path}: cannot be read: {error.strerror}") from None


def save(tensorrt: TensorRT, config: Any, path: Path) -> None:
    """Writes what the build knows now, with what another build has written meanwhile.

    Raises:
        UsageError: the file cannot be written.
    """
    cache = config.get_timing_cache()
    if cache is None:
        return
    written = _content(path)
    if written and not cache.combine(config.create_timing_cache(written), False):
        tensorrt.log.take()
    write_whole(path, bytes(memoryview(cache.serialize())))
