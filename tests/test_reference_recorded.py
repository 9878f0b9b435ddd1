"""Recorded activations: what is written comes back without the framework, and only for the same input and weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

safetensors = pytest.importorskip("safetensors.numpy")

from small_reference import config, opened, random_image  # noqa: E402

from spec.errors import UsageError, VerificationError  # noqa: E402
from verify.recorded import KIND, Origin, record  # noqa: E402
from verify.verification import Activations  # noqa: E402

IMAGE = "shape: [1, 3, 3, 3], dtype: uint8, layout: NHWC"
LAYERS = [
    "cast: {name: to_float, dtype: float32}",
    "activation: {name: relu, function: relu, reference: [absent], input: to_float}",
    "top_k: {name: best, k: 2, input: relu}",
]
PIXELS = np.random.default_rng(0).integers(0, 256, (1, 3, 3, 3), dtype=np.uint8)
CHECKPOINT = {"net.ckpt.index": "0" * 64, "net.ckpt.data-00000-of-00001": "1" * 64}


def arrays() -> dict:
    """Every side 3 long: only knowing that they are ours already keeps them from being turned."""
    image = random_image(1, 3, 3, 3)
    relu = image.transpose(0, 3, 1, 2).clip(0)  # not contiguous
    return {
        "to_float": image,
        "image/nchw": image.transpose(0, 3, 1, 2),
        "relu": relu,
        "best": relu[:, :2],
        "best/indices": np.argsort(relu, axis=1)[:, :2].astype(np.int32),
    }


def write(folder: Path, model: str = "small") -> Path:
    names = {name: f"their/{name}" for name in arrays()}
    activations = Activations(arrays(), names, {"image": PIXELS}, "SomeFramework 1.0, net.meta", "cat.png")
    record(folder / "a.safetensors", activations, Origin(model, CHECKPOINT))
    return config(folder / "m.yaml", IMAGE, "path: net.ckpt", "activations: a.safetensors, tensors: {relu: x}", LAYERS)


def test_round_trip(tmp_path):
    case = opened(write(tmp_path))
    found = case.run(image=PIXELS)
    assert list(found.arrays) == ["to_float", "image/nchw", "relu", "best", "best/indices"]
    for name, array in arrays().items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype
        assert found.names[name] == f"their/{name}"
    assert found.title == "SomeFramework 1.0, net.meta, recorded in a.safetensors"


def test_it_brings_its_input(tmp_path):
    reference = opened(write(tmp_path)).reference
    np.testing.assert_array_equal(reference.inputs["image"], PIXELS)
    assert reference.input_title == "cat.png"


OTHER_INPUTS = {
    "other numbers": (PIXELS ^ (np.arange(27).reshape(PIXELS.shape) == 4), "1 of 27 numbers differ"),
    "other shape": (PIXELS.repeat(2, axis=0), "was 1 x 3 x 3 x 3 uint8, this one is 2 x 3 x 3 x 3 uint8"),
    "other type": (PIXELS.astype(np.float32), "was 1 x 3 x 3 x 3 uint8, this one is 1 x 3 x 3 x 3 float32"),
}


@pytest.mark.parametrize("how", OTHER_INPUTS)
def test_another_input_is_refused(how, tmp_path):
    image, message = OTHER_INPUTS[how]
    with pytest.raises(VerificationError) as caught:
        opened(write(tmp_path)).run(image=image)
    assert message in str(caught.value) and "compare on that (cat.png)" in str(caught.value)
    assert "m.yaml:6: reference.activations" in str(caught.value)


def test_an_input_of_another_name(tmp_path):
    path = write(tmp_path)
    path.write_text(path.read_text().replace("  image:", "  imagge:"))
    with pytest.raises(VerificationError, match="no input 'imagge' in it; did you mean 'image'?"):
        opened(path).run(imagge=PIXELS)


def test_another_model_is_refused(tmp_path):
    with pytest.raises(VerificationError, match="was recorded of model 'large', this is 'small'"):
        opened(write(tmp_path, model="large"))


def test_another_checkpoint_is_refused(tmp_path):
    reference = opened(write(tmp_path)).reference
    reference.check_checkpoint(CHECKPOINT)
    with pytest.raises(VerificationError, match=r"another checkpoint \(net.ckpt.index differ\) - record again"):
        reference.check_checkpoint({**CHECKPOINT, "net.ckpt.index": "2" * 64})
    with pytest.raises(VerificationError, match="another checkpoint"):
        reference.check_checkpoint({"net.ckpt.index": "0" * 64})


def test_files_that_hold_no_activations(tmp_path):
    path = write(tmp_path)
    file = tmp_path / "a.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(VerificationError, match="a.safetensors is damaged"):
        opened(path)
    safetensors.save_file({"layer1.weight": np.zeros(3)}, file)
    with pytest.raises(VerificationError, match=f"holds no activations .*wanted '{KIND}'"):
        opened(path)
    file.unlink()
    with pytest.raises(UsageError, match="no file .*a.safetensors - write it with `run.py record`"):
        opened(path)


def test_nothing_is_not_recorded(tmp_path):
    empty = Activations({}, {}, {"image": PIXELS}, "SomeFramework 1.0", "cat.png")
    with pytest.raises(VerificationError, match="no activations to record"):
        record(tmp_path / "a.safetensors", empty, Origin("small", CHECKPOINT))
    assert not list(tmp_path.iterdir())


def test_no_framework_is_imported(tmp_path):
    path = write(tmp_path)
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'tf_keras', 'torch'): sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from small_reference import opened\n"
        f"case = opened(Path({str(path)!r}))\n"
        "assert len(case.run(**case.reference.inputs).arrays) == 5\n"
    )
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parent}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
