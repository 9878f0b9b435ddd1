"""What an input cannot show is said: relu and relu6 where nothing above 6 came."""

from __future__ import annotations

import numpy as np
import pytest

from commands.configs import load_graph
from verify.unseen import unseen_by

CONFIG = """
name: small
architecture: plain
inputs:
  image: {shape: [1, 1, 2, 2], dtype: float32, layout: NCHW}
weights: {path: none}
layers:
  - activation: {name: first, function: relu6}
  - activation: {name: curve, function: tanh}
  - activation: {name: second, function: relu, input: first}
outputs: [curve, second]
"""


@pytest.mark.parametrize(
    "image, first, said",
    [
        (7, 7, None),
        (7, 6, "in 1 of 2 layers this input reaches no value above 6 (second)"),
        (6, 5, "in 2 of 2 layers this input reaches no value above 6 (first, second)"),
    ],
)
def test_layers_that_saw_no_value_above_6(tmp_path, image, first, said):
    (tmp_path / "small.yaml").write_text(CONFIG)
    _, graph = load_graph(str(tmp_path / "small.yaml"), [])
    arrays = {name: np.full((1, 1, 2, 2), value, np.float32) for name, value in (("image", image), ("first", first))}
    notes = unseen_by(graph, arrays)
    assert len(notes) == (said is not None)
    assert said is None or said in notes[0]


def test_a_reference_without_the_tensor_says_nothing(tmp_path):
    (tmp_path / "small.yaml").write_text(CONFIG)
    assert unseen_by(load_graph(str(tmp_path / "small.yaml"), [])[1], {}) == ()
