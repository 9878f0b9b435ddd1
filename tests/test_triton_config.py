"""config.pbtxt of fixed and dynamic batches, read back with Triton's own schema; what plans of a model must share."""

from __future__ import annotations

import re
from math import prod
from typing import Any, Dict

import pytest

from deploy.pbtxt import write_text
from deploy.triton_config import ServingOptions, contract, differences, model_config, plan_names
from engine.manifest import describe_tensors
from engine.plan_check import read_manifest
from spec.errors import UsageError
from tests.small_models import graph_of
from tests.triton_repository import made_plan

text_format = pytest.importorskip("google.protobuf.text_format", reason="protobuf reads the text back")
schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient holds Triton's schema")

BATCH = {"min": 1, "opt": 4, "max": 16}


@pytest.fixture
def manifest_of(tmp_path):
    """`manifest_of(batch=...)`: a manifest as `run.py` writes it."""
    counter = iter(range(100))

    def make(*arguments: Any, **keys: Any) -> Dict[str, Any]:
        return read_manifest(made_plan(tmp_path / str(next(counter)), *arguments, **keys))

    return make


def config_of(manifest: Dict[str, Any], **options: Any) -> Any:
    message = model_config("m", contract([manifest]), ServingOptions(**options))
    config = text_format.Parse(write_text(message), schema.ModelConfig())
    for row in [*config.input, *config.output]:
        check_shape(row, config.max_batch_size)
    return config


def check_shape(row: Any, largest: int) -> None:
    """What Triton's ValidateIOShape (core, model_config_utils.cc) wants of an input or output."""
    assert row.dims and all(size > 0 for size in row.dims)
    assert not row.HasField("reshape") or largest > 0 and prod(row.reshape.shape) == prod(row.dims)


def test_a_fixed_batch_says_its_dims_whole(manifest_of):
    config = config_of(manifest_of())
    assert config.platform == "tensorrt_plan" and config.max_batch_size == 0
    assert [(row.name, row.data_type, list(row.dims)) for row in config.input] == [
        ("image", schema.TYPE_UINT8, [1, 8, 9, 3])
    ]
    assert [(row.name, row.data_type, list(row.dims)) for row in config.output] == [("prob", schema.TYPE_FP32, [1, 5])]
    assert not config.HasField("dynamic_batching") and config.optimization.cuda.graphs
    assert [(row.batch_size, list(row.inputs["image"].dims)) for row in config.model_warmup] == [(1, [1, 8, 9, 3])]
    assert config.model_warmup[0].inputs["image"].zero_data
    assert [(row.count, row.kind, list(row.gpus)) for row in config.instance_group] == [(1, 1, [])]
    assert config.version_policy.latest.num_versions == 1


def test_a_dynamic_batch_leaves_the_batch_to_triton(manifest_of):
    config = config_of(manifest_of(batch=BATCH), queue_delay=250)
    assert config.max_batch_size == 16
    assert list(config.input[0].dims) == [8, 9, 3] and list(config.output[0].dims) == [5]
    assert list(config.dynamic_batching.preferred_batch_size) == [4]
    assert config.dynamic_batching.max_queue_delay_microseconds == 250
    assert [(row.batch_size, list(row.inputs["image"].dims)) for row in config.model_warmup] == [
        (1, [8, 9, 3]), (4, [8, 9, 3]), (16, [8, 9, 3])
    ]  # fmt: skip


def test_every_option_has_its_field(manifest_of, tmp_path):
    (tmp_path / "names").write_text("a\nb\nc\nd\ne\n")
    config = config_of(
        manifest_of(batch=dict(BATCH, opt=1)), instances=3, gpus=(0, 2), warmup="random", graphs=False, served=2,
        labels=tmp_path / "names",
    )  # fmt: skip
    assert [(row.count, list(row.gpus)) for row in config.instance_group] == [(3, [0, 2])]
    assert not config.HasField("optimization") and config.version_policy.latest.num_versions == 2
    assert config.model_warmup[0].inputs["image"].random_data and len(config.model_warmup) == 2
    assert config.HasField("dynamic_batching") and not config.dynamic_batching.preferred_batch_size
    assert config.output[0].label_filename == "labels.txt"
    assert not config_of(manifest_of(), warmup="none").model_warmup


NUMBER = {"name": "image", "shape": [-1], "dtype": "float32", "layout": None}


def test_one_number_an_image_has_a_dimension_for_triton(manifest_of):
    """An argmax without keep_dims leaves the batch alone."""
    layers = [("argmax", {"name": "best", "inputs": ["scores"], "keep_dims": False})]
    graph = graph_of(layers, {"scores": (1, 5)}, ["best"], BATCH)
    config = config_of(manifest_of(batch=BATCH, outputs=describe_tensors(graph, ["best"])))
    (best,) = config.output
    assert (best.name, list(best.dims), list(best.reshape.shape)) == ("best", [1], []) and best.HasField("reshape")
    assert not config.input[0].HasField("reshape")


