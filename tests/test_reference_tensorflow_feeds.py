"""What a TensorFlow graph is fed: the image, and placeholders of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

tensorflow = pytest.importorskip("tensorflow")

from small_graphs import IMAGE, RELU, case, written  # noqa: E402
from small_reference import Case, config, opened, random_image  # noqa: E402

from spec.errors import ConfigError, VerificationError  # noqa: E402

tf = tensorflow.compat.v1


def test_the_only_placeholder_of_the_inputs_shape_is_the_input(tmp_path):
    def build(_):
        tf.placeholder(tf.int64, [None], name="labels")
        tf.nn.relu(tf.get_default_graph().get_tensor_by_name("image:0"), name="relu")

    written(tmp_path, build)
    path = config(tmp_path / "m.yaml", IMAGE, "path: net", "graph: net.meta", [RELU])
    path.write_text(path.read_text().replace("  image:", "  pixels:"))
    image = random_image(1, 9, 7, 3)
    np.testing.assert_array_equal(opened(path).run(pixels=image).arrays["relu"], image.clip(0).transpose(0, 3, 1, 2))


def test_an_input_that_is_nowhere(tmp_path):
    def build(x):
        tf.nn.relu(x + tf.placeholder(tf.float32, [None, 9, 7, 3], name="other"), name="relu")

    written(tmp_path, build)
    path = config(tmp_path / "m.yaml", IMAGE, "path: net", "graph: net.meta", [RELU])
    path.write_text(path.read_text().replace("  image:", "  pixels:"))
    with pytest.raises(ConfigError, match=r"m\.yaml:6: .*no placeholder 'pixels' in the graph; it has image, other"):
        opened(path)
    opened(path, ["reference.tensors={pixels: other}"])


def test_a_tensor_behind_a_queue_can_be_fed(tmp_path):
    def build(x):
        tf.nn.relu(tf.add(x, 100.0, name="decoded"), name="relu")

    found = case(tmp_path, build, [RELU], more=", tensors: {image: decoded}")
    image = random_image(1, 9, 7, 3)
    np.testing.assert_array_equal(found.run(image=image).arrays["relu"], image.clip(0).transpose(0, 3, 1, 2))


def with_other_placeholders(x):
    """Two shares that dropout keeps, the second a list, and a switch that is on at inference."""
    serving = tf.placeholder(tf.bool, [], name="serving")
    x = tf.where(serving, x, -x)
    x = tf.nn.dropout(x, tf.placeholder(tf.float32, [], name="keep_prob"))
    tf.nn.relu(x * tf.placeholder(tf.float32, [None], name="net/shares"), name="relu")
    tf.placeholder(tf.int32, [2], name="size")
    tf.placeholder(tf.string, [], name="file")
    tf.placeholder(tf.float32, [], name="learning_rate")


def fed(folder: Path, feeds: str) -> Case:
    return case(folder, with_other_placeholders, [RELU], more=f", feeds: {feeds}")


def test_placeholders_that_nothing_feeds_are_named_with_the_key_that_does(tmp_path):
    """Those that no layer depends on, such as the learning rate, are not asked for."""
    found = fed(tmp_path, "{serving: true}")
    with pytest.raises(VerificationError, match="net.meta.* fails: You must feed a value .* - say its value") as caught:
        found.run(image=random_image(1, 9, 7, 3))
    assert str(caught.value).endswith("reference: {feeds: {keep_prob: ..., net/shares: ...}}")


def test_feeds(tmp_path):
    image = random_image(1, 9, 7, 3)
    activations = fed(tmp_path, "{keep_prob: 1, net/shares: [1.0, 0.5, 2.0], serving: true}").run(image=image)
    wanted = (image * np.array([1, 0.5, 2], np.float32)).clip(0)
    np.testing.assert_array_equal(activations.arrays["relu"], wanted.transpose(0, 3, 1, 2))
    assert activations.title.endswith("with net, serving = True, keep_prob = 1.0, net/shares = [1.  0.5 2. ]")
    off = fed(tmp_path, "{keep_prob:0: 1.0, net/shares: [1.0]}").run(image=image)
    np.testing.assert_array_equal(off.arrays["relu"], (-image).clip(0).transpose(0, 3, 1, 2))


WRONG_FEEDS = {
    "{keep_prb: 1.0}": "no placeholder 'keep_prb' in the graph; did you mean 'keep_prob'?",
    "{relu: 1.0}": "no placeholder 'relu' in the graph; it has image, serving, keep_prob, net/shares, size, file, lear",
    "{image: 1.0}": "placeholder 'image' is fed by our input 'image' - leave it out here",
    "{keep_prob: true}": "found keep_prob: True, wanted one float32",
    "{keep_prob: [1.0]}": "found keep_prob: [1.0], wanted one float32",
    "{keep_prob: 1.0e+60}": "found keep_prob: 1e+60, wanted one float32",
    "{serving: 1}": "found serving: 1, wanted one bool",
    "{net/shares: 1.0}": "found net/shares: 1.0, wanted float32 of shape N",
    "{size: [8, 0.5]}": "found size: [8, 0.5], wanted int32 of shape 2",
    "{size: [8, 4294967296]}": "found size: [8, 4294967296], wanted int32 of shape 2",
    "{size: [8, 10000000000000000000000]}": "found size: [8, 10000000000000000000000], wanted int32 of shape 2",
    "{file: 1}": "found file: 1, wanted one string",
}


@pytest.mark.parametrize("feeds", WRONG_FEEDS)
def test_feeds_are_checked_against_the_graph(feeds, tmp_path):
    with pytest.raises(ConfigError) as caught:
        fed(tmp_path, feeds)
    assert f"m.yaml:6: reference.feeds: {WRONG_FEEDS[feeds]}" in str(caught.value)


REFUSED_FEEDS = {
    "graph: net.meta, feeds: {keep_prob: all}": "keep_prob: found all, wanted a number, true or false, or a list of",
    "graph: net.meta, feeds: {keep_prob: .nan}": "keep_prob: found nan, wanted a number",
    "graph: net.meta, feeds: {keep_prob: []}": "keep_prob: found [], wanted a number",
    "keras: net.h5, feeds: {keep_prob: 1.0}": "feeds is for the placeholders of a TensorFlow graph, keras has none",
}


@pytest.mark.parametrize("reference", REFUSED_FEEDS)
def test_feeds_are_values_for_a_graph(reference, tmp_path):
    with pytest.raises(ConfigError) as caught:
        opened(config(tmp_path / "m.yaml", IMAGE, "path: net", reference, [RELU]))
    assert "m.yaml:6: " in str(caught.value) and REFUSED_FEEDS[reference] in str(caught.value)


def test_an_input_that_would_lose_numbers(tmp_path):
    def build(_):
        tf.nn.relu(tf.cast(tf.placeholder(tf.uint8, [None, 9, 7, 3], name="pixels"), tf.float32), name="relu")

    found = case(tmp_path, build, [RELU], more=", tensors: {image: pixels}")
    with pytest.raises(VerificationError, match="input 'image' is float32, TensorFlow .* takes uint8"):
        found.run(image=random_image(1, 9, 7, 3))
