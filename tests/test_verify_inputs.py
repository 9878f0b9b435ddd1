"""What a comparison is fed: random numbers of a seed, NumPy files, pictures; nothing is resized, cast or guessed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence

import numpy as np
import pytest

from spec.errors import UsageError
from spec.graph import Graph, build_graph
from spec.layers import LAYERS
from spec.model import ModelSpec
from tests.small_models import graph_of
from verify.inputs import make_inputs

BATCHES = {
    # bounds of a dynamic batch, the batch that random numbers get
    "fixed": (None, 3),
    "from 1": ({"min": 1, "opt": 4, "max": 8}, 2),
    "of 1": ({"min": 1, "opt": 1, "max": 1}, 1),
    "from 4": ({"min": 4, "opt": 4, "max": 8}, 4),
}
PIXELS = np.random.default_rng(1).integers(0, 256, (1, 5, 4, 3), dtype=np.uint8)


def graph(batch: Optional[Dict[str, int]] = None) -> Graph:
    """A graph that takes float32 numbers."""
    return graph_of([("activation", {"name": "relu", "function": "relu"})], {"image": (3, 2, 5, 7)}, ["relu"], batch)


def graph_of_image(layout: str, shape: Sequence[int], dtype: str = "uint8") -> Graph:
    """A graph that takes an image."""
    image = {"shape": shape, "dtype": dtype, "layout": layout}
    keys: Dict[str, Any] = {"weights": {"path": "none"}, "outputs": ["relu"], "architecture": "plain"}
    model = ModelSpec(name="net", inputs={"image": image}, **keys)
    return build_graph(model, [LAYERS["activation"](name="relu", function="relu")])


@pytest.mark.parametrize("name", BATCHES)
def test_random_numbers_have_the_shape_and_a_batch_that_hides_nothing(name):
    batch, wanted = BATCHES[name]
    inputs, title = make_inputs(graph(batch), "random:7")
    assert inputs["image"].shape == (wanted, 2, 5, 7) and inputs["image"].dtype == np.float32
    assert title == "random numbers of seed 7"
    assert np.ptp(inputs["image"]) > 1


def test_a_seed_gives_the_same_numbers_another_gives_others():
    first, again, other = (make_inputs(graph(), f"random:{seed}")[0]["image"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_random_pixels_are_of_all_levels():
    pixels = make_inputs(graph_of_image("NHWC", [1, 5, 4, 300]), "random:0")[0]["image"]
    assert pixels.dtype == np.uint8 and pixels.min() < 20 and pixels.max() > 235


def test_half_precision_is_cast_once():
    assert make_inputs(graph_of_image("NHWC", [1, 5, 4, 3], "float16"), "random:0")[0]["image"].dtype == np.float16


def test_numpy_files(tmp_path):
    array = np.random.default_rng(0).standard_normal((3, 2, 5, 7)).astype(np.float32)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", image=array)
    for name in ("a.npy", "a.npz"):
        inputs, title = make_inputs(graph(), str(tmp_path / name))
        np.testing.assert_array_equal(inputs["image"], array)
        assert title == str(tmp_path / name)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_comes_in_the_inputs_own_layout(layout, channels, tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = PIXELS[0] if channels == 3 else PIXELS[0, :, :, 0]
    image.fromarray(pixels).save(tmp_path / "a.png")
    shape = [1, 5, 4, channels] if layout == "NHWC" else [1, channels, 5, 4]
    found = make_inputs(graph_of_image(layout, shape), str(tmp_path / "a.png"))[0]["image"]
    wanted = pixels.reshape(1, 5, 4, channels)
    np.testing.assert_array_equal(found, wanted if layout == "NHWC" else wanted.transpose(0, 3, 1, 2))


def write(name: str, contents: Any) -> Callable[[Path], Path]:
    """What writes a file of that name: bytes as they are, an array as .npy, a dict as .npz."""

    def into(directory: Path) -> Path:
        path = directory / name
        if isinstance(contents, bytes):
            path.write_bytes(contents)
        elif isinstance(contents, dict):
            np.savez(path, **contents)
        else:
            np.save(path, contents, allow_pickle=True)
        return path

    return into


RIGHT = np.zeros((3, 2, 5, 7), np.float32)
REFUSED = {
    "absent": (lambda directory: directory / "no.npy", "no such file; wanted random:SEED, structured:SEED, an .npy"),
    "endless name": (lambda directory: directory / ("x" * 5000), "no such file"),
    "other shape": (write("a.npy", RIGHT[:, :, :4]), "'image' is float32 3 x 2 x 4 x 7, wanted float32 3 x 2 x 5 x 7"),
    "other batch": (write("a.npy", RIGHT[:2]), "'image' is float32 2 x 2 x 5 x 7, wanted float32 3 x 2 x 5 x 7"),
    "other type": (write("a.npy", RIGHT.astype(np.float64)), "'image' is float64 3 x 2 x 5 x 7, wanted float32"),
    "other name": (write("a.npz", {"picture": RIGHT}), "'picture' is no input; inputs: image"),
    "nothing": (write("a.npz", {}), "holds nothing for image; an .npz names each input"),
    "code": (write("a.npy", np.array([{}], object)), "is no NumPy file: Object arrays cannot be loaded"),
    "empty": (write("a.npy", b""), "is no NumPy file"),
    "damaged archive": (write("a.npz", b"PK\x03\x04 nothing more"), "is no NumPy file"),
    "no picture": (write("a.png", b"no picture"), "is no image that Pillow reads"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name, tmp_path):
    if name == "no picture":
        pytest.importorskip("PIL")
    make, message = REFUSED[name]
    path = make(tmp_path)
    with pytest.raises(UsageError) as caught:
        make_inputs(graph(), str(path))
    assert str(caught.value).startswith(f"--input {path}: ") and message in str(caught.value)


def test_a_batch_outside_the_bounds_is_refused(tmp_path):
    path = write("a.npy", RIGHT)(tmp_path)
    with pytest.raises(UsageError, match="wanted float32 N x 2 x 5 x 7 with N from 1 to 2"):
        make_inputs(graph({"min": 1, "opt": 1, "max": 2}), str(path))


@pytest.mark.parametrize("wish", ["random:", "random:-1", "random:x", "random"])
def test_a_seed_is_a_whole_number(wish):
    with pytest.raises(UsageError, match="wanted random:SEED"):
        make_inputs(graph(), wish)


def test_a_picture_without_pillow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)  # import then fails as where it is not installed
    path = write("a.png", b"any")(tmp_path)
    with pytest.raises(UsageError, match="reading images needs Pillow: pip install pillow; or give an .npy"):
        make_inputs(graph(), str(path))
