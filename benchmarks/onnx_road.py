"""Our main job beside the road users take today: torch.onnx.export, the ONNX parser of the same TensorRT-RTX, build.

Both start from model4's state_dict on disk and end with a plan on disk. Each run is a process of its own, the two roads
take turns, medians are reported, peak memory is the process's maximum resident set.

    python benchmarks/onnx_road.py --runs 5 --output benchmarks/results/onnx_road.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parent.parent


def onnx_road(checkpoint: Path, directory: Path) -> Dict[str, float]:
    """The stages of the usual road, in seconds."""
    seconds, start = {}, time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal start
        now = time.perf_counter()
        seconds[stage], start = now - start, now

    sys.path.insert(0, str(ROOT))
    import tensorrt_rtx as trt
    import torch

    from samples import model4

    lap("import")
    model = model4.build()
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    lap("load")
    path = directory / "model4.onnx"
    torch.onnx.export(model.eval(), (torch.zeros(1, 3, 256, 256),), str(path), dynamo=False)
    lap("export")
    logger = trt.Logger(trt.Logger.ERROR)
    trt_builder = trt.Builder(logger)
    network = trt_builder.create_network()
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        raise SystemExit(str(parser.get_error(0)))
    lap("parse")
    config = trt_builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    plan = trt_builder.build_serialized_network(network, config)
    lap("build")
    (directory / "model4.plan").write_bytes(memoryview(plan))
    lap("write")
    return seconds


def our_road(checkpoint: Path, directory: Path, verify: bool) -> List[str]:
    """The command line of our road."""
    command = [sys.executable, str(ROOT / "run.py"), "--config", "model4.yaml", "--set", f"weights.path={checkpoint}"]
    command += ["--output", str(directory), "--json", str(directory / "summary.json")]
    return command if verify else [*command, "--no-verify"]


def measure(command: List[str]) -> Dict[str, Any]:
    """Wall seconds and peak resident memory of one process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return {"seconds": time.perf_counter() - start, "peak_mb": usage.ru_maxrss / 1024}


def one_run(road: str, checkpoint: Path) -> Dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if road == "onnx":
            command = [sys.executable, __file__, "--child", str(directory), "--checkpoint", str(checkpoint)]
        else:
            command = our_road(checkpoint, directory, verify=road == "ours, verified")
        found = measure(command)
        found["stages"] = json.loads((directory / "summary.json").read_text())["seconds"]
        return found


def summarise(runs: List[Dict[str, Any]]) -> Dict[str, Any]:
    stages = {name: round(statistics.median(run["stages"][name] for run in runs), 3) for name in runs[0]["stages"]}
    return {
        "seconds": round(statistics.median(run["seconds"] for run in runs), 3),
        "peak_mb": round(statistics.median(run["peak_mb"] for run in runs), 1),
        "stages": stages,
        "runs": [{key: round(run[key], 3) for key in ("seconds", "peak_mb")} for run in runs],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "models/model4/resnet50.pth")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        seconds = onnx_road(options.checkpoint, options.child)
        (options.child / "summary.json").write_text(json.dumps({"seconds": seconds}))
        return
    roads = ["ours", "onnx", "ours, verified"]
    runs: Dict[str, List[Dict[str, Any]]] = {road: [] for road in roads}
    for _ in range(options.runs):
        for road in roads:
            runs[road].append(one_run(road, options.checkpoint.resolve()))
            print(f"{road}: {runs[road][-1]['seconds']:.2f} s, {runs[road][-1]['peak_mb']:.0f} MB", flush=True)
    result = {"machine": f"{os.cpu_count()} cores, {platform.python_version()}"}
    result.update({road: summarise(found) for road, found in runs.items()})
    result["time ratio"] = round(result["ours"]["seconds"] / result["onnx"]["seconds"], 3)
    text = json.dumps(result, indent=2)
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
