"""Every row of the layer vocabulary on a GPU: TensorRT's own result beside the interpreter's, on the same definition.

    python3.10 -m benchmarks.gpu.layers --output layers.json

Each row is a network of one layer, defined, built and run by the installed `tensorrt`. The interpreter reads the same
network back and runs it on the CPU. Both see the same random numbers.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np

from engine.build_options import PlanOptions
from engine.devices import open_device
from engine.interpreter import Interpreter
from engine.network import Definition
from engine.plan import Progress, build_plan
from engine.runner import Runner
from engine.tensorrt_api import load
from spec.errors import TransplantFailure
from tests.layer_rows import ROWS, network_of_rows

TOGETHER = 12
"""Rows in one network."""

WITHOUT_CUBLAS = PlanOptions(tactic_sources="-CUBLAS,-CUBLAS_LT,-CUDNN")


def feeds_of(definition: Definition, seed: int) -> Dict[str, np.ndarray]:
    """Random inputs, some below zero; batch 2 where it is dynamic."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for name in definition.graph.inputs:
        shape = tuple(2 if size < 0 else size for size in definition.graph.tensors[name].shape)
        feeds[name] = rng.standard_normal(shape).astype(np.float32)
    return feeds


def compared(definition: Definition, device: Any, seed: int) -> Dict[str, float]:
    """max|gpu - interpreter| / max|interpreter| by output."""
    tensorrt, feeds = definition.tensorrt, feeds_of(definition, seed)
    wanted = Interpreter(definition.network, tensorrt.module).run(feeds)
    with Runner(tensorrt, build_plan(definition, WITHOUT_CUBLAS, Progress()), device) as runner:
        got = runner.run(feeds)
    errors = {}
    for name, reference in wanted.items():
        reference, found = reference.astype(np.float64), got[name].astype(np.float64)
        largest = np.abs(reference).max()
        errors[name] = float(np.abs(found - reference).max() / (largest or 1.0))
    return errors


def together(rows: Sequence[Any], dynamic: bool, tensorrt: Any, device: Any) -> List[Dict[str, Any]]:
    """Rows in one network, which is built in the time of one; one by one where that fails, to see which."""
    lines: List[Dict[str, Any]] = [{"layer": row[0], "keys": row[1], "dynamic": dynamic} for row in rows]
    try:
        errors = compared(network_of_rows(rows, dynamic, tensorrt), device, len(rows))
    except (TransplantFailure, ValueError, TypeError, AttributeError) as error:
        if len(rows) > 1:
            return [line for row in rows for line in together([row], dynamic, tensorrt, device)]
        lines[0]["failed"] = f"{type(error).__name__}: {error}"
        return lines
    for number, line in enumerate(lines):
        line["error"] = max(value for name, value in errors.items() if name.split("/")[0] == f"L{number}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--binding", default="auto")
    parser.add_argument("--part", default="0/1", metavar="K/N", help="every N-th dozen of rows, from the K-th on")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    tensorrt, device = load("tensorrt"), open_device(options.binding)
    report: List[Dict[str, Any]] = []
    part, parts = map(int, options.part.split("/"))
    dozens = [(dynamic, first) for dynamic in (False, True) for first in range(0, len(ROWS), TOGETHER)]
    for dynamic, first in dozens[part::parts]:
        report += together(ROWS[first : first + TOGETHER], dynamic, tensorrt, device)
        print(f"{len(report)} rows", flush=True)
    for line in report:
        if line.get("error", 1.0) > 1e-5:
            print(json.dumps(line), flush=True)
    facts = device.facts()._asdict()
    content = {"tensorrt": tensorrt.version, "device": facts, "binding": device.binding, "rows": report}
    options.output.write_text(json.dumps(content, indent=1) + "\n")
    failed = sum("failed" in line for line in report)
    errors = [line["error"] for line in report if "error" in line]
    print(f"{len(report)} rows, {failed} failed, worst error {max(errors):.2g}")
    device.close()


if __name__ == "__main__":
    main()
