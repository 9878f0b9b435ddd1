"""Protocol-buffer text, read back by protobuf's own parser with Triton's schema."""

from __future__ import annotations

import pytest

from deploy.pbtxt import Word, write_text

text_format = pytest.importorskip("google.protobuf.text_format", reason="protobuf reads the text back")
model_config = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient holds Triton's schema")

NAMES = ["plain", 'a "quoted" one', "back\\slash", "new\nline", "tab\t", "größe", "画像", "\x01\x7f", "ends in 7\x007"]


def read(text: str):
    return text_format.Parse(text, model_config.ModelConfig())


@pytest.mark.parametrize("name", NAMES)
def test_any_name_comes_back(name):
    text = write_text({"name": name})
    assert read(text).name == name and text.isascii() and text.count("\n") == 1


def test_every_kind_of_field_comes_back():
    config = read(
        write_text(
            {
                "name": "m",
                "max_batch_size": 8,
                "input": [{"name": "a", "data_type": Word("TYPE_UINT8"), "dims": [3, -1]}, {"name": "b"}],
                "dynamic_batching": {},
                "optimization": {"cuda": {"graphs": True, "busy_wait_events": False}},
                "cc_model_filenames": [{"key": "9.0", "value": "x.plan"}],
                "output": [],
            }
        )
    )
    assert config.max_batch_size == 8 and [row.name for row in config.input] == ["a", "b"]
    assert config.input[0].data_type == model_config.TYPE_UINT8 and list(config.input[0].dims) == [3, -1]
    assert config.HasField("dynamic_batching") and config.optimization.cuda.graphs
    assert dict(config.cc_model_filenames) == {"9.0": "x.plan"} and not config.output


def test_the_text_is_laid_out_for_people():
    assert write_text({"name": "m", "input": [{"dims": [1, 2]}], "flag": True}) == (
        'name: "m"\ninput {\n  dims: [1, 2]\n}\nflag: true\n'
    )


def test_what_is_no_field_is_refused():
    with pytest.raises(TypeError, match="None is no field of a message"):
        write_text({"name": None})
