"""Top-1 agreement of engines on the GPU with the source frameworks, over structured images.

    python3.10 -m benchmarks.gpu.agreement --plans DIR --top1 DIR --output agreement.jsonl

The plans are those that `benchmarks.gpu.models build` keeps, at batch 128.
The frameworks' outputs were computed where they are (benchmarks/framework_top1.py); the images are made anew by number.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any, Dict

import numpy as np

from benchmarks.gpu.models import Job, attempt
from benchmarks.gpu.subject import PRECISIONS, words_of
from commands.configs import load_graph
from engine.devices import open_device
from engine.runner import Runner
from engine.tensorrt_api import load
from verify.structured_images import structured_inputs

BATCH = 128


def answers_of(plan: bytes, images: Dict[str, np.ndarray]) -> np.ndarray:
    """The engine's first output `n o` for all images; the last batch is filled up with the first ones."""
    count, outputs = len(next(iter(images.values()))), []
    with open_device() as device, Runner(load("tensorrt"), plan, device) as runner:
        for first in range(0, count, BATCH):
            rows = np.arange(first, first + BATCH) % count
            found = runner.run({name: array[rows] for name, array in images.items()})
            outputs.append(next(iter(found.values())).reshape(BATCH, -1))
    return np.concatenate(outputs)[:count]


def agreement_of(job: Job, plans: Path, images: Dict[str, np.ndarray], wanted: np.ndarray) -> Dict[str, Any]:
    """How many images have the same largest output, and by what share of max|r| the reference prefers its own."""
    found, rows = answers_of((plans / f"{job.name}.plan").read_bytes(), images), np.arange(len(wanted))
    ours, theirs = found.argmax(1), wanted.argmax(1)
    lost = ours != theirs
    margins = (wanted[rows, theirs] - wanted[rows, ours])[lost] / np.abs(wanted[lost]).max(1)
    return {"model": job.model, "precision": job.precision, "count": len(wanted), "agreed": int((~lost).sum()),
            "different_answers": len(set(theirs.tolist())), "largest_margin_lost": float(margins.max(initial=0.0)),
            "relative_l2": float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plans", type=Path, required=True)
    parser.add_argument("--top1", type=Path, required=True)
    parser.add_argument("--models", type=words_of, default="model1,model2,model3,model4")
    parser.add_argument("--precisions", type=words_of, default=",".join(PRECISIONS))
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    for name in options.models:
        wanted = np.load(options.top1 / f"{name}.top1.npy")
        images = structured_inputs(load_graph(name, [])[1], [(number, 0) for number in range(len(wanted))])
        for word in options.precisions:
            job = Job(name, "ours", word, BATCH)
            attempt(options.output, {"model": name, "precision": word},
                    lambda j=job, i=images, a=wanted: agreement_of(j, options.plans, i, a))  # fmt: skip


if __name__ == "__main__":
    main()
