"""engine.targets: every row is whole and consistent, names resolve, and what a device lacks is said."""

from __future__ import annotations

import argparse
import platform
from types import SimpleNamespace
from typing import Any, Tuple

import pytest

import run
from commands import build_arguments
from engine import cuda_driver
from engine.build_options import PlanOptions, known_targets, needed_capabilities
from engine.targets import (
    capability_word,
    find_target,
    is_this_machine,
    no_dla_because,
    resolve_targets,
    targets,
    version_has,
    version_of,
)
from engine.tensorrt_api import CAPABILITIES, load
from spec.errors import UsageError
from tests.backends import rtx
from tests.own_logging import own_logging  # noqa: F401
from tests.small_models import write_small

TENSORRT = rtx()
JETSONS = [target for target in targets().values() if target.is_jetson]
PCS = [target for target in targets().values() if not target.is_jetson]


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    build_arguments.add_arguments(parser)
    return parser.parse_args(words)


def planned(*words: str) -> PlanOptions:
    return build_arguments.plan_options(parsed(*words), TENSORRT)


# Rows


def test_there_are_jetsons_and_pcs():
    assert {"agx-xavier", "xavier-nx", "agx-orin", "orin-nx", "orin-nano", "thor"} <= {row.name for row in JETSONS}
    assert {"turing", "ampere", "ada", "blackwell"} <= {row.name for row in PCS}


@pytest.mark.parametrize("target", targets().values(), ids=lambda target: target.name)
def test_a_row_is_whole(target):
    assert target.title and capability_word(target.name) == target.compute_capability
    assert set(target.precisions) <= {"fp32", "tf32", "fp16", "int8", "fp8"} and "fp32" in target.precisions
    number = int(target.compute_capability[2:])
    assert ("tf32" in target.precisions) == (number >= 80)  # CUDA guide: since Ampere
    assert ("fp8" in target.precisions) == (number >= 89)  # since Ada


@pytest.mark.parametrize("target", JETSONS, ids=lambda target: target.name)
def test_a_jetson_has_releases_memory_and_pools(target):
    versions = [version_of(release.tensorrt) for release in target.releases]
    assert versions == sorted(versions) and all(version_of(release.python) >= (3, 8) for release in target.releases)
    assert all(version_of(release.jetpack) for release in target.releases)
    assert 1 <= target.pools["workspace"] <= min(target.memory) * 1024 / 8
    pools = {key for key in target.pools if key != "workspace"}
    assert pools == ({"dla_sram", "dla_local_dram", "dla_global_dram"} if target.dla_cores else set())
    assert all(target.pools[key] & (target.pools[key] - 1) == 0 for key in pools)
    assert bool(target.dla_cores) == bool(target.dla_generation) == bool(target.dla_precisions)
    if target.dla_cores:
        assert not any(no_dla_because(version) for version in versions)


def test_this_rtx_has_every_pc():
    assert {target.compute_capability for target in PCS} <= set(known_targets(TENSORRT))


def test_no_two_rows_share_a_word():
    words = [word for target in targets().values() for word in (target.name, *target.aliases)]
    assert len(words) == len(set(words))


# Names


@pytest.mark.parametrize(
    "words, wanted",
    [
        (["sm75", "sm89"], ("sm75", "sm89")),
        (["SM_75", "Ada"], ("sm75", "sm89")),
        (["rtx"], ("sm75", "sm86", "sm89", "sm120")),
        (["rtx-30", "rtx-50"], ("sm86", "sm120")),
        (["orin"], ("orin",)),
        (["orin-nx@6.1"], ("orin-nx@6.1",)),
        ([], ()),
    ],
)
def test_words_become_targets(words, wanted):
    assert resolve_targets(words) == wanted


@pytest.mark.parametrize(
    "words, parts",
    [
        (["orim"], ["no target 'orim'", "did you mean 'orin'?"]),
        (["toaster"], ["no target 'toaster'", "known: smNN, rtx, agx-xavier"]),
        (["orin@5"], ["no JetPack '5' for Jetson AGX Orin", "5.1, 6.0"]),
        (["ada@6.1"], ["it has none; say ada"]),
        (["orin", "sm89"], ["orin stands alone", "runs on nothing else"]),
    ],
)
def test_a_wrong_word_is_refused(words, parts):
    with pytest.raises(UsageError) as refused:
        resolve_targets(words)
    assert all(part in str(refused.value) for part in parts) and "\n" not in str(refused.value)


def test_a_wrong_word_on_the_command_line_is_argparses(capsys):
    with pytest.raises(SystemExit) as ended:
        parsed("--target", "orim")
    assert ended.value.code == 2 and "--target: no target 'orim'; did you mean 'orin'?" in capsys.readouterr().err


def test_every_release_can_be_named_by_every_word():
    named = [
        (word, release)
        for target in JETSONS
        for word in (target.name, *target.aliases)
        for release in target.releases
    ]
    assert len(named) > 20 and ("orin", "6.2") in {(word, release.jetpack) for word, release in named}
    assert all(find_target(f"{word}@{release.jetpack}").releases == (release,) for word, release in named)


# What a device lacks


