"""engine.plan and engine.tensorrt_api: targets, profile, workspace, the same bytes each time, TensorRT's words."""

from __future__ import annotations

import hashlib
import logging
import signal
import threading
from typing import Any, List, Optional, Tuple

import numpy as np
import pytest

from engine.build_options import PlanOptions, known_targets
from engine.network import Definition, define
from engine.plan import Progress, build_plan, configuration
from engine.targets import resolve_targets
from engine.tensorrt_api import CAPABILITIES, MessageLog, TensorRT, dtype_name, load, trt_dtype
from spec.errors import TensorRTError, UsageError
from tests.backends import rtx
from tests.full_disk import size_limit
from tests.small_models import graph_of, random_arrays

TENSORRT = rtx()
LAYERS = [
    ("convolution", {"name": "conv", "inputs": ["image"], "filters": 3, "kernel": 3, "padding": "same", "bias": True}),
    ("batch_norm", {"name": "bn", "inputs": ["conv"], "epsilon": 1e-3}),
    ("flatten", {"name": "flat", "inputs": ["bn"], "order": "NHWC"}),
    ("dense", {"name": "fc", "inputs": ["flat"], "units": 5, "bias": True}),
    ("softmax", {"name": "prob", "inputs": ["fc"]}),
]


def definition_of(layers: Any = LAYERS, output: str = "prob", **keys: Any) -> Definition:
    graph = graph_of(layers, {"image": (1, 4, 7, 9)}, [output], **keys)
    return define(graph, random_arrays(graph), TENSORRT)


def digest_of(plan: Any) -> str:
    return hashlib.sha256(memoryview(plan)).hexdigest()


def built(definition: Definition, *targets: str, workspace: Optional[int] = None) -> Any:
    return build_plan(definition, PlanOptions(targets, workspace), Progress())


def test_two_builds_give_the_same_bytes():
    definition = definition_of()
    assert len({digest_of(built(each)) for each in (definition, definition, definition_of())}) == 1


def test_other_weights_give_other_bytes():
    graph = graph_of(LAYERS, {"image": (1, 4, 7, 9)}, ["prob"])
    plans = [built(define(graph, random_arrays(graph, seed), TENSORRT)) for seed in (0, 1)]
    assert digest_of(plans[0]) != digest_of(plans[1])


def test_the_weights_are_in_the_plan():
    definition = definition_of()
    kernel = definition.arrays["conv", "kernel"].transpose(0, 2, 3, 1)  # TensorRT-RTX keeps k r s c
    assert np.ascontiguousarray(kernel).tobytes() in bytes(memoryview(built(definition)))


@pytest.mark.parametrize("target", known_targets(TENSORRT))
def test_each_target_has_a_plan(target):
    assert memoryview(built(definition_of(), target)).nbytes > 1000


def test_all_targets_fit_into_one_plan():
    definition = definition_of()
    together = digest_of(built(definition, *known_targets(TENSORRT)))
    assert together not in {digest_of(built(definition)), digest_of(built(definition, "sm89"))}


def test_a_plan_for_every_pc_is_hardly_larger_than_one_for_one():
    """TensorRT-RTX compiles where the plan runs; what a plan holds more for more GPUs is small beside its weights."""
    layers = [("convolution", {"name": "conv", "inputs": ["image"], "filters": 512, "kernel": 9, "padding": "same",
                               "bias": True})]  # fmt: skip
    definition = definition_of(layers, "conv")
    weights = definition.arrays["conv", "kernel"].nbytes
    one, several = (memoryview(built(definition, *each)).nbytes for each in (["sm89"], resolve_targets(["rtx"])))
    assert weights < one <= several < 1.5 * weights


@pytest.mark.parametrize(
    "target, hint", [("sm88", "did you mean 'sm8"), ("sm890", "did you mean 'sm89'"), ("current", ""), ("none", "")]
)
def test_an_unknown_target_is_refused_with_those_there_are(target, hint):
    with pytest.raises(UsageError) as failure:
        built(definition_of(), "sm89", target)
    message = str(failure.value)
    assert message.startswith(f"--target: {TENSORRT.title} knows no '{target}'")
    assert hint in message and ", ".join(known_targets(TENSORRT)) in message


def test_a_target_named_twice_is_refused():
    with pytest.raises(UsageError, match="--target: sm89 stands twice"):
        built(definition_of(), "sm89", "sm75", "sm89")