def test_an_input_of_one_number_an_image_is_warmed_up_as_clients_send_it(manifest_of):
    config = config_of(manifest_of(batch=BATCH, inputs=[NUMBER]))
    assert list(config.input[0].dims) == [1] and config.input[0].HasField("reshape")
    assert [list(row.inputs["image"].dims) for row in config.model_warmup] == [[1]] * 3


@pytest.mark.parametrize("core", [0, 1])
def test_a_plan_for_a_dla_names_it(manifest_of, core):
    (group,) = config_of(manifest_of(options={"dla_core": core, "gpu_fallback": True}), gpus=(0,)).instance_group
    assert [(each.kind, each.device_id) for each in group.secondary_devices] == [
        (schema.ModelInstanceGroup.SecondaryDevice.KIND_NVDLA, core)
    ]
    assert group.kind == schema.ModelInstanceGroup.KIND_GPU and list(group.gpus) == [0]


def test_a_plan_of_the_gpu_alone_names_no_dla(manifest_of):
    assert not config_of(manifest_of(options={"workspace": 1})).instance_group[0].secondary_devices


def test_several_plans_are_told_apart_by_compute_capability(manifest_of):
    manifests = [manifest_of(b"a", "8.6"), manifest_of(b"b", "9.0")]
    config = text_format.Parse(
        write_text(model_config("m", contract(manifests), ServingOptions())), schema.ModelConfig()
    )
    assert dict(config.cc_model_filenames) == {"8.6": "model_sm86.plan", "9.0": "model_sm90.plan"}
    assert plan_names(manifests) == ["model_sm86.plan", "model_sm90.plan"]
    assert plan_names(manifests[:1]) == ["model.plan"]


def test_the_same_manifests_give_the_same_text(manifest_of):
    texts = {write_text(model_config("m", contract([manifest_of()]), ServingOptions())) for _ in range(2)}
    assert len(texts) == 1


REFUSED: Dict[str, Any] = {
    # name: (manifests by keys, the message)
    "the same capability twice": (({"capability": "9.0"},) * 2, "each must be for a GPU of another compute capability"),
    "no GPU named": (({"capability": "9.0"}, {}), "these are for 9.0, no one GPU"),
    "other batches": (
        ({"capability": "9.0"}, {"capability": "8.6", "batch": BATCH}),
        "plans of one model differ: max_batch_size: 0 and 16; input 'image': TYPE_UINT8 [1, 8, 9, 3] and TYPE_UINT8",
    ),
    "a DLA and none": (
        ({"capability": "8.7", "options": {"dla_core": 0}}, {"capability": "8.6"}),
        "plans of one model differ: DLA core: 0 and none",
    ),
    "no single requests": (
        ({"batch": {"min": 2, "opt": 4, "max": 8}},),
        "batch from 2 on: Triton sends single requests too; build with --set 'batch={min: 1, opt: 4, max: 8}'",
    ),
    "an output without the batch": (
        ({"batch": BATCH, "outputs": [{"name": "sum", "shape": [5], "dtype": "float32", "layout": None}]},),
        "outputs sum: without the batch that Triton divides",
    ),
}


@pytest.mark.parametrize("manifests, message", REFUSED.values(), ids=REFUSED.keys())
def test_what_triton_cannot_serve_is_refused(manifest_of, manifests, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        contract([manifest_of(**keys) for keys in manifests])


def test_labels_that_do_not_fit_are_refused(manifest_of, tmp_path):
    (tmp_path / "names").write_text("a\nb\n")
    with pytest.raises(UsageError, match="names: has 2 lines, output 'prob' has 5 classes"):
        config_of(manifest_of(), labels=tmp_path / "names")
    with pytest.raises(UsageError, match="none: cannot be read"):
        config_of(manifest_of(), labels=tmp_path / "none")


def test_differences_name_each_field(manifest_of):
    image = {"name": "photo", "shape": [1, 8, 9, 3], "dtype": "uint8", "layout": "NHWC"}
    one, other = contract([manifest_of()]), contract([manifest_of(inputs=[image])])
    assert differences(one, one) == []
    assert differences(one, other) == [
        "input 'image': TYPE_UINT8 [1, 8, 9, 3] and none",
        "input 'photo': none and TYPE_UINT8 [1, 8, 9, 3]",
    ]


def test_a_number_and_an_axis_of_one_differ(manifest_of):
    """Clients see the same, but a config with the reshape does not fit the plan with the axis."""
    number, axis = (
        contract([manifest_of(batch=BATCH, inputs=[dict(NUMBER, shape=list(shape))])]) for shape in ([-1], [-1, 1])
    )
    assert differences(number, axis) == ["input 'image': TYPE_FP32 [1] for [] in the plan and TYPE_FP32 [1]"]
