"""The inspector's documents and the join of an engine's layers to ours.

No engine can be inspected without a GPU. tests/data/inspector_8.5.3.1.json.gz holds two documents of the real TensorRT
8.5.3.1 on an H200; those below are written after the schema that NVIDIA documents: 8.x and 10.x with `Bindings` and
`Format/Datatype`, 11.x with `I/O Tensors`, `Format` and `DataType`.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from commands.configs import load_graph
from engine.inspection import EngineLayer, EngineTensor, engine_document, engine_layers, join, output_types
from spec.errors import TensorRTError
from tests.backends import rtx


def tensor(name, layout, shape=(1, 64, 56, 56)):
    return {"Name": name, "Location": "Device", "Dimensions": list(shape), "Format/Datatype": layout}


CONVOLUTION = {
    "Name": "conv1 + relu1",
    "LayerType": "CaskConvolution",
    "Inputs": [tensor("image", "Row major linear FP32", (1, 3, 224, 224))],
    "Outputs": [tensor("relu1", "Channel major FP16 format where channel % 8 == 0")],
    "ParameterType": "Convolution",
    "Kernel": [3, 3],
    "TacticName": "sm80_xmma_fprop_implicit_gemm_f16f16",
    "TacticValue": "0x11bde0e1d9f2f35d",
}
DOCUMENTS = {
    "8.x and 10.x": {"Layers": [CONVOLUTION], "Bindings": ["image", "prob"]},
    "11.x": {
        "Layers": [
            {
                **CONVOLUTION,
                "Inputs": [
                    {"Name": "image", "DataType": "Float", "Format": "kLINEAR", "Dimensions": [1, 3, 224, 224]}
                ],
                "Outputs": [{"Name": "relu1", "DataType": "Half", "Format": "kHWC8", "Dimensions": [1, 64, 56, 56]}],
            }
        ],
        "I/O Tensors": [
            {"Name": "image", "IOMode": "Input", "DataType": "Float", "Dimensions": [1, 3, 224, 224]},
            {"Name": "prob", "IOMode": "Output", "DataType": "Float", "Dimensions": [1, 10]},
        ],
    },
}


@pytest.mark.parametrize("version", DOCUMENTS)
def test_both_schemas_say_the_same(version):
    (layer,) = engine_layers(DOCUMENTS[version])
    assert (layer.name, layer.kind) == ("conv1 + relu1", "CaskConvolution")
    assert layer.tactic == "sm80_xmma_fprop_implicit_gemm_f16f16"
    assert [(each.name, each.dtype, each.shape) for each in layer.inputs] == [("image", "fp32", (1, 3, 224, 224))]
    assert output_types(layer) == "fp16"


def test_a_plan_without_details_tells_names():
    document = {"Layers": ["conv1 + relu1", "fc"], "Bindings": ["image"]}
    assert engine_layers(document) == [EngineLayer("conv1 + relu1"), EngineLayer("fc")]
    assert output_types(EngineLayer("fc")) == ""


@pytest.mark.parametrize(
    "layout, dtype",
    [
        ("Row major linear FP32", "fp32"),
        ("Row major linear FP16 format", "fp16"),
        ("Two wide channel vectorized row major FP16 format", "fp16"),
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ("Row major Int8 format", "int8"),
        ("Row major linear INT32", "int32"),
        ("Row major linear BOOL", "bool"),
        ("Row major linear UInt8 format", "uint8"),
        ("Float", "fp32"),
        ("Half", "fp16"),
        ("BFloat16", "bf16"),
        ("N/A due to dynamic shapes", ""),
        ("", ""),
    ],
)
def test_types_of_tensors(layout, dtype):
    (layer,) = engine_layers({"Layers": [{"Name": "a", "Outputs": [tensor("a", layout)]}]})
    assert layer.outputs[0].dtype == dtype and layer.outputs[0].format == layout


def test_several_outputs_name_each_type_once():
    outputs = tuple(EngineTensor("x", (1,), dtype, "") for dtype in ("fp16", "int8", "fp16", ""))
    assert output_types(EngineLayer("x", outputs=outputs)) == "fp16, int8"


NAMES = ["image/cast", "conv1", "bn1", "relu1", "layer1.0", "layer1.0.conv1", "layer1.0.add", "0", "Input", "a/b", "a",
         "Conv_1", "fc1", "fc2", "prob"]  # fmt: skip


@pytest.mark.parametrize(
    "name, ours",
    [
        ("conv1", ["conv1"]),
        ("conv1 + relu1", ["conv1", "relu1"]),
        ("conv1+relu1_myl0_3", ["conv1", "relu1"]),
        ("conv1 || fc1", ["conv1", "fc1"]),
        ("PWN(PWN(relu1), layer1.0.add)", ["relu1", "layer1.0.add"]),
        ("relu1 + conv1", ["conv1", "relu1"]),  # in our order
        ("conv1/kernel + conv1/kernel/quantized + conv1 + PWN(relu1)", ["conv1", "relu1"]),
        ("relu1/dequantized", ["relu1"]),
        ("relu1 copy", ["relu1"]),
        ("image/cast", ["image/cast"]),
        ("image/quantized", []),  # an input is no layer
        ("layer1.0.conv1", ["layer1.0.conv1"]),  # and not layer1.0
        ("layer1.0", ["layer1.0"]),
        ("layer1.0.conv9", []),
        ("a/b/kernel", ["a/b"]),
        ("a/c", ["a"]),
        ("x/a", []),
        ("conv12", []),
        ("myconv1", []),
        ("Reformatting CopyNode for Input Tensor 0 to conv1 + relu1", ["conv1", "relu1"]),
        ("Reformatting CopyNode for Output Tensor 0 to fc1", ["fc1"]),
        ("Reformatting CopyNode for Network Input image", []),
        ("Reformatting CopyNode for Input Tensor 0 to 0", ["0"]),
        ("(Unnamed Layer* 0) [Shuffle]", []),
        ("(Unnamed Layer* 0) [Shuffle] + conv1", ["conv1"]),
        ("[HostToDeviceCopy 0]", []),
        ("0 + 0/bias", ["0"]),
        ("Conv_1_myl2_0", ["Conv_1"]),
        ("{ForeignNode[fc1...prob]}", ["fc1", "fc2", "prob"]),
        ("{ForeignNode[fc1/shape...fc2 + prob]}", ["fc1", "fc2", "prob"]),
        ("{ForeignNode[(Unnamed Layer* 3) [Constant]...prob]}", ["prob"]),
        ("Reformatting CopyNode for Input Tensor 0 to {ForeignNode[fc1...prob]}", ["fc1", "prob"]),
        ("conv1 [profile 1]", ["conv1"]),
        ("__myl_MulAdd_myl0_4", []),
    ],
)
def test_names_of_ours_in_a_name_of_tensorrts(name, ours):
    found = join([EngineLayer(name)], NAMES)
    assert list(found.ours[name]) == ours
    assert found.foreign == (() if ours else (name,))


def test_a_range_leaves_what_another_layer_names():
    layers = [EngineLayer("{ForeignNode[conv1...prob]}"), EngineLayer("relu1"), EngineLayer("fc1 + fc2")]
    names = ["conv1", "bn1", "relu1", "fc1", "fc2", "prob"]
    assert join(layers, names).ours["{ForeignNode[conv1...prob]}"] == ("conv1", "bn1", "prob")


def test_layers_that_are_gone_are_told():
    reformat = EngineLayer("Reformatting CopyNode for Input Tensor 0 to flat")
    found = join([EngineLayer("conv1 + relu1"), reformat, EngineLayer("fc1")], ["conv1", "bn1", "relu1", "flat", "fc1"])
    assert found.vanished == ("bn1", "flat")  # a copy between formats is not the layer


def test_metadata_or_else_outputs_tell_where_a_name_does_not():
    speaks = EngineLayer("__myl_Fc_myl0_1", metadata="[ONNX Layer: fc1]")
    writes = EngineLayer("__myl_Mul_myl0_2", outputs=(EngineTensor("prob", (1,), "fp32", ""),))
    found = join([speaks, writes], ["fc1", "prob"])
    assert found.ours == {"__myl_Fc_myl0_1": ("fc1",), "__myl_Mul_myl0_2": ("prob",)} and found.vanished == ()


def test_without_names_of_ours_all_is_foreign():
    assert join([EngineLayer("conv1")], []).foreign == ("conv1",)


class Inspector:
    """An engine whose inspector gives a text."""

    def __init__(self, text):
        self._text = text

    def create_engine_inspector(self):
        return self

    def get_engine_information(self, form):
        return self._text


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "gave no JSON"),
        ("Layers:\nconv1", "gave no JSON"),
        (None, "gave no JSON"),
        ('{"Layers": []}', "tells nothing of its layers; build it with --profiling-verbosity detailed"),
        ("[]", "tells nothing of its layers"),
    ],
)
def test_an_engine_that_tells_nothing_is_an_error(text, words):
    with pytest.raises(TensorRTError, match=words):
        engine_document(rtx(), Inspector(text))


def test_control_characters_in_a_name_are_read():
    text = json.dumps(DOCUMENTS["8.x and 10.x"]).replace("conv1 + relu1", "conv1 + relu1\x1ffused")
    document = engine_document(rtx(), Inspector(text))
    assert engine_layers(document)[0].name == "conv1 + relu1\x1ffused"


@pytest.fixture(scope="module")
def real():
    path = Path(__file__).parent / "data" / "inspector_8.5.3.1.json.gz"
    return json.loads(gzip.decompress(path.read_bytes()))


def test_a_real_document_of_a_dynamic_batch_is_read(real):
    document = real["dynamic"]
    layers = {layer.name: layer for layer in engine_layers(document)}
    assert layers["conv1 + bn1 + relu1"].kind == "CaskConvolution"
    names = ["image/cast", "image/nchw", "conv1", "bn1", "relu1", "pool1", "conv2", "relu2", "flat", "fc"]
    found = join(list(layers.values()), names)
    assert found.vanished == () and found.ours["conv1 + bn1 + relu1"] == ("conv1", "bn1", "relu1")
    assert found.ours["{ForeignNode[image/cast]}"] == ("image/cast",)
    assert found.foreign == ("[HostToDeviceCopy 0]",)


def test_a_real_resnet_50_in_fp16_has_every_layer_of_ours_in_one_of_its_own(real):
    layers = engine_layers(real["resnet50 fp16"])
    names = [layer.name for layer in load_graph("model4", [])[1].layers]
    found = join(layers, names)
    owners = Counter(name for ours in found.ours.values() for name in ours)
    assert found.vanished == () and set(owners) == set(names)
    kernels = {layer.name: layer for layer in layers if layer.kind == "CaskConvolution"}
    assert len(kernels) == 53 and all(output_types(layer) == "fp16" for layer in kernels.values())
    sums = [ours for ours in found.ours.values() if any(name.endswith(".add") for name in ours)]
    fused = [ours for ours in sums if any(".conv3" in name or "downsample" in name for name in ours)]
    assert len(sums) == 16 and fused == sums