def test_a_dynamic_batch_has_a_profile():
    """Without a profile TensorRT refuses to build; with bounds of one size the plan is another one."""
    wide = definition_of(batch={"min": 1, "opt": 2, "max": 8})
    one = definition_of(batch={"min": 2, "opt": 2, "max": 2})
    fixed = digest_of(built(definition_of()))
    assert tuple(wide.network.get_input(0).shape) == (-1, 4, 7, 9)
    assert len({digest_of(built(wide)), digest_of(built(one)), fixed}) == 3


def test_a_dynamic_batch_without_bounds_fails_in_tensorrts_words():
    definition = definition_of(batch={"min": 1, "opt": 2, "max": 8})
    definition = definition._replace(graph=definition.graph._replace(batch=None))
    with pytest.raises(TensorRTError, match="could not build 'net': .*optimization profile"):
        built(definition)


@pytest.mark.parametrize("given, found", [(None, 8), (3, 3)])
def test_kernels_are_timed_as_often_as_trtexec_does_where_nothing_is_said(given, found):
    assert configuration(definition_of(), PlanOptions(average_timing=given)).avg_timing_iterations == found


@pytest.mark.filterwarnings("ignore:.*no-ops in TensorRT-RTX:DeprecationWarning")
def test_a_plan_outlives_a_timing_cache_that_the_disk_has_no_room_for(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(TensorRT, "is_rtx", False)  # TensorRT-RTX is refused one, though its bindings take it
    path = tmp_path / "timing.cache"
    with size_limit(1), caplog.at_level(logging.WARNING):
        plan = build_plan(definition_of(), PlanOptions(timing_cache=path), Progress())
    assert digest_of(plan) == digest_of(built(definition_of())) and not path.exists()
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"the plan is built, but its timing cache is not saved: {path}: cannot be written: File too")


def test_a_workspace_is_taken():
    assert built(definition_of(), workspace=1 << 24) is not None


def test_a_network_that_does_not_build_says_why():
    """A deconvolution with stride and dilation has a shape, but TensorRT-RTX has no kernel for it."""
    keys = {"filters": 2, "kernel": 3, "stride": 2, "dilation": 2, "padding": "valid", "bias": False}
    definition = definition_of([("deconvolution", {"name": "up", "inputs": ["image"], **keys})], "up")
    with pytest.raises(TensorRTError) as failure:
        built(definition)
    assert failure.value.exit_code == 1
    assert str(failure.value).startswith(f"{TENSORRT.title} could not build 'net': ")
    assert "Strided & Dilated Deconv" in str(failure.value)


# Progress


class Recorded(Progress):
    """A progress that keeps what it is told.

    Attributes:
        phases: (phase, parent, steps), as they start; steps: (phase, step); finished: phases, as they end.
    """

    def __init__(self) -> None:
        self.phases: List[Tuple[str, Optional[str], int]] = []
        self.steps: List[Tuple[str, int]] = []
        self.finished: List[str] = []

    def start(self, phase: str, parent: Optional[str], steps: int) -> None:
        self.phases.append((phase, parent, steps))

    def step(self, phase: str, step: int) -> None:
        self.steps.append((phase, step))

    def finish(self, phase: str) -> None:
        self.finished.append(phase)


class Interrupted(Recorded):
    """A person who presses Ctrl-C at the first step, while TensorRT runs."""

    def step(self, phase: str, step: int) -> None:
        super().step(phase, step)
        if len(self.steps) == 1:
            signal.raise_signal(signal.SIGINT)


def test_progress_arrives_and_nests():
    progress = Recorded()
    build_plan(definition_of(), PlanOptions(), progress)
    names = [phase for phase, _, _ in progress.phases]
    assert [parent for _, parent, _ in progress.phases].count(None) == 1
    assert {parent for _, parent, _ in progress.phases} - {None} <= set(names)
    assert sorted(progress.finished) == sorted(names)
    for phase, step in progress.steps:
        assert 0 <= step < max(steps for name, _, steps in progress.phases if name == phase)
    outermost, _, steps = progress.phases[0]
    told = [step for phase, step in progress.steps if phase == outermost]
    assert told == list(range(len(told))) and len(told) >= steps - 1


def test_an_interrupt_inside_a_build_ends_it(capfd):
    before, progress = signal.getsignal(signal.SIGINT), Interrupted()
    with pytest.raises(KeyboardInterrupt):
        build_plan(definition_of(), PlanOptions(), progress)
    assert len(progress.steps) < 5
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr() == ("", "")
    assert built(definition_of()) is not None


