"""What the build of a bundle takes of a machine: seconds and peak memory, beside the workstation's build of the same.

    python -m benchmarks.device_build --models model1,model4 --runs 3 --output benchmarks/results/device_build.json

Each row is a process of its own, its peak the kernel's (wait4, ru_maxrss; mapped files count where they were touched):
`device` is the bundle's run.py, `bare` loads the same bundle and lets TensorRT build, and nothing else: what TensorRT
takes. `workstation` is run.py on the config, with the source framework and without.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

ROOT = Path(__file__).resolve().parents[1]
RUN = [sys.executable, str(ROOT / "run.py")]


def measured(command: List[str]) -> Tuple[float, float]:
    """(seconds, peak MB) of a process."""
    start = time.monotonic()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=ROOT, text=True, **quiet)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{' '.join(command)}: {errors}"
    return time.monotonic() - start, usage.ru_maxrss * 1024 / 1e6


def build_bare(folder: Path) -> None:
    """TensorRT alone: the bundle's network defined and built, nothing compared or written."""
    from commands.device_stages import load_plain, stored_arrays
    from engine.build_options import PlanOptions
    from engine.network import define
    from engine.plan import Progress, build_plan
    from engine.tensorrt_api import load
    from weights import safetensors_file

    graph = load_plain(folder / "model.yaml")[1]
    arrays = stored_arrays(graph, safetensors_file.read(folder / "weights.safetensors"))
    build_plan(define(graph, arrays, load("auto")), PlanOptions(), Progress())


def rows_of(model: str, folder: Path, runs: int) -> Dict[str, Any]:
    """Of every row the median time and the highest peak, the processes taking turns."""
    subprocess.run([*RUN, "bundle", "--config", model, "--output", str(folder)], cwd=ROOT, check=True)
    out = ["--output", str(folder.parent / "out")]
    commands = {
        "device": [sys.executable, str(folder / "run.py"), *out],
        "bare": [sys.executable, "-m", "benchmarks.device_build", "--bare", str(folder)],
        "workstation": [*RUN, "--config", model, *out],
        "workstation, not verified": [*RUN, "--config", model, "--no-verify", *out],
    }
    found: Dict[str, List[Tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            found[name].append(measured(command))
    rows = {
        name: {
            "seconds": round(statistics.median(seconds for seconds, _ in each), 2),
            "peak_mb": round(max(peak for _, peak in each), 1),
        }
        for name, each in found.items()
    }
    weights = (folder / "weights.safetensors").stat().st_size / 1e6
    over = (rows["device"]["peak_mb"] - rows["bare"]["peak_mb"] + weights) / weights
    return {"weights_mb": round(weights, 2), "weights_held_beside_tensorrt": round(over, 3), **rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="model1,model4")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "device_build.json")
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        build_bare(options.bare)
        return
    from engine.atomic_file import json_bytes, write_whole

    results = {}
    for model in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            results[model] = rows_of(model, Path(folder) / "bundle", options.runs)
    write_whole(options.output, json_bytes({"runs": options.runs, "models": results}))
    print(options.output.read_text())


if __name__ == "__main__":
    main()
