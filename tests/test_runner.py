"""The runner and its memory: each tensor at its largest, nothing left behind where a constructor fails half way."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest

from engine.buffers import Buffers, IOTensor
from engine.build_options import PlanOptions
from engine.network import define
from engine.plan import Progress, build_plan
from engine.runner import Runner, new_runtime
from engine.tensorrt_api import gpu_count, load
from spec.errors import DeviceError, TensorRTError
from tests.memory_device import MemoryDevice
from tests.small_models import graph_of, random_arrays

pytest.importorskip("tensorrt_rtx")

IMAGE = IOTensor("image", True, "uint8", (-1, 3, 5, 7), (2, 3, 5, 7), (4, 3, 5, 7))
PROB = IOTensor("prob", False, "float32", (-1, 10), (2, 10), (4, 10))


def test_a_tensor_is_as_large_as_its_largest_batch():
    assert IMAGE.bytes == 4 * 3 * 5 * 7 and PROB.bytes == 4 * 10 * 4
    device = MemoryDevice()
    with ExitStack() as stack:
        buffers = Buffers(device, [IMAGE, PROB], stack)
        assert [device.blocks[buffers.address(name)].nbytes for name in ("image", "prob")] == [420, 160]
        assert device.held == 4
    assert device.held == 0


def test_every_batch_is_a_view_of_the_same_memory():
    device = MemoryDevice()
    with ExitStack() as stack:
        buffers = Buffers(device, [IMAGE, PROB], stack)
        buffers.host("prob", (4, 10))[...] = np.arange(40).reshape(4, 10)
        one = buffers.host("prob", (1, 10))
        assert one.dtype == np.float32 and one.shape == (1, 10) and one.tolist() == [list(range(10))]
        assert buffers.host("image", (3, 3, 5, 7)).dtype == np.uint8
        assert np.shares_memory(one, buffers.host("prob", (2, 10)))


def test_what_a_host_view_holds_goes_to_the_device_and_back():
    device = MemoryDevice()
    with ExitStack() as stack:
        buffers = Buffers(device, [PROB], stack)
        host = buffers.host("prob", (3, 10))
        host[...] = 7.5
        device.copy_in(buffers.address("prob"), host, 0)
        host[...] = 0
        device.copy_out(host, buffers.address("prob"), 0)
        assert (host == 7.5).all()


@pytest.mark.parametrize("sizes", [{"total": 500}, {"pinned_total": 500}, {"total": 100}, {"pinned_total": 100}])
def test_buffers_that_do_not_fit_leave_nothing(sizes):
    """500 bytes take the first tensor and not the second, 100 bytes neither."""
    device = MemoryDevice(**sizes)
    with pytest.raises(DeviceError, match="memory"):
        with ExitStack() as stack:
            Buffers(device, [IMAGE, PROB], stack)
    assert device.held == 0 and device.memory()[0] == device.total and device.pinned_left == (
        sizes.get("pinned_total", 1 << 20)
    )


@pytest.fixture(scope="module")
def plan():
    """A real plan of uint8 images in a dynamic batch."""
    layers = [
        ("cast", {"name": "real", "dtype": "float32", "inputs": ["image"]}),
        ("convolution", {"name": "conv", "filters": 4, "kernel": 3, "stride": 1, "padding": "same", "bias": True}),
        ("activation", {"name": "relu", "function": "relu"}),
    ]
    graph = graph_of(layers, {"image": (1, 3, 5, 7)}, ["relu"], {"min": 1, "opt": 2, "max": 4}, "uint8")
    definition = define(graph, random_arrays(graph), load("tensorrt" if gpu_count() else "tensorrt_rtx"))
    return definition.tensorrt, bytes(memoryview(build_plan(definition, PlanOptions(), Progress())))


@pytest.mark.skipif(gpu_count() > 0, reason="a GPU is here")
def test_a_plan_that_cannot_be_loaded_leaves_nothing(plan):
    """TensorRT-RTX itself refuses, as there is no GPU."""
    device = MemoryDevice()
    with pytest.raises(TensorRTError, match="^TensorRT-RTX .* cannot load this plan: .*; plans serve the TensorRT and"):
        Runner(*plan, device)
    assert device.held == 0


def test_a_version_compatible_plan_may_bring_its_runtime():
    tensorrt = load("tensorrt" if gpu_count() else "tensorrt_rtx")
    runtime = new_runtime(tensorrt)
    assert getattr(runtime, "engine_host_code_allowed", False) is tensorrt.has("version compatibility")


def test_bytes_that_are_no_plan_leave_nothing():
    device = MemoryDevice()
    with pytest.raises(TensorRTError, match="cannot load this plan"):
        Runner(load("tensorrt" if gpu_count() else "tensorrt_rtx"), b"no plan at all" * 100, device)
    assert device.held == 0


@pytest.mark.skipif(gpu_count() == 0, reason="no GPU here")
def test_a_real_plan_runs_in_every_batch_and_gives_its_memory_back(plan):
    from engine.devices import open_device

    images = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 7), np.uint8)
    with open_device() as device:
        with Runner(*plan, device) as runner:
            assert [tensor.most[0] for tensor in runner.tensors] == [4, 4]
            whole = runner.run({"image": images})["relu"]
            for batch in (1, 3, 4, 2):
                part = runner.run({"image": images[:batch]})["relu"]
                assert part.shape == (batch, 4, 5, 7) and np.allclose(part, whole[:batch], rtol=1e-5)
            for wrong in ({}, {"image": images, "other": images}, {"image": images[:, :2]}, {"image": images / 2.0}):
                with pytest.raises(TensorRTError):
                    runner.run(wrong)
        assert device.held == 0
