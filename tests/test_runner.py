"""The runner and its memory: each tensor at its largest, nothing left behind where a constructor fails half way."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.buffers import Buffers, IOTensor
from engine.build_options import PlanOptions
from engine.execution import run_definition
from engine.network import define
from engine.plan import Progress, build_plan
from engine.runner import Runner, new_runtime
from engine.tensorrt_api import gpu_count
from spec.errors import DeviceError, TensorRTError, UsageError
from tests.backends import of_this_machine
from tests.memory_device import MemoryDevice
from tests.small_models import graph_of, random_arrays

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
    definition = define(graph, random_arrays(graph), of_this_machine())
    return definition.tensorrt, bytes(memoryview(build_plan(definition, PlanOptions(), Progress())))


@pytest.mark.skipif(gpu_count() > 0, reason="a GPU is here")
def test_a_plan_that_cannot_be_loaded_leaves_nothing(plan):
    """TensorRT-RTX itself refuses, as there is no GPU."""
    device = MemoryDevice()
    with pytest.raises(TensorRTError, match="^TensorRT-RTX .* cannot load this plan: .*; plans serve the TensorRT and"):
        Runner(*plan, device)
    assert device.held == 0


def test_a_version_compatible_plan_may_bring_its_runtime():
    tensorrt = of_this_machine()
    runtime = new_runtime(tensorrt)
    assert getattr(runtime, "engine_host_code_allowed", False) is tensorrt.has("version compatibility")


class RuntimeOfOrin:
    """TensorRT's runtime where there are two DLAs, which no machine without one has; it refuses without a word."""

    num_DLA_cores = 2  # noqa: N815, TensorRT's name

    def __init__(self, logger: Any) -> None:
        self._core = -1

    @property
    def DLA_core(self) -> int:  # noqa: N802, TensorRT's name
        return self._core

    @DLA_core.setter
    def DLA_core(self, core: int) -> None:  # noqa: N802
        self._core = core if 0 <= core < self.num_DLA_cores else self._core

    def deserialize_cuda_engine(self, plan: Any) -> Any:
        assert plan == b"plan of core 1" and self.DLA_core == 1
        return EMPTY


def set_shape(name: str, shape: Any) -> bool:
    return True


# an engine without inputs that has one output; its inference fails, and so does a context whose `shape` is unknown
CONTEXT = SimpleNamespace(
    execute_async_v3=lambda stream: False, get_tensor_shape=lambda name: (1, 2), set_tensor_address=set_shape
)
EMPTY = SimpleNamespace(
    num_io_tensors=1,
    get_tensor_name=lambda index: "out",
    get_tensor_mode=lambda name: "OUTPUT",
    get_tensor_dtype=lambda name: of_this_machine().module.float32,
    get_tensor_shape=lambda name: (1, 2),
    create_execution_context=lambda: CONTEXT,
)
ON_ORIN: Any = SimpleNamespace(
    module=SimpleNamespace(Runtime=RuntimeOfOrin, TensorIOMode=SimpleNamespace(INPUT="INPUT")),
    logger=None,
    log=SimpleNamespace(take=lambda: "TensorRT's own words"),
    has=lambda word: False,
)


def test_a_plan_for_a_dla_runs_on_that_one():
    assert new_runtime(ON_ORIN).DLA_core == -1
    assert [new_runtime(ON_ORIN, core).DLA_core for core in (0, 1)] == [0, 1]
    with pytest.raises(UsageError, match="^--dla-core 2: this machine has no such DLA$"):
        new_runtime(ON_ORIN, 2)
    with Runner(ON_ORIN, b"plan of core 1", MemoryDevice(), 1) as runner:
        assert runner.engine is EMPTY


@pytest.mark.skipif(gpu_count() > 0, reason="a plan is loaded there")
def test_a_dla_that_is_not_there_is_refused_before_the_plan_is_loaded(plan):
    device = MemoryDevice()
    with pytest.raises(UsageError, match="^--dla-core 0: this machine has no such DLA$"):
        Runner(*plan, device, dla_core=0)
    assert device.held == 0


@pytest.mark.parametrize("dla_core", [None, 1])
def test_a_definition_runs_on_the_dla_that_it_is_built_for(monkeypatch, dla_core):
    opened = []

    def runner(tensorrt: Any, plan: Any, device: Any, dla_core: Any) -> Any:
        opened.append(dla_core)
        return nullcontext(SimpleNamespace(run=lambda inputs: {"out": plan}))

    monkeypatch.setattr("engine.execution.build_plan", lambda definition, options, progress: b"plan")
    monkeypatch.setattr("engine.execution.open_device", MemoryDevice)
    monkeypatch.setattr("engine.execution.Runner", runner)
    definition: Any = SimpleNamespace(tensorrt=ON_ORIN)
    found = run_definition(definition, {}, PlanOptions(dla_core=dla_core), Progress())
    assert found == {"out": b"plan"} and opened == [dla_core]


class BrokenDevice(MemoryDevice):
    """A device whose context is lost, so that CUDA answers every call with the same error."""

    def stream(self) -> int:
        return self._hold(self._new(), lambda: self.synchronize(0))

    def synchronize(self, stream: int) -> None:
        raise DeviceError("CUDA: cudaErrorIllegalAddress")


def test_the_first_error_is_the_one_that_is_told():
    """Not the echo that CUDA gives while all is given back; that one is told where nothing else went wrong."""
    with pytest.raises(DeviceError, match="^the inference failed: TensorRT's own words$"):
        with BrokenDevice() as device, Runner(ON_ORIN, b"plan of core 1", device, 1) as runner:
            runner.enqueue()
    with pytest.raises(DeviceError, match="^CUDA: cudaErrorIllegalAddress$"):
        with Runner(ON_ORIN, b"plan of core 1", BrokenDevice(), 1):
            pass
    assert device.held == 0 and device.memory()[0] == device.total


def test_a_device_tells_what_went_wrong_on_it_before_it_was_closed():
    with pytest.raises(ValueError, match="^what went wrong$"):
        with BrokenDevice() as device:
            device.stream()
            raise ValueError("what went wrong")
    assert device.held == 0
    with pytest.raises(DeviceError, match="cudaErrorIllegalAddress"):
        with BrokenDevice() as device:
            device.stream()


def test_a_runner_that_fails_half_way_tells_why(monkeypatch):
    monkeypatch.setattr(CONTEXT, "get_tensor_shape", lambda name: (-1, 2))
    device = BrokenDevice()
    with pytest.raises(TensorRTError, match="^output 'out': its shape N x 2 is known only after it ran; not served$"):
        Runner(ON_ORIN, b"plan of core 1", device, 1)
    assert device.held == 0


def test_bytes_that_are_no_plan_leave_nothing():
    device = MemoryDevice()
    with pytest.raises(TensorRTError, match="cannot load this plan"):
        Runner(of_this_machine(), b"no plan at all" * 100, device)
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
