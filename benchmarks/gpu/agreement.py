"""Top-1 agreement of engines on the GPU with the source frameworks, over structured images.

    python3.10 -m benchmarks.gpu.agreement --weights DIR --top1 DIR --output agreement.jsonl

The frameworks' outputs were computed where they are (benchmarks/framework_top1.py); the images are made anew by number.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any, Dict

import numpy as np

from benchmarks.gpu.models import attempt
from benchmarks.gpu.subject import PRECISIONS, Subject, weights_of, words_of
from engine.devices import open_device
from engine.plan import Progress, build_plan
from engine.runner import Runner
from verify.structured_images import structured_inputs

BATCH = 125


def answers_of(subject: Subject, word: str, images: Dict[str, np.ndarray]) -> np.ndarray:
    """The engine's first output `n o` for all images."""
    plan = build_plan(subject.definition(word, subject.graph_at(BATCH)), subject.options, Progress())
    count, outputs = len(next(iter(images.values()))), []
    with open_device() as device, Runner(subject.tensorrt, plan, device) as runner:
        for first in range(0, count, BATCH):
            found = runner.run({name: array[first : first + BATCH] for name, array in images.items()})
            outputs.append(found[subject.graph.outputs[0]].reshape(BATCH, -1))
    return np.concatenate(outputs)


def agreement_of(subject: Subject, word: str, images: Dict[str, np.ndarray], wanted: np.ndarray) -> Dict[str, Any]:
    """How many images have the same largest output, and by what share of max|r| the reference prefers its own."""
    found, rows = answers_of(subject, word, images), np.arange(len(wanted))
    ours, theirs = found.argmax(1), wanted.argmax(1)
    lost = ours != theirs
    margins = (wanted[rows, theirs] - wanted[rows, ours])[lost] / np.abs(wanted[lost]).max(1)
    return {"model": subject.name, "precision": word, "count": len(wanted), "agreed": int((~lost).sum()),
            "different_answers": len(set(theirs.tolist())), "largest_margin_lost": float(margins.max(initial=0.0)),
            "relative_l2": float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--top1", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("timing.cache"))
    parser.add_argument("--models", type=words_of, default="model1,model2,model3,model4")
    parser.add_argument("--precisions", type=words_of, default=",".join(PRECISIONS))
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    paths = weights_of(options.weights)
    for name in options.models:
        wanted = np.load(options.top1 / f"{name}.top1.npy")
        subject = Subject(name, paths[name], options.cache)
        images = structured_inputs(subject.graph, [(number, 0) for number in range(len(wanted))])
        for word in options.precisions:
            attempt(options.output, {"model": name, "precision": word},
                    lambda s=subject, w=word, i=images, a=wanted: agreement_of(s, w, i, a))  # fmt: skip


if __name__ == "__main__":
    main()
