"""verify.tensor_guess: names cut into scope and operation, and the guesses for a shuffled network in PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List

import pytest
from small_reference import Case, config, opened

from verify.reference import reference_names, unresolved
from verify.tensor_guess import parts

PARTS = {
    # PyTorch's modules and functions, their second calls and further outputs
    "conv1": ("", "conv1"),
    "layer1.0.conv1": ("layer1.0", "conv1"),
    "block.relu#2": ("block", "relu"),
    "layer1.0:add#2": ("layer1.0", "add"),
    ":view": ("", "view"),
    "stage2.1:chunk:1": ("stage2.1", "chunk"),
    "lstm:1": ("", "lstm"),
    # ours, TensorFlow's, Keras'
    "features.3/add": ("features.3", "add"),
    "block1/unit_1/add:1": ("block1/unit_1", "add"),
    "fc:linear": ("fc", "linear"),
}


@pytest.mark.parametrize("name, wanted", PARTS.items())
def test_scope_and_operation(name, wanted):
    assert parts(name) == wanted


SHUFFLED = '''
import torch
from torch import nn


class Unit(nn.Module):
    """Half the channels go through a convolution; both halves are then shuffled. Twice there is a sum."""

    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.ReLU())

    def forward(self, x):
        one, two = x.chunk(2, dim=1)
        x = torch.cat((one, self.branch(two)), dim=1)
        x = x.view(1, 2, 2, 9, 7)
        x = torch.transpose(x, 1, 2).contiguous()
        return x.view(1, 4, 9, 7)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.unit1, self.unit2 = nn.Conv2d(3, 4, 1), Unit(), Unit()
        self.branch = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())

    def forward(self, x):
        x = self.unit2(self.unit1(self.first(x)))
        return x + self.branch(x)


def build():
    return Net()
'''


def unit_of_shuffled(name: str, before: str) -> List[str]:
    half = "axes: [1], start: [{}], size: [2]"
    return [
        f"slice: {{name: {name}/chunk0, inputs: [{before}], {half.format(0)}}}",
        f"slice: {{name: {name}/half, inputs: [{before}], {half.format(2)}}}",
        f"convolution: {{name: {name}.branch.0, filters: 2, kernel: 1, stride: 1, padding: 0, bias: false}}",
        f"activation: {{name: {name}.branch.1, function: relu}}",
        f"concatenation: {{name: {name}/joined, inputs: [{name}/chunk0, {name}.branch.1], axis: 1}}",
        f"reshape: {{name: {name}/view, shape: [2, 2, 9, 7], order: NCHW}}",
        f"transpose: {{name: {name}/turned, axes: [0, 2, 1, 3, 4]}}",
        f"reshape: {{name: {name}/view_2, shape: [4, 9, 7], order: NCHW}}",
    ]


SHUFFLED_LAYERS = [
    "convolution: {name: first, filters: 4, kernel: 1, stride: 1, padding: 0, bias: true}",
    *unit_of_shuffled("unit1", "first"),
    *unit_of_shuffled("unit2", "unit1/view_2"),
    "convolution: {name: branch.0, filters: 4, kernel: 1, stride: 1, padding: 0, bias: true}",
    "activation: {name: branch.1, function: relu}",
    "elementwise: {name: shortcut, inputs: [branch.1, unit2/view_2], function: sum}",
]
GUESSED = {
    **{
        f"unit{k}/{ours}": f"unit{k}:{theirs}"
        for k in (1, 2)
        for ours, theirs in {
            "chunk0": "chunk",
            "half": "chunk:1",
            "joined": "cat",
            "view": "view#1",
            "turned": "transpose",
            "view_2": "view#2",
        }.items()
    },
    "shortcut": ":add",
}


@pytest.fixture
def torch() -> None:
    pytest.importorskip("torch")


def case(folder: Path, layers: List[str]) -> Case:
    """SHUFFLED beside its config, with the weights that PyTorch gives it; the module's name is new in every test."""
    import torch

    name, scope = f"shuffled_{abs(hash(str(folder)))}", {}
    (folder / f"{name}.py").write_text(SHUFFLED)
    exec(SHUFFLED, scope)
    torch.save(scope["build"]().state_dict(), folder / "net.pth")
    image = "shape: [1, 3, 9, 7], dtype: float32, layout: NCHW"
    return opened(config(folder / "net.yaml", image, "path: net.pth", f"callable: '{name}:build'", layers))


@pytest.mark.usefixtures("torch")
def test_operations_are_guessed_by_scope_and_by_what_they_do(tmp_path):
    """The guesses, pasted, make every layer's reference the right one."""
    found = case(tmp_path, SHUFFLED_LAYERS)
    problems = unresolved(found.graph, found.reference, reference_names(*found))
    prefix = "if these guesses are right, add to `reference`: tensors: "
    assert problems[-1].startswith(prefix)
    assert json.loads(problems[-1][len(prefix) :]) == GUESSED
    assert unresolved(found.graph, found.reference, {**reference_names(*found), **GUESSED}) == []


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("name", ["unit1/add", "unit3/add", "unit2.branch/sum", "add_of_all"])
def test_no_guess_rather_than_one_of_another_operation_scope_or_shape(name, tmp_path):
    layers = [*SHUFFLED_LAYERS[:-1], f"reduce: {{name: {name}, function: mean, axes: [h, w], keep_dims: true}}"]
    found = case(tmp_path, layers)
    problems = unresolved(found.graph, found.reference, {**reference_names(*found), **GUESSED})
    assert "did you mean" not in problems[0] and f"has no tensor for '{name}' - name it: " in problems[0]
    assert not any("guesses" in problem for problem in problems)
