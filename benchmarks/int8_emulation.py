"""int8 as the CPU emulates it, beside fp32: what the GPU's int8 engines of the same networks are read beside.

    python -m benchmarks.int8_emulation --weights DIR --output FILE

DIR holds model1.safetensors ... model4.pth, as benchmarks/gpu/run_all.sh takes them. Ranges: structured images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Dict, Iterator

from benchmarks.gpu.subject import CALIBRATED, Subject, relative_l2, weights_of
from engine.build_options import PlanOptions
from engine.emulation import interpreter_of
from engine.interpreter import Interpreter
from engine.network import define
from verify.inputs import make_inputs

IMAGES = ("random:0", f"structured:{CALIBRATED}")
"""Louder than the images that the ranges are of, and like them but none of them."""


def errors_of(subject: Subject) -> Iterator[Dict[str, Any]]:
    """Relative L2 of the worst layer and of the output, of one image of each kind."""
    graph = subject.graph_at(1)
    int8 = interpreter_of(subject.definition("int8", graph))
    fp32 = Interpreter(define(graph, subject.arrays, subject.tensorrt).network, subject.tensorrt.module)
    for image in IMAGES:
        inputs = make_inputs(graph, image)[0]
        found, wanted = int8.run(inputs, subject.layers), fp32.run(inputs, subject.layers)
        layers = {name: relative_l2(found[name], wanted[name]) for name in subject.layers}
        worst = max(layers, key=lambda name: layers[name])
        outputs = {name: layers[name] for name in graph.outputs}
        yield {"model": subject.name, "images": image, "worst": [worst, layers[worst]], "outputs": outputs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--backend", default="tensorrt_rtx")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    rows = []
    for name, path in weights_of(options.weights).items():
        for row in errors_of(Subject(name, path, PlanOptions(), options.backend)):
            rows.append(row)
            print(json.dumps(row), flush=True)
    options.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
