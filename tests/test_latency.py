"""Latency: what is computed from the times, trtexec's block, and how many inferences are under way."""

from __future__ import annotations

import re

import numpy as np
import pytest

from engine.latency import PERCENTILES, Latency, LatencyOptions, measure, summary
from spec.errors import DeviceError
from tests.memory_device import MemoryDevice, MemoryRunner

HUNDRED = np.arange(1, 101, dtype=np.float64)


def latency(**changes):
    """100 inferences at batch 8 in 2 seconds: H2D 0.5, compute 1 to 100, D2H 0.25 ms."""
    fields = {"host_to_device": np.full(100, 0.5), "compute": HUNDRED, "device_to_host": np.full(100, 0.25),
              "enqueue": np.full(100, 0.125), "wall": 2.0, "batch": 8, "graph": True, "transfers": True,
              "in_flight": 2}  # fmt: skip
    return Latency(**{**fields, **changes})


def test_summary_is_numpys():
    figures = summary(HUNDRED)
    assert figures == {"min": 1.0, "max": 100.0, "mean": 50.5, "median": 50.5, "percentile(90%)": 90.1,
                       "percentile(95%)": 95.05, "percentile(99%)": 99.01}  # fmt: skip
    assert [f"percentile({p}%)" for p in PERCENTILES] == list(figures)[4:]


def test_rates_and_total():
    found = latency()
    assert found.queries_per_second == 50 and found.images_per_second == 400
    assert found.total.tolist() == (HUNDRED + 0.75).tolist()


def test_the_block_has_trtexecs_lines():
    lines = latency().lines()
    assert lines[0] == "Throughput: 50.00 qps, 400.0 images/s at batch 8"
    assert lines[1] == (
        "Latency: min = 1.75 ms, max = 100.8 ms, mean = 51.25 ms, median = 51.25 ms, percentile(90%) = 90.85 ms, "
        "percentile(95%) = 95.8 ms, percentile(99%) = 99.76 ms"
    )
    assert [line.split(":")[0] for line in lines[1:]] == [
        "Latency", "Enqueue Time", "H2D Latency", "GPU Compute Time", "D2H Latency", "Total Host Walltime",
        "Total GPU Compute Time",
    ]  # fmt: skip
    assert lines[-2:] == ["Total Host Walltime: 2 s", "Total GPU Compute Time: 5.05 s"]
    figure = r"\w+(\(\d+%\))? = [\d.e-]+ ms"
    assert all(re.fullmatch(rf"[\w ]+: {figure}(, {figure})*", line) for line in lines[1:-2])


@pytest.mark.parametrize(
    "changes, words",
    [
        ({}, "batch 8, CUDA graph, copies in and out from pinned memory, 2 in flight"),
        ({"graph": False, "transfers": False, "in_flight": 1}, "batch 8, no CUDA graph, no copies, 1 in flight"),
    ],
)
def test_what_changes_the_figures_is_said(changes, words):
    assert ", ".join(latency(**changes).conditions()) == words


def test_json_has_the_figures_and_what_they_depend_on():
    document = latency().as_json()
    about = {"batch": 8, "cuda_graph": True, "transfers": True, "in_flight": 2, "count": 100, "seconds": 2.0,
             "qps": 50.0, "images_per_second": 400.0}  # fmt: skip
    assert {key: document[key] for key in about} == about
    assert document["compute"]["median"] == 50.5 and document["latency"]["min"] == 1.75
    assert document["h2d"]["max"] == 0.5 and document["d2h"]["mean"] == 0.25 and document["enqueue"]["min"] == 0.125


INPUTS = {"image": np.zeros((3, 1), np.float32)}


@pytest.mark.parametrize("transfers", [True, False])
@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_each_inference_is_copies_and_work_in_order(transfers, graph, in_flight):
    device = MemoryDevice()
    runner = MemoryRunner(device)
    found = measure(runner, INPUTS, LatencyOptions(0.0, 0.0, 7, graph, transfers, in_flight))
    one = ["in", "run", "out"] if transfers else ["run"]
    assert device.calls == ["in", "run"] + one * (1 + 7)  # the first, one warm-up, seven measured
    assert len(found.compute) == 7 and found.batch == 3 and found.graph is graph
    assert (found.total >= 0).all() and found.wall > 0
    assert device.held == 1  # the runner's own stream


def test_a_binding_without_graphs_measures_without():
    device = MemoryDevice()
    device.has_graphs = False
    assert measure(MemoryRunner(device), INPUTS, LatencyOptions(0.0, 0.0, 2)).graph is False


def test_an_inference_that_cannot_be_captured_is_told_and_leaves_nothing():
    device = MemoryDevice()
    runner = MemoryRunner(device)

    def enqueue():
        if device.capturing:
            raise DeviceError("the inference failed: it waits for the host")

    runner.enqueue = enqueue
    with pytest.raises(DeviceError, match="^CUDA graph: the inference failed: it waits for the host; .*: --no-graph$"):
        measure(runner, INPUTS, LatencyOptions(0.0, 0.0, 2))
    assert not device.capturing and device.held == 1


@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_no_more_inferences_are_under_way_than_asked_for(in_flight):
    """Events are waited for in the order in which they were recorded, and never more than these are open."""
    device = MemoryDevice()
    open_ends, most = [], []

    def record(event, stream):
        event.seconds = 0.0
        open_ends.append(event)
        most.append(len(open_ends) / 4)

    def wait(event):
        assert event is open_ends[3]
        del open_ends[:4]

    device.record, device.wait = record, wait
    measure(MemoryRunner(device), INPUTS, LatencyOptions(0.0, 0.0, 9, in_flight=in_flight))
    assert max(most) == in_flight and open_ends == []


def test_duration_and_iterations_are_both_reached():
    found = measure(MemoryRunner(MemoryDevice()), INPUTS, LatencyOptions(0.0, 0.05, 3))
    assert found.wall >= 0.05 and len(found.compute) > 3
