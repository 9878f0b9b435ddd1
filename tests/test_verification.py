"""verify.verification: what is said beside the rows of a comparison."""

from __future__ import annotations

import numpy as np
import pytest

from engine.network import define
from tests.backends import rtx
from tests.small_models import graph_of
from verify.difference import Tolerance
from verify.report import verdict_lines
from verify.verification import Activations, verify

KERNEL = np.eye(3, dtype=np.float32)
ROW = np.array([[1.0, -2.0, 3.0]], np.float32)


@pytest.mark.parametrize("theirs, said", [("fc:linear", True), ("fc", False), ("head.fc:1", False)])
def test_an_output_that_is_only_the_first_half_of_the_references_layer_is_told(theirs, said):
    """Keras' `Dense(activation="softmax")` of a config without a softmax layer: its plan would end in logits."""
    graph = graph_of([("dense", {"name": "fc", "units": 3, "bias": False})], {"x": (1, 3)}, ["fc"])
    activations = Activations({"fc": ROW}, {"fc": theirs}, {"x": ROW}, "Keras", "three numbers")
    definition = define(graph, {("fc", "kernel"): KERNEL}, rtx())
    comparison = verify(definition, activations, Tolerance(), lambda name: lambda role: iter(())).comparison
    assert comparison.passed
    words = "output 'fc' is compared with the reference's 'fc:linear', from which its own goes on"
    assert any(line.startswith(words) for line in verdict_lines(comparison)) == said
