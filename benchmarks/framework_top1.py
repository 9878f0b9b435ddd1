"""What the source frameworks answer on structured images: the outputs that engines on a GPU are then held against.

    python -m benchmarks.framework_top1 --models model1,model4 --count 1000 --output DIR      DIR/model1.top1.npy, ...

Row k of `n o` is the framework's own output on `--input structured:k`; benchmarks/gpu/agreement.py compares.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Dict, Iterator

import numpy as np

from commands.configs import load_graph
from spec.graph import Graph
from verify.reference import open_reference, reference_names
from verify.source_inputs import source_inputs
from verify.structured_images import structured_inputs


def outputs_of(name: str, count: int) -> Iterator[np.ndarray]:
    """The first output, `o`, image by image."""
    model, graph = load_graph(name, [])
    reference = open_reference(model)
    output = reference_names(model, graph, reference)[graph.outputs[0]]
    for image in range(count):
        fed = source_inputs(model, graph, reference, image_of(graph, image))
        yield reference.activations(fed, [output])[output].reshape(-1)


def image_of(graph: Graph, number: int) -> Dict[str, np.ndarray]:
    return structured_inputs(graph, [(number, 0)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="model1,model2,model3,model4")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.models.split(","):
        outputs = np.stack(list(outputs_of(name, options.count))).astype(np.float32)
        np.save(options.output / f"{name}.top1.npy", outputs)
        answers = outputs.argmax(1)
        print(f"{name}: {len(answers)} images, {len(set(answers.tolist()))} different answers", flush=True)


if __name__ == "__main__":
    main()
