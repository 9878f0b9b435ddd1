"""The four source models, each in its own framework: `python -m samples.model1 --output models/model1`.

    write(directory, seed) -> checkpoint files      run(directory, image) -> output of the source framework

Importing this package, or any module of it, imports no framework.
"""

from __future__ import annotations

from typing import Dict, NamedTuple


class Sample(NamedTuple):
    """Where a source model is written down, and the package that has to be installed to run it."""

    module: str
    framework: str
    description: str


SAMPLES: Dict[str, Sample] = {
    "model1": Sample("samples.model1", "tensorflow", "AlexNet-like chain with local response norms"),
    "model2": Sample("samples.model2", "keras", "ResNet50 of keras.applications with two long skips"),
    "model3": Sample("samples.model3", "tensorflow", "ResNet50 with pooled shortcuts, as training left it"),
    "model4": Sample("samples.model4", "torch", "ResNet50 as torchvision names it, for 256x256 images"),
}
