"""Which TensorRT a test takes; a machine that has another one skips it."""

from __future__ import annotations

import pytest

from engine.tensorrt_api import TensorRT, gpu_count, load


def rtx() -> TensorRT:
    """TensorRT-RTX, which builds without a GPU."""
    pytest.importorskip("tensorrt_rtx")
    return load("tensorrt_rtx")


def of_this_machine() -> TensorRT:
    """TensorRT itself where a GPU answers, TensorRT-RTX elsewhere."""
    return load("tensorrt") if gpu_count() else rtx()
