"""engine.build_options: each option reaches TensorRT's configuration, or is refused in one sentence."""

from __future__ import annotations

import argparse

import pytest

from commands import build_arguments
from engine.build_options import SETTINGS, PlanOptions, apply_options
from engine.network import create_builder
from engine.tensorrt_api import CAPABILITIES, TensorRT, load
from spec.errors import UsageError

TENSORRT = load("tensorrt_rtx")
TRT = TENSORRT.module


def config_with(**options):
    config = create_builder(TENSORRT).create_builder_config()
    apply_options(TENSORRT, config, PlanOptions(**options))
    return config


@pytest.mark.parametrize(
    "options, found, wanted",
    [
        ({"workspace": 1 << 28}, lambda c: c.get_memory_pool_limit(TRT.MemoryPoolType.WORKSPACE), 1 << 28),
        ({"optimization_level": 2}, lambda c: c.builder_optimization_level, 2),
        ({"sparsity": True}, lambda c: c.get_flag(TRT.BuilderFlag.SPARSE_WEIGHTS), True),
        ({"gpu_fallback": True}, lambda c: c.get_flag(TRT.BuilderFlag.GPU_FALLBACK), True),
        ({"refit": True}, lambda c: c.get_flag(TRT.BuilderFlag.REFIT), True),
        ({"strip_weights": True}, lambda c: c.get_flag(TRT.BuilderFlag.STRIP_PLAN), True),
        ({"profiling": "detailed"}, lambda c: c.profiling_verbosity, TRT.ProfilingVerbosity.DETAILED),
        ({"targets": ("sm75", "sm89")}, lambda c: c.num_compute_capabilities, 2),
        ({}, lambda c: c.get_flag(TRT.BuilderFlag.REFIT), False),
    ],
)
def test_an_option_reaches_the_configuration(options, found, wanted):
    assert found(config_with(**options)) == wanted


@pytest.mark.parametrize(
    "options, words",
    [
        ({"optimization_level": 9}, ["--builder-optimization-level 9", "0 to 5"]),
        ({"dla_core": 0}, ["--dla-core 0", "no such DLA"]),
        ({"profiling": "detaild"}, ["--profiling-verbosity detaild", "did you mean 'detailed'?"]),
        ({"tactic_sources": "-CUBLASS"}, ["--tactic-sources -CUBLASS", "wanted +NAME or -NAME"]),
        ({"targets": ("sm12",)}, ["knows no 'sm12'"]),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(options, words):
    with pytest.raises(UsageError) as refused:
        config_with(**options)
    assert all(word in str(refused.value) for word in words) and "\n" not in str(refused.value)


@pytest.mark.parametrize("field", [field for field, row in SETTINGS.items() if row.capability])
def test_what_a_tensorrt_lacks_is_refused_with_the_version_that_has_it(field):
    class Older(TensorRT):
        def has(self, capability: str) -> bool:
            return False

    setting = SETTINGS[field]
    with pytest.raises(UsageError) as refused:
        apply_options(Older(TRT), None, PlanOptions(**{field: ("sm89",) if field == "targets" else True}))
    assert setting.option in str(refused.value) and CAPABILITIES[setting.capability].versions in str(refused.value)


def test_every_option_has_a_setting():
    assert set(SETTINGS) == set(PlanOptions._fields)


def test_trtexecs_names_are_aliases_of_ours():
    parser = argparse.ArgumentParser()
    build_arguments.add_arguments(parser)
    words = "--fp16 --memPoolSize=workspace:512 --timingCacheFile=t.cache --builderOptimizationLevel=3 --useDLACore=1"
    words += " --allowGPUFallback --hardwareCompatibilityLevel=ampere_plus --versionCompatible --stripWeights"
    words += " --profilingVerbosity=detailed --tacticSources=-CUBLAS,+CUDNN --sparsity --refit --target=sm89"
    options = parser.parse_args(words.split())
    plan = build_arguments.plan_options(options, TENSORRT)
    assert options.precision == "fp16" and all(getattr(plan, field) not in (None, False, ()) for field in plan._fields)
    assert plan.workspace == 512 << 20 and plan.tactic_sources == "-CUBLAS,+CUDNN"
