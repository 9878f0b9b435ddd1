"""The profile: what TensorRT reports through its own IProfiler class, averaged, shared out and exported."""

from __future__ import annotations

import numpy as np
import pytest

from engine.profiling import Profile, make_profiler

PROFILE = Profile({"conv1 + relu1": np.array([3.0, 3.0, 6.0]), "fc": np.array([1.0, 1.0, 2.0]),
                   "pool": np.array([0.0, 0.0, 0.0])}, 3)  # fmt: skip


def test_a_share_is_of_the_sum_of_all_layers():
    assert PROFILE.mean("conv1 + relu1") == 4.0 and PROFILE.total == pytest.approx(16 / 3)
    assert PROFILE.share("conv1 + relu1") == pytest.approx(75.0)
    assert sum(PROFILE.share(name) for name in PROFILE.times) == pytest.approx(100.0)
    assert PROFILE.slowest_first() == ["conv1 + relu1", "fc", "pool"]


def test_a_name_that_stands_twice_in_an_engine_counts_twice():
    twice = Profile({"reformat": np.array([1.0, 2.0, 1.0, 2.0])}, 2)
    assert twice.mean("reformat") == 3.0 and twice.total == 3.0


def test_layers_without_time_have_no_share():
    assert Profile({"a": np.zeros(2)}, 2).share("a") == 0.0


def test_the_document_is_trtexecs():
    count, first, *rest = PROFILE.as_json()
    assert count == {"count": 3} and len(rest) == 2
    assert first == {"name": "conv1 + relu1", "timeMs": 12.0, "averageMs": 4.0, "medianMs": 3.0, "percentage": 75.0}


def test_the_profiler_is_one_of_tensorrts():
    """Made from the real class; TensorRT would call it so, once a layer and inference."""
    trt = pytest.importorskip("tensorrt_rtx")
    profiler = make_profiler(trt)
    assert isinstance(profiler, trt.IProfiler)
    for milliseconds in (1.0, 3.0):
        profiler.report_layer_time("conv1", milliseconds)
        profiler.report_layer_time("fc", milliseconds / 2)
    assert profiler.times == {"conv1": [1.0, 3.0], "fc": [0.5, 1.5]}
