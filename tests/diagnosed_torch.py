"""A small PyTorch module with something in it for every mistake, and the config that describes it rightly.

image float32 n 3 23 21 ─ conv1 ─ bn1 ─ relu ─ maxpool ─ bottleneck (stride in its 3x3) ─ up ─ prelu ─ flatten ─ fc
                                                                                        leaves: every other op
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CONFIG = """\
name: broken
architecture: plain
inputs:
  image: {shape: [2, 3, 23, 21], dtype: float32, layout: NCHW}
weights: {path: net.pth, ignore: ["*.num_batches_tracked"]}
reference: {callable: "tests.diagnosed_torch:build"}
layers:
  - convolution: {name: conv1, filters: 3, kernel: 3, stride: 2, padding: 1, bias: false}
  - batch_norm: {name: bn1, epsilon: 1.0e-5}
  - activation: {name: relu, function: relu}
  - convolution: {name: second, filters: 4, kernel: 3, padding: 1, bias: true, input: relu}
  - pooling: {name: maxpool, function: max, window: 3, stride: 2, ceil: true, input: relu}
  - convolution: {name: block.conv1, filters: 6, kernel: 1, padding: 0, bias: true}
  - convolution: {name: block.conv2, filters: 6, kernel: 3, stride: 2, padding: 1, bias: true}
  - deconvolution: {name: up, filters: 6, kernel: 3, stride: 2, padding: 1, output_padding: 1, bias: true}
  - prelu: {name: prelu}
  - depthwise_convolution: {name: depthwise, kernel: 3, multiplier: 2, padding: 1, bias: true}
  - flatten: {name: flat, order: NCHW, reference: [":flatten"]}
  - dense: {name: fc1, units: 10, bias: true}
  - dense: {name: fc2, units: 10, bias: true}
  - softmax: {name: prob, axis: 1, reference: [":softmax"]}
  - pooling: {name: avgpool, function: average, window: 3, padding: 1, stride: 1, count_padding: true, input: prelu}
  - lrn: {name: lrn, window: 3, alpha: 0.5, beta: 0.75, k: 1.0, alpha_of: mean, input: prelu}
  - resize: {name: bilinear, mode: bilinear, scale: 2, coordinates: half_pixel, input: prelu}
  - resize: {name: nearest, mode: nearest, size: [7, 5], coordinates: asymmetric, rounding: floor, input: prelu}
  - activation: {name: hard_sigmoid, function: hard_sigmoid, alpha: 1/6, beta: 0.5, input: prelu,
                 reference: [":hardsigmoid"]}
  - activation: {name: leaky, function: leaky_relu, alpha: 0.01, input: prelu, reference: [":leaky_relu"]}
  - activation: {name: elu, function: elu, alpha: 0.7, input: prelu, reference: [":elu"]}
  - activation: {name: gelu, function: gelu, approximate: true, input: prelu, reference: [":gelu"]}
  - activation: {name: clip, function: clip, minimum: -0.5, maximum: 0.8, input: prelu, reference: [":hardtanh"]}
  - padding: {name: edge, pad: [[2, 1], [1, 0]], mode: edge, input: prelu}
  - padding: {name: filled, pad: [[0, 2], [1, 1]], mode: constant, value: 0.75, input: prelu}
  - gather: {name: bgr, axis: c, indices: [2, 1, 0], input: relu, reference: [":index_select"]}
  - slice: {name: cropped, axes: [h, w], start: [2, 1], size: [4, 4], input: prelu, reference: [":getitem"]}
  - transpose: {name: turned, axes: [0, 1, 3, 2], input: relu, reference: [":permute"]}
  - concatenation: {name: joined, inputs: [prelu, lrn], reference: [":cat"]}
  - elementwise: {name: ratio, function: sub, inputs: [prelu, avgpool], reference: [":sub"]}
  - reduce: {name: mean, function: mean, axes: [h, w], input: prelu, reference: [":mean"]}
  - argmax: {name: best, axis: c, input: prelu, reference: [":argmax"]}
  - top_k: {name: top, k: 2, axis: h, input: prelu, reference: [":topk"]}
  - softmax: {name: spread, axis: w, input: prelu}
  - convolution: {name: strided, filters: 2, kernel: 3, stride: 2, padding: 1, bias: true, input: prelu}
  - pooling: {name: rounded, function: max, window: 3, stride: 2, ceil: true, input: relu}
  - pooling: {name: even, function: max, window: 3, stride: 2, padding: 0, ceil: true, input: prelu}
  - convolution: {name: wide, filters: 2, kernel: 3, stride: 2, padding: 2, bias: true, input: prelu}
