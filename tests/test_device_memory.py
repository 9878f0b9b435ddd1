"""deploy.device_memory and the comparison of all layers: how much that takes is announced, and refused where it is not
there. What the machine has is in test_device_build.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from commands import device_stages
from commands.device_stages import Machine, Network, compared_bytes
from deploy.bundle_samples import Recording
from deploy.device_memory import Memory, check_memory, memory_words, tensor_bytes
from engine.tensorrt_api import gpu_count
from run import main
from spec.errors import UsageError
from tests.own_logging import own_logging  # noqa: F401
from tests.small_models import SMALL, load_text

MB = 1 << 20
LAYER_BYTES = 4 * (3 * 3 * 4 * 4 + 4)
"""conv, bn, relu and flat have 3 x 3 x 4 elements, fc has 4."""

JETSON = Memory(8192 * MB, 5222 * MB, shared=True)
PC = Memory(8192 * MB, 5222 * MB, False, 16384 * MB, 15000 * MB)


@pytest.mark.parametrize(
    "memory, needed", [(JETSON, "1.7 GB"), (PC, "1008 MB"), (JETSON._replace(shared=False), "1008 MB")]
)
def test_layers_that_are_compared_count(memory, needed):
    """256 MB + 4 x 98 MB (+ 512 MB), and 180 MB three times where the GPU has the same memory, else twice."""
    words = memory_words(memory, 98 * MB, 512 * MB, 180 * MB)
    assert words.endswith(f"; weights 98 MB; workspace 512 MB; all layers 180 MB; the build needs about {needed}")


@pytest.mark.parametrize(
    "memory, problems",
    [
        (JETSON._replace(free=1701 * MB), []),
        (JETSON._replace(free=1699 * MB), ["memory: 1.7 GB free, the build needs about 1.7 GB, 540 MB of it"]),
        (PC._replace(free=1009 * MB, gpu_free=1145 * MB), []),
        (PC._replace(free=1007 * MB), ["memory: 1007 MB free, the build needs about 1008 MB, 360 MB of it"]),
        (PC._replace(gpu_free=1143 * MB), ["GPU memory: 1.1 GB free, the build needs about 1.1 GB, 180 MB of it"]),
    ],
)
def test_too_little_for_the_layers_is_refused_with_the_way_around_it(memory, problems):
    sizes = (98 * MB, 512 * MB, 180 * MB)
    if not problems:
        check_memory(memory, *sizes)
        return
    with pytest.raises(UsageError) as failure:
        check_memory(memory, *sizes)
    [found], [wanted] = failure.value.problems, problems
    assert found.startswith(f"{wanted} to compare the layers - ")
    assert found.endswith("leave the comparison out with --no-verify, or try it with --force-memory")


def small_network(tmp_path: Any, batch: int = 0) -> Network:
    """SMALL with a recorded input; with a batch a dynamic one, from 1 to 8."""
    model, graph = load_text(tmp_path, SMALL, ["batch={min: 1, opt: 2, max: 8}"] if batch else [])
    image = np.zeros((batch or 1, 2, 7, 9), np.float32)
    return Network(model, graph, {}, Recording("", "", (), {"image": image}, {}))


@pytest.mark.parametrize("batch", [0, 3])
def test_the_bytes_of_all_layers_are_those_of_the_recorded_batch(tmp_path, batch):
    network = small_network(tmp_path, batch)
    assert compared_bytes(Machine(None, "a GPU", None), network) == max(batch, 1) * LAYER_BYTES
    assert compared_bytes(Machine(None, None, None), network) == 0  # on the CPU few are held at once
    assert tensor_bytes(network.graph, 8) == (8 if batch else 1) * LAYER_BYTES


def test_layers_are_compared_in_an_engine_of_the_recorded_batch(tmp_path):
    """Whose buffers are as large as its largest batch."""
    graph = device_stages._at_recorded_batch(small_network(tmp_path, 3))
    assert (graph.batch.min, graph.batch.opt, graph.batch.max) == (3, 3, 3)
    network = small_network(tmp_path)
    assert device_stages._at_recorded_batch(network) is network.graph


@pytest.mark.parametrize("words, compared", [([], True), (["--no-verify"], False)])
def test_a_build_is_refused_for_its_layers_only_where_they_are_compared(
    bundle, tmp_path, monkeypatch, capsys, words, compared
):
    """The machine is a Jetson's, with memory for all but the layers."""
    if gpu_count():
        pytest.skip("a GPU answers, and would be asked")
    gpu = SimpleNamespace(name="Orin", total_bytes=0, free_bytes=0)
    needed = (256 + 64) * MB + 4 * 4 * 217  # and so many parameters
    monkeypatch.setattr(device_stages, "_gpu", lambda tensorrt: gpu)
    monkeypatch.setattr("engine.timing_cache.usable_default", lambda *arguments: None)  # TensorRT-RTX takes none
    monkeypatch.setattr("deploy.device_memory.read_memory", lambda gpu: Memory(8192 * MB, needed, shared=True))
    monkeypatch.setattr("deploy.device_checks.check_disk", stop)
    command = ["--config", str(bundle), "--output", str(tmp_path / "out"), "--workspace", "64", *words]
    assert main(command) == 2
    captured = capsys.readouterr()
    assert ("all layers" in captured.out) is compared
    assert ("to compare the layers" in captured.err) is compared
    assert ("enough memory" in captured.err) is not compared


def stop(*arguments: Any) -> None:
    """Where a build goes on that has enough memory."""
    raise UsageError("enough memory")