@pytest.mark.parametrize(
    "capability, version, wanted",
    [
        ("optimization level", "8.5.2", False),
        ("optimization level", "8.6.2", True),
        ("fp16 flag", "8.5.2", True),
        ("fp16 flag", "10.16.1.11", True),
        ("fp16 flag", "11.4.1", False),
        ("progress monitor", "8.6.2", False),
        ("progress monitor", "10.3", True),
        ("compute capability targets", "10.3", False),
    ],
)
def test_versions_have_what_their_row_says(capability, version, wanted):
    assert version_has(capability, version_of(version)) is wanted


def test_the_capabilities_of_a_version_are_those_of_its_module():
    """The bounds that judge other TensorRTs, judged by asking the one that is here, where it is no RTX."""
    pytest.importorskip("tensorrt", reason="TensorRT proper is not installed here")
    tensorrt = load("tensorrt")
    version = version_of(tensorrt.version)
    assert {word for word in CAPABILITIES if version_has(word, version)} == set(filter(tensorrt.has, CAPABILITIES))


def test_what_a_jetson_lacks_is_said_for_each_release():
    wanted = needed_capabilities(PlanOptions(optimization_level=3, version_compatible=True, workspace=1))
    assert [capability for capability, _ in wanted] == ["optimization level", "version compatibility"]
    lacking = find_target("orin").lacks(wanted)
    assert len(lacking) == 2 and lacking[0].startswith(
        "Jetson AGX Orin with JetPack 5.1 has TensorRT 8.5.2: no optimization level (TensorRT 8.6 and newer"
    )
    assert find_target("orin@6.1").lacks(wanted) == []
    assert find_target("xavier").lacks_precision(["tf32", "fp16"]) == [
        "Jetson AGX Xavier has no tf32; it has fp32, fp16, int8"
    ]


@pytest.mark.parametrize(
    "version, missing", [("8.5.2", False), ("10.7", False), ("10.8", True), ("11.3.0", True), ("11.4.1", False)]
)
def test_some_tensorrts_have_no_dla(version, missing):
    assert bool(no_dla_because(version_of(version))) is missing


def test_a_plan_for_a_jetson_is_not_built_here():
    assert not is_this_machine(find_target("orin"), TENSORRT)
    with pytest.raises(UsageError) as refused:
        planned("--target", "xavier", "--precision", "tf32", "--builder-optimization-level", "0")
    head, level, precision = refused.value.problems
    assert "plans do not travel" in head and "run.py bundle" in head and TENSORRT.title in head
    assert "JetPack 5.1 has TensorRT 8.5.2: no optimization level" in level and "--builder-optimization-level" in level
    assert "has no tf32" in precision


def test_pcs_become_compute_capabilities():
    assert planned("--target", "turing,ada").targets == ("sm75", "sm89")
    assert build_arguments.compute_capabilities(parsed("--target", "orin@5.1")) == ["sm87"]
    assert build_arguments.compute_capabilities(parsed()) == []


class Driver:
    """libcuda with one GPU, as ctypes calls it: a result code back, the answer where the first argument points."""

    def __init__(self, capability: Tuple[int, int], result: int = 0) -> None:
        self._attributes, self._result = dict(zip((75, 76), capability)), result

    def cuInit(self, flags: int) -> int:
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = 1
        return self._result

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device._obj.value = 7
        return self._result

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        assert device.value == 7
        value._obj.value = self._attributes[attribute]
        return self._result


@pytest.mark.parametrize(
    "machine, driver, wanted",
    [
        ("aarch64", Driver((8, 7)), True),
        ("aarch64", Driver((7, 2)), False),
        ("aarch64", Driver((8, 7), result=100), False),
        ("aarch64", None, False),
        ("x86_64", Driver((8, 7)), False),
    ],
)
def test_the_device_itself_needs_no_binding_to_be_known(monkeypatch, machine, driver, wanted):
    def absent(*arguments: Any) -> Any:
        raise UsageError("neither cuda-python nor pycuda is installed")

    monkeypatch.setattr("engine.devices.open_device", absent)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(cuda_driver, "load_driver", lambda: driver)
    assert is_this_machine(find_target("orin"), SimpleNamespace(is_rtx=False)) is wanted
    assert cuda_driver.gpu_count() == (driver is not None and driver._result == 0)


def test_the_driver_and_the_binding_name_the_same_gpu():
    if not cuda_driver.gpu_count():
        assert cuda_driver.compute_capability() is None
        pytest.skip("no GPU answers")
    from engine.devices import open_device

    with open_device() as device:
        assert cuda_driver.compute_capability() == tuple(device.facts().compute_capability)


def test_the_options_of_a_build_are_worked_out_once(tmp_path, monkeypatch):
    """For `auto` and for a Jetson's name that asks the GPU."""
    worked_out, plan_options = [], build_arguments.plan_options

    def counted(*arguments: Any) -> Any:
        worked_out.append(plan_options(*arguments))
        return worked_out[-1]

    monkeypatch.setattr(build_arguments, "plan_options", counted)
    words = ["--config", str(write_small(tmp_path)), "--output", str(tmp_path / "out"), "--backend", "tensorrt_rtx"]
    assert run.main([*words, "--target", "ada", "--workspace", "64"]) == 0
    assert worked_out == [PlanOptions(("sm89",), 64 << 20)]
