"""How often an engine decides as its reference does, over many images: agreement of the largest output, top-1.

structured images --both--> outputs --argmax--> Agreement: count, and the images decided otherwise, with their margins
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, Mapping, NamedTuple

import numpy as np

from spec.errors import VerificationError
from spec.graph import Graph
from verify.structured_images import structured_inputs

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays], Arrays]

LARGEST_BATCH = 16
"""Images run at once where the batch is dynamic: the CPU gains nothing beyond."""


class Agreement(NamedTuple):
    """Of `count` images, all but those in `lost` have the same largest element in `output`.

    Attributes:
        lost: by number of the image, which `--input structured:NUMBER` shows again: by how much the reference prefers
            its own choice to the other, of its largest magnitude. A small one was a toss-up, a large one is a loss.
    """

    output: str
    count: int
    lost: Mapping[int, float]

    @property
    def share(self) -> float:
        return 1 - len(self.lost) / self.count

    def __str__(self) -> str:
        agreed = self.count - len(self.lost)
        said = f"top-1 of {self.output} agrees on {agreed} of {self.count} structured images ({self.share:.2%})"
        if not self.lost:
            return said
        closest, furthest = (choose(self.lost, key=lambda image: self.lost[image]) for choose in (min, max))
        ends = [f"{self.lost[image]:.1e} (image {image})" for image in dict.fromkeys((closest, furthest))]
        return f"{said}; where not, the reference preferred its own by {' to '.join(ends)} of max|r|"

    def as_json(self) -> Dict[str, Any]:
        smallest = min(self.lost.values(), default=None)
        lost = {str(image): margin for image, margin in self.lost.items()}
        return {**self._asdict(), "share": self.share, "smallest_margin": smallest, "lost": lost}


def measure_agreement(candidate: Run, reference: Run, graph: Graph, count: int) -> Agreement:
    """Runs both on structured images 0, 1, ..., at least `count`: whole batches.

    Of the graph's first output, all axes but n are one choice.

    Raises:
        VerificationError: an output has another shape than the reference's, or is not finite.
    """
    output = graph.outputs[0]
    lost: Dict[int, float] = {}
    size = agreement_batch(graph)
    for first in range(0, count, size):
        inputs = structured_inputs(graph, [(first + number, 0) for number in range(size)])
        lost.update((first + row, margin) for row, margin in _lost(output, candidate(inputs), reference(inputs)))
    return Agreement(output, -(-count // size) * size, lost)


def agreement_batch(graph: Graph) -> int:
    """Images of one run: the fixed batch, or as many as a dynamic one and the CPU like."""
    if graph.batch is not None:
        return max(graph.batch.min, min(LARGEST_BATCH, graph.batch.max))
    return int(graph.tensors[next(iter(graph.inputs))].shape[0])


def _lost(output: str, candidate: Arrays, reference: Arrays) -> Iterator[Any]:
    """(row, margin) of each image whose largest element is another."""
    found, wanted = candidate[output], reference[output]
    if found.shape != wanted.shape:
        raise VerificationError(f"agreement: {output} has shape {found.shape}, the reference's has {wanted.shape}")
    ours, theirs = (array.reshape(len(array), -1).astype(np.float64) for array in (found, wanted))
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise VerificationError(f"agreement: {output} holds values that are NaN or infinite")
    for row, (chosen, right) in enumerate(zip(ours.argmax(1), theirs.argmax(1))):
        if chosen != right:
            magnitude = float(np.abs(theirs[row]).max()) or 1.0
            yield row, float(theirs[row, right] - theirs[row, chosen]) / magnitude
