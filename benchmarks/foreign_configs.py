"""The configs of benchmarks/foreign_models.py: one a source; the stages of a ResNet are appended where they differ."""

from __future__ import annotations

BOTTLENECKS = """\
stages:
  - {blocks: 3, width: 64, stride: 1}
  - {blocks: 4, width: 128, stride: 2}
  - {blocks: 6, width: 256, stride: 2}
  - {blocks: 3, width: 512, stride: 2}
"""
BASIC = """\
block: basic
stages:
  - {blocks: 2, width: 64, stride: 1}
  - {blocks: 2, width: 128, stride: 2}
  - {blocks: 2, width: 256, stride: 2}
  - {blocks: 2, width: 512, stride: 2}
"""

KERAS = (
    """\
name: keras_resnet50
architecture: resnet_keras
inputs: {image: {shape: [1, 224, 224, 3], dtype: float32, layout: NHWC}}
weights: {path: resnet50.h5}
reference: {keras: resnet50.h5}
stem_filters: 64
epsilon: 1.001e-5
classes: 1000
outputs: [predictions/softmax]
"""
    + BOTTLENECKS
)

TORCH = """\
name: NAME
architecture: resnet_torch
inputs: {image: {shape: [1, 3, 256, 256], dtype: float32, layout: NCHW}}
weights: {path: NAME.pth, ignore: ["*.num_batches_tracked"]}
reference: {callable: "benchmarks.foreign_models:NAME"}
stem: {filters: 64, kernel: 7, stride: 2, padding: 3}
epsilon: 1.0e-5
classes: 1000
outputs: [fc]
"""

SLIM = """\
name: slim_resnet_v1_50
architecture: resnet_slim
inputs: {image: {shape: [1, 225, 225, 3], dtype: float32, layout: NHWC}}
weights: {path: resnet_v1_50.ckpt}
reference: {graph: resnet_v1_50.ckpt.meta}
scope: resnet_v1_50
stem_filters: 64
stages:
  - {blocks: 3, width: 64, stride: 2}
  - {blocks: 4, width: 128, stride: 2}
  - {blocks: 6, width: 256, stride: 2}
  - {blocks: 3, width: 512, stride: 1}
epsilon: 1.001e-5
classes: 1000
outputs: [resnet_v1_50/predictions]
"""