def test_a_build_in_another_thread_is_the_same_plan():
    plans: List[Any] = []
    thread = threading.Thread(target=lambda: plans.append(built(definition_of())))
    thread.start()
    thread.join()
    assert digest_of(plans[0]) == digest_of(built(definition_of()))


# What TensorRT says


def test_a_good_build_says_nothing_that_people_must_read(caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        built(definition_of(batch={"min": 1, "opt": 2, "max": 8}), "sm89")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert {record.name for record in caplog.records} == {"tensorrt"} and len(caplog.records) > 20
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "text",
    [
        "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In x at y.cpp:250 (cudaError 35: driver))",
        "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In x at y.cpp:250 (cudaError 100: none))",
        "CUDA initialization failure with error: 35",
    ],
)
def test_noise_of_a_machine_without_a_gpu_is_debug_talk(caplog, text):
    log = MessageLog()
    with caplog.at_level(logging.DEBUG):
        log.add(logging.ERROR, text)
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert log.take() == "it gave no reason"


@pytest.mark.parametrize(
    "text, words",
    [
        ("INetworkDefinition::addScaleNd: Error Code 3: API Usage Error (Parameter check failed, condition: a == b."
         "  In addScaleNd at /_src/optimizer/api/network.cpp:1432)", "Parameter check failed, condition: a == b"),
        ("Error Code: 3: conv:kernel weights has count 90 but 72 was expected",
         "conv:kernel weights has count 90 but 72 was expected"),
        ("4: [network.cpp::validate::3015] Error Code 4: Internal Error (Network must have at least one output)",
         "Network must have at least one output)"),
        ("[graph.cpp::build::12] Error Code 1: Myelin (CHECK(false) failed. Not supported.)",
         "Myelin (CHECK(false) failed. Not supported.)"),
        ("plain words", "plain words"),
    ],
)  # fmt: skip
def test_the_reason_is_cut_out_of_a_message(text, words):
    log = MessageLog()
    log.add(logging.ERROR, text)
    assert log.take() == words
    assert log.take() == "it gave no reason"


def test_warnings_are_no_reasons(caplog):
    log = MessageLog()
    with caplog.at_level(logging.DEBUG):
        log.add(logging.WARNING, "an unused input")
        log.add(logging.ERROR, "first")
        log.add(logging.ERROR, "second")
    assert log.take() == "first; second"
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "INFO"]


def test_a_warning_is_said_once(caplog):
    log = MessageLog()
    with caplog.at_level(logging.DEBUG):
        for text in ("scales in fp32", "an unused input", "scales in fp32"):
            log.add(logging.WARNING, text)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "DEBUG"]


# Which TensorRT


def test_load_finds_one_module_once():
    assert load("tensorrt_rtx") is TENSORRT
    assert TENSORRT.is_rtx and TENSORRT.title == f"TensorRT-RTX {TENSORRT.module.__version__}"


def test_a_tensorrt_that_is_not_installed_says_how_to_get_it():
    pytest.importorskip("tensorrt_rtx")
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match="tensorrt cannot be imported; pip install tensorrt"):
            load("tensorrt")
    else:
        assert load("tensorrt").name == "tensorrt"


def test_every_capability_names_an_attribute_of_some_tensorrt():
    here = {word for word in CAPABILITIES if TENSORRT.has(word)}
    assert here >= {"cast layer", "gelu activation", "progress monitor", "compute capability targets"}
    assert "explicit batch flag" not in here


def test_what_is_lacking_is_said_in_one_sentence():
    with pytest.raises(UsageError) as failure:
        TENSORRT.require("explicit batch flag", "--something")
    assert str(failure.value) == (
        f"--something: {TENSORRT.title} has no explicit batch flag; TensorRT 8.5 to 10.16 has it"
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "int32", "uint8", "bool"])
def test_data_types_go_there_and_back(dtype):
    assert dtype_name(trt_dtype(TENSORRT.module, dtype)) == dtype


def test_a_data_type_without_a_name_of_ours_keeps_its_own():
    assert dtype_name(TENSORRT.module.DataType.BF16) == "BF16"
    assert isinstance(TENSORRT, TensorRT)


def test_a_tensor_of_int64_is_what_numpy_calls_it():
    assert dtype_name(TENSORRT.module.DataType.INT64) == "int64"
