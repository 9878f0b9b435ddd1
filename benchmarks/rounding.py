"""How far float32 strays from the image on, ours and the source framework's, measured by our own run in float64.

    python -m benchmarks.rounding --output results.json model2 model4 mine.yaml

For each config: the tensors whose accumulated error is beyond 1e-5 of max|r|, and of those the largest ratios of that
error, and of the reference's distance to float64, to ours: what `verify.rounding.ROUNDINGS` bounds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from commands import build, verification
from commands.console import Console
from commands.stages import prepare, read_config
from engine.interpreter import Interpreter

TOLERANCE = 1e-5


def rounding_of(config: str) -> Dict[str, Any]:
    """One config's figures, relative to the reference's largest magnitude."""
    parser = argparse.ArgumentParser()
    build.add_arguments(parser)
    options, console = parser.parse_args(["--config", config]), Console(-1)
    prepared = prepare(options, console, *read_config(options, console))
    activations, _ = verification.activations_and_louder(options, console, prepared)
    network, module = prepared.definition.network, prepared.definition.tensorrt.module
    names = [name for name, array in activations.arrays.items() if array.dtype.kind == "f"]
    kinds = (np.float32, np.float64)
    ours, exact = (Interpreter(network, module, kind).run(activations.inputs, names) for kind in kinds)
    rows: List[Dict[str, Any]] = []
    for name in names:
        reference = activations.arrays[name]
        magnitude = float(np.abs(reference).max())
        pairs = {"error": (ours, activations.arrays), "lost": (ours, exact), "distance": (activations.arrays, exact)}
        found = {word: float(np.abs(a[name] - b[name]).max()) / magnitude for word, (a, b) in pairs.items()}
        rows.append({"tensor": name, **found})
    beyond = [row for row in rows if row["error"] > TOLERANCE]
    return {
        "config": Path(config).stem,
        "reference": activations.title,
        "tensors": len(rows),
        "beyond": len(beyond),
        "worst": max(rows, key=lambda row: float(row["error"])),
        "error_over_lost": max((row["error"] / row["lost"] for row in beyond), default=None),
        "distance_over_lost": max((row["distance"] / row["lost"] for row in beyond), default=None),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    found = [rounding_of(config) for config in options.configs]
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    for row in found:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
