"""engine.build_options: each option reaches TensorRT's configuration, or is refused in one sentence."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from commands import build_arguments
from engine.build_options import SETTINGS, PlanOptions, apply_options, describe_options
from engine.network import create_builder
from engine.tensorrt_api import CAPABILITIES, TensorRT
from spec.errors import UsageError
from tests.backends import rtx

TENSORRT = rtx()
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
        ({"average_timing": 4}, lambda c: c.avg_timing_iterations, 4),
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
        ({"average_timing": 0}, ["--avg-timing 0", "1 or more"]),
        ({"version_compatible": True}, ["--version-compatible", "without the lean runtime", "TensorRT 8.6 and newer"]),
        ({"hardware_compatibility": "none"}, ["TensorRT-RTX", "ignores it, TensorRT 8.6 and newer has it", "--target"]),
        ({"timing_cache": Path("t.cache")}, ["--timing-cache: TensorRT-RTX", "TensorRT 8.5 and newer does"]),
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
        is_rtx = False

        def has(self, capability: str) -> bool:
            return False

    setting = SETTINGS[field]
    with pytest.raises(UsageError) as refused:
        apply_options(Older(TRT), None, PlanOptions(**{field: ("sm89",) if field == "targets" else True}))
    assert setting.option in str(refused.value) and CAPABILITIES[setting.capability].versions in str(refused.value)


class Forgetful:
    """An IBuilderConfig that takes everything and keeps nothing, as TensorRT-RTX takes a hardware compatibility."""

    builder_optimization_level, avg_timing_iterations = 3, 1

    def get_tactic_sources(self):
        return 0

    def __getattr__(self, name):
        return lambda *arguments: False

    def __setattr__(self, name, value):
        pass


NO_RTX = type("NoRtx", (TensorRT,), {"is_rtx": False})


@pytest.mark.parametrize(
    "options",
    [
        {"hardware_compatibility": "ampere_plus"}, {"version_compatible": True}, {"sparsity": True}, {"refit": True},
        {"strip_weights": True}, {"gpu_fallback": True}, {"profiling": "detailed"}, {"average_timing": 4},
        {"optimization_level": 2}, {"workspace": 1 << 20}, {"tactic_sources": "+JIT_CONVOLUTIONS"},
    ],
)  # fmt: skip
def test_a_value_that_is_not_kept_is_refused(options):
    [field] = options
    with pytest.raises(UsageError, match=f"^{SETTINGS[field].option}"):
        apply_options(NO_RTX(TRT), Forgetful(), PlanOptions(**options))


def test_the_real_bindings_drop_a_hardware_compatibility_and_that_is_seen():
    config = create_builder(TENSORRT).create_builder_config()
    with pytest.raises(UsageError, match="^--hardware-compatibility ampere_plus: TensorRT 1.* refused it"):
        apply_options(NO_RTX(TRT), config, PlanOptions(hardware_compatibility="ampere_plus"))


def test_every_option_has_a_setting():
    assert set(SETTINGS) == set(PlanOptions._fields)


def test_trtexecs_names_are_aliases_of_ours():
    parser = argparse.ArgumentParser()
    build_arguments.add_arguments(parser)
    words = "--fp16 --memPoolSize=workspace:512,dlaSRAM:1,dlaLocalDRAM:1G,dlaGlobalDRAM:512 --timingCacheFile=t.cache"
    words += " --builderOptimizationLevel=3 --useDLACore=1 --allowGPUFallback --hardwareCompatibilityLevel=ampere_plus"
    words += " --versionCompatible --stripWeights --profilingVerbosity=detailed --tacticSources=-CUBLAS,+CUDNN"
    words += " --avgTiming=8 --sparsity --refit --target=sm89"
    options = parser.parse_args(words.split())
    plan = build_arguments.plan_options(options, TENSORRT)
    assert options.precision == "fp16" and all(getattr(plan, field) not in (None, False, ()) for field in plan._fields)
    assert plan.workspace == 512 << 20 and plan.tactic_sources == "-CUBLAS,+CUDNN"


@pytest.mark.parametrize(
    "words, precision",
    [("--int8 --fp16", "int8"), ("--fp16 --int8", "int8"), ("--fp16", "fp16"), ("--int8", "int8"), ("", None)],
)
def test_int8_and_fp16_together_are_int8_as_trtexec_has_it(words, precision):
    assert parsed(*words.split()).precision == precision


def parsed(*words):
    parser = argparse.ArgumentParser()
    build_arguments.add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    "text, pools",
    [
        ("workspace:512", {"workspace": 512 << 20}),
        ("dlaSRAM:0.5,workspace:2G", {"dla_sram": 1 << 19, "workspace": 2 << 30}),
        ("dlaLocalDRAM:4K", {"dla_local_dram": 4096}),
        ("dlaGlobalDRAM:4096B", {"dla_global_dram": 4096}),
    ],
)
def test_pools_are_read_as_trtexec_reads_them(text, pools):
    assert parsed("--pools", text).pools == pools
    given = build_arguments.plan_options(parsed(f"--memPoolSize={text}"), TENSORRT)
    assert {field: getattr(given, field) for field in pools} == pools


@pytest.mark.parametrize(
    "text, words",
    [
        ("512", "wanted NAME:MIB, found '512'"),
        ("workspce:512", "did you mean 'workspace'?"),
        ("tacticSharedMem:1", "pools are workspace, dlaSRAM, dlaLocalDRAM, dlaGlobalDRAM"),
        ("workspace:1,workspace:2", "workspace stands twice"),
        ("workspace:lots", "wanted MiB, for example 512, found 'lots'"),
        ("workspace:0", "wanted MiB"),
        ("workspace:-1", "wanted MiB"),
        ("dlaSRAM:3", "a power of two from 4 KiB on, found 3,145,728 bytes"),
        ("dlaSRAM:2K", "a power of two from 4 KiB on, found 2,048 bytes"),
    ],
)
def test_wrong_pools_are_refused(capsys, text, words):
    with pytest.raises(SystemExit):
        parsed("--pools", text)
    assert words in capsys.readouterr().err


def test_a_workspace_said_twice_is_refused():
    with pytest.raises(UsageError, match="--workspace and --pools workspace say the same"):
        build_arguments.plan_options(parsed("--workspace", "1", "--pools", "workspace:2"), TENSORRT)


@pytest.mark.parametrize("core", ["-1", "one", "1.5", ""])
def test_a_dla_is_named_by_a_number_from_0_on(capsys, core):
    with pytest.raises(SystemExit) as ended:
        parsed("--dla-core", core)
    assert ended.value.code == 2 and f"wanted a whole number from 0 on, found '{core}'" in capsys.readouterr().err


def test_a_fallback_from_no_dla_is_refused():
    with pytest.raises(UsageError, match="^--gpu-fallback: every layer is the GPU's already; name a DLA with"):
        build_arguments.plan_options(parsed("--gpu-fallback"), TENSORRT)


def test_no_gpu_is_asked_for_its_name_where_no_cache_is_kept():
    with pytest.raises(UsageError, match="^--timing-cache: TensorRT-RTX .* times no kernels while it builds"):
        build_arguments.plan_options(parsed("--timing-cache", "auto"), TENSORRT)


@pytest.mark.parametrize("field", ["dla_sram", "dla_local_dram", "dla_global_dram"])
def test_pools_of_a_dla_are_refused_in_tensorrts_words_where_there_is_none(field):
    with pytest.raises(UsageError, match="refused 1,048,576 bytes: .*DLA disabled"):
        config_with(**{field: 1 << 20})


def test_an_option_of_zero_is_an_option():
    given = build_arguments.plan_options(parsed("--builder-optimization-level", "0", "--dla-core", "0"), TENSORRT)
    assert (given.optimization_level, given.dla_core) == (0, 0)


def test_what_was_given_is_described_for_a_manifest():
    options = PlanOptions(("sm89",), 1 << 20, Path("a/t.cache"), optimization_level=0, refit=True)
    assert describe_options(options) == {
        "targets": ("sm89",), "workspace": 1 << 20, "timing_cache": "a/t.cache", "optimization_level": 0, "refit": True
    }  # fmt: skip
    assert describe_options(PlanOptions()) == {}