outputs: [prob, avgpool, bilinear, nearest, hard_sigmoid, leaky, elu, gelu, clip, edge, filled, bgr, cropped, turned,
          joined, ratio, mean, best, top, spread, strided, rounded, even, wide, second]
"""


def build() -> Any:
    """The module, with whatever weights PyTorch gives it."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1, self.relu = nn.Conv2d(3, 3, 3, 2, 1, bias=False), nn.BatchNorm2d(3), nn.ReLU()
            self.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
            self.block = nn.ModuleDict({"conv1": nn.Conv2d(3, 6, 1), "conv2": nn.Conv2d(6, 6, 3, 2, 1)})
            self.up = nn.ConvTranspose2d(6, 6, 3, 2, 1, output_padding=1)
            self.prelu = nn.PReLU(6)
            self.depthwise = nn.Conv2d(6, 12, 3, 1, 1, groups=6)
            self.fc1, self.fc2 = nn.Linear(12 * 6 * 6, 10), nn.Linear(10, 10)
            self.avgpool, self.lrn = nn.AvgPool2d(3, 1, 1), nn.LocalResponseNorm(3, 0.5, 0.75, 1.0)
            self.bilinear, self.nearest = nn.Upsample(scale_factor=2, mode="bilinear"), nn.Upsample((7, 5))
            self.edge, self.filled = nn.ReplicationPad2d((1, 0, 2, 1)), nn.ConstantPad2d((1, 1, 0, 2), 0.75)
            self.spread, self.strided = nn.Softmax(3), nn.Conv2d(6, 2, 3, 2, 1)
            self.rounded = nn.MaxPool2d(3, 2, ceil_mode=True)
            self.second = nn.Conv2d(3, 4, 3, 1, 1)
            self.even, self.wide = nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(6, 2, 3, 2, 2)

        def forward(self, image: Any) -> Any:
            early = self.relu(self.bn1(self.conv1(image)))
            x = self.block["conv2"](self.block["conv1"](self.maxpool(early)))
            x = self.prelu(self.up(x))
            self.leaves(early, x)
            x = self.fc2(self.fc1(torch.flatten(self.depthwise(x), 1)))
            return torch.softmax(x, 1)

        def leaves(self, early: Any, x: Any) -> None:
            f = nn.functional
            for module in (self.bilinear, self.nearest, self.edge, self.filled, self.spread, self.strided):
                module(x)
            self.even(x), self.wide(x)
            f.hardsigmoid(x), f.leaky_relu(x, 0.01), f.elu(x, 0.7), f.gelu(x, approximate="tanh")
            f.hardtanh(x, -0.5, 0.8), torch.index_select(early, 1, torch.tensor([2, 1, 0]))
            x[:, :, 2:6, 1:5], early.permute(0, 1, 3, 2), torch.cat([x, self.lrn(x)], 1)
            torch.sub(x, self.avgpool(x)), torch.mean(x, (2, 3)), torch.argmax(x, 1), torch.topk(x, 2, 2)
            self.rounded(early), self.second(early)

    return Network()


def write(directory: Path) -> Path:
    """net.pth (all numbers random) and broken.yaml; returns the config."""
    import torch

    generator = torch.Generator().manual_seed(0)
    state = build().state_dict()
    for name, tensor in state.items():
        if tensor.dtype == torch.float32:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
        if name.endswith((".weight", "fc1.bias")) and tensor.ndim > 1:
            sign = torch.randint(0, 2, tensor.shape, generator=generator) * 2 - 1
            tensor.mul_(sign / tensor[0].numel() ** 0.5)
    state["bn1.running_var"][0] = 1e-6
    torch.save(state, directory / "net.pth")
    (directory / "broken.yaml").write_text(CONFIG)
    return directory / "broken.yaml"
