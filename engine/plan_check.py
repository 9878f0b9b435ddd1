"""A plan is checked before TensorRT sees its bytes: it is what its manifest says, and it was built for what is here.

    plan + manifest ─> read_manifest: size, sha256 ─> check_plan: TensorRT, GPU, precision ─> the manifest

TensorRT's own words for the same mistakes name a serialization tag or a magic number, and not what to do.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from engine.devices import open_device
from engine.devices.device import DeviceFacts
from engine.manifest import sha256_of_file
from engine.runner import new_runtime
from engine.tensorrt_api import TensorRT, gpu_count
from spec.errors import DeviceError, PlanError, UsageError

REQUIRED: Dict[str, Dict[str, type]] = {
    # without these a manifest cannot vouch for its plan; anything else may be missing in an older one
    "plan": {"bytes": int, "sha256": str},
    "tensorrt": {"name": str, "version": str},
}

KINDS: Dict[str, type] = {
    # what these are where a manifest has them
    "bundle": dict,
    "config": dict,
    "gpu": dict,
    "options": dict,
    "verification": dict,
    "inputs": list,
    "outputs": list,
}

TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}

_log = logging.getLogger(__name__)


def check_plan(
    path: Path, tensorrt: TensorRT, facts: Optional[DeviceFacts], precision: Optional[Any] = None
) -> Dict[str, Any]:
    """The manifest of a plan that is whole and can run here.

    Args:
        facts: the GPU that shall run it; None where there is none, then it is not compared.
        precision: what is asked for, as PrecisionSpec.as_written gives it; None: whatever the plan has.

    Raises:
        UsageError: there is no such file.
        PlanError: no manifest, a damaged or changed plan, or one that was built for something else.
    """
    manifest = read_manifest(path)
    problems = _foreign(path, manifest, tensorrt, facts) + _other_precision(path, manifest, precision)
    if facts is not None and not problems:
        problems = _no_such_dla(path, manifest, tensorrt)
    if problems:
        raise PlanError(problems)
    _mention_other_name(path, manifest, facts)
    return manifest


def read_manifest(path: Path) -> Dict[str, Any]:
    """The manifest beside a plan, after size and sha256 of the plan agreed with it; raises as `check_plan` does."""
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name the plan in it")
    if not path.is_file():
        raise UsageError(f"{path}: no such plan; build it with `run.py --config FILE`")
    manifest = _parsed(Path(f"{path}.json"))
    wanted, size = manifest["plan"], path.stat().st_size
    if size != wanted["bytes"]:
        raise PlanError(
            f"{path}: has {size:,} bytes, its manifest says {wanted['bytes']:,}: it was cut off or is another plan; "
            "copy both files again, or build it again"
        )
    digest = sha256_of_file(path)
    if digest != wanted["sha256"]:
        raise PlanError(
            f"{path}: its sha256 begins with {digest[:12]}, its manifest says {wanted['sha256'][:12]}: the plan was "
            "changed, or the two belong to different builds; copy both files again, or build it again"
        )
    return manifest


def gpu_entry(facts: Optional[DeviceFacts]) -> Optional[Dict[str, str]]:
    """What a manifest says of the GPU of its build: `{"name": "NVIDIA H200", "compute_capability": "9.0"}`."""
    if facts is None:
        return None
    major, minor = facts.compute_capability
    return {"name": facts.name, "compute_capability": f"{major}.{minor}"}


def gpu_here() -> Optional[DeviceFacts]:
    """The first GPU; None where there is none, or no binding that can ask it."""
    if not gpu_count():
        return None
    try:
        with open_device() as device:
            return device.facts()
    except (UsageError, DeviceError):
        return None


def built_by(manifest: Dict[str, Any]) -> str:
    """`TensorRT 8.5.3.1 for NVIDIA H200 (sm90)`, or with the targets, where the plan is for several GPUs."""
    tensorrt, gpu = manifest["tensorrt"], gpu_of(manifest)
    title = f"{TITLES.get(tensorrt['name'], tensorrt['name'])} {tensorrt['version']}"
    if gpu:
        return f"{title} for {_described(gpu)}"
    targets = manifest.get("compute_capabilities")
    return f"{title} for {', '.join(map(str, targets))}" if isinstance(targets, list) and targets else title


def gpu_of(manifest: Dict[str, Any]) -> Optional[Dict[str, str]]:
    """The GPU that a plan is bound to: that of its build, but for TensorRT-RTX, which compiles where the plan runs."""
    gpu = _section(manifest, "gpu")
    bound = manifest["tensorrt"]["name"] != "tensorrt_rtx" and {"name", "compute_capability"} <= gpu.keys()
    return gpu if bound else None


def dla_core_of(manifest: Mapping[str, Any]) -> Optional[int]:
    """The DLA that a plan was built for (`--dla-core`); None for a plan of the GPU alone."""
    core = _section(manifest, "options").get("dla_core")
    return core if isinstance(core, int) else None


def is_version_compatible(manifest: Dict[str, Any]) -> bool:
    """Whether newer TensorRTs may run the plan (`--version-compatible`)."""
    return bool(_section(manifest, "options").get("version_compatible"))


def lacks_weights(manifest: Dict[str, Any]) -> bool:
    """Whether a plan was built with --strip-weights and no refit has filled it since."""
    return bool(_section(manifest, "options").get("strip_weights")) and "refitted" not in manifest


def require_weights(path: Path, manifest: Dict[str, Any]) -> None:
    """Raises UsageError for a plan that would compute nothing."""
    if lacks_weights(manifest):
        raise UsageError(f"{path}: was built with --strip-weights; put weights in with `run.py refit` first")


def _parsed(path: Path) -> Dict[str, Any]:
    if not path.is_file():
        raise PlanError(f"{path}: no manifest beside the plan; copy it with the plan, or build the plan again")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"), parse_constant=str)  # Infinity, which JSON has not
    except ValueError as error:
        raise PlanError(f"{path}: is no JSON: {error}; copy it again, or build the plan again") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    lacking = [
        f"{section}.{key}"
        for section, keys in REQUIRED.items()
        for key, kind in keys.items()
        if not isinstance(_section(manifest, section).get(key), kind)
    ]
    if not lacking and manifest["tensorrt"]["name"] not in TITLES:
        lacking = [f"a tensorrt.name of {' or '.join(TITLES)}"]
    if lacking:
        raise PlanError(f"{path}: is not a plan's manifest: lacks {', '.join(lacking)}; build the plan again")
    damaged = _damaged(manifest)
    if damaged:
        raise PlanError(f"{path}: was damaged: {', '.join(damaged)}; copy it again, or build the plan again")
    return manifest


def _damaged(manifest: Dict[str, Any]) -> List[str]:
    """Keys whose values are not what a build writes there."""
    wrong = [key for key, kind in KINDS.items() if not isinstance(manifest.get(key), (kind, type(None)))]
    rows = [(key, row) for key in ("inputs", "outputs") if key not in wrong for row in manifest.get(key) or []]
    return wrong + sorted({key for key, row in rows if not _is_tensor(row)})


def _is_tensor(row: Any) -> bool:
    shape = row.get("shape") if isinstance(row, dict) and {"name", "dtype"} <= row.keys() else None
    return isinstance(shape, list) and all(isinstance(size, int) for size in shape)


def _section(manifest: Any, name: str) -> Dict[str, Any]:
    found = manifest.get(name) if isinstance(manifest, dict) else None
    return found if isinstance(found, dict) else {}


def _foreign(path: Path, manifest: Dict[str, Any], tensorrt: TensorRT, facts: Optional[DeviceFacts]) -> List[str]:
    """One sentence where TensorRT or GPU are not those of the build."""
    if _same_tensorrt(manifest, tensorrt) and _fits_gpu(manifest, facts):
        return []
    here = f"{tensorrt.title} on {_described(gpu_entry(facts))}" if facts else tensorrt.title
    config = _section(manifest, "config").get("file", "FILE")
    return [f"{path}: was built by {built_by(manifest)}; here is {here}: build it here with `run.py --config {config}`"]


def _same_tensorrt(manifest: Dict[str, Any], tensorrt: TensorRT) -> bool:
    """The same version; a version-compatible plan runs on its own and every newer one."""
    built = manifest["tensorrt"]
    if built["name"] != tensorrt.name:
        return False
    if is_version_compatible(manifest):
        return _numbers(tensorrt.version) >= _numbers(built["version"])
    return built["version"] == tensorrt.version


def _numbers(version: str) -> List[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def _fits_gpu(manifest: Dict[str, Any], facts: Optional[DeviceFacts]) -> bool:
    """The compute capability of the build or of its targets; a hardware-compatible plan takes Ampere and newer."""
    here, targets, built = gpu_entry(facts), manifest.get("compute_capabilities"), gpu_of(manifest)
    if facts is None or here is None:
        return True
    if isinstance(targets, list) and targets:
        return _word(here) in targets
    if built is None or built["compute_capability"] == here["compute_capability"]:
        return True
    level = _section(manifest, "options").get("hardware_compatibility")
    return level == "ampere_plus" and tuple(facts.compute_capability) >= (8, 0)


def _other_precision(path: Path, manifest: Dict[str, Any], precision: Optional[Any]) -> List[str]:
    found = manifest.get("precision")
    if precision is None or found == precision:
        return []
    return [f"{path}: computes in {found}, asked for is {precision}: build it so, or ask for what it has"]


def _no_such_dla(path: Path, manifest: Dict[str, Any], tensorrt: TensorRT) -> List[str]:
    """One sentence where the plan is for a DLA core that is not here."""
    core = dla_core_of(manifest)
    if core is None:
        return []
    runtime = new_runtime(tensorrt)
    here = f"this machine has {runtime.num_DLA_cores or 'none'}: build it here with another --dla-core, or without"
    return [f"{path}: was built for DLA core {core}; {here}"] if core >= runtime.num_DLA_cores else []


def _mention_other_name(path: Path, manifest: Dict[str, Any], facts: Optional[DeviceFacts]) -> None:
    """A plan runs on another model of its compute capability, with kernels that were timed elsewhere."""
    built = gpu_of(manifest)
    if facts is not None and built is not None and built["name"] != facts.name:
        _log.warning("%s: was tuned on %s; %s may run it slower than its own build", path, built["name"], facts.name)


def _described(gpu: Optional[Dict[str, str]]) -> str:
    return f"{gpu['name']} ({_word(gpu)})" if gpu else "a machine without a GPU"


def _word(gpu: Dict[str, str]) -> str:
    """`sm90` of compute capability 9.0, as --target and NVIDIA's compilers write it."""
    return f"sm{gpu['compute_capability'].replace('.', '')}"
