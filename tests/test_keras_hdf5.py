"""Keras files written by Keras 3 and tf_keras here, every value compared with the model it was saved from."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from spec.errors import CheckpointError
from weights import open_checkpoint
from weights.hdf5_file import Hdf5File
from weights.keras2_layout import canonical_name
from weights.keras3_layout import snake_case

RANDOM = np.random.default_rng(0)
# Files of each library; the extension is no hint at the layout.
KERAS2_LAYOUT = {"keras3": ("full.h5",), "tf_keras": ("full.h5", "only.h5")}
KERAS3_LAYOUT = {"keras3": ("model.keras", "x.weights.h5", "x.weights.json"), "tf_keras": ("model.keras",)}


def build(library):
    """Nested model, nested Sequential, shared layer, batch norm without gamma, depthwise, PReLU, dropout's state."""
    layers = library.layers
    inside = library.Input((5, 7, 4))
    x = layers.BatchNormalization(name="ibn")(layers.Conv2D(5, 2, name="ic")(inside))
    inner = library.Model(inside, x, name="inner")
    sequence = library.Sequential(
        [layers.Conv2D(3, 1, name="s1"), layers.BatchNormalization(scale=False, name="s2")], name="seq"
    )
    image, shared = library.Input((5, 7, 3)), layers.Conv2D(4, 1, name="shared", use_bias=False)
    x = layers.Conv2D(4, 3, padding="same", name="conv1")(image)
    x = layers.DepthwiseConv2D(3, padding="same", name="dw")(shared(shared(x)))
    x = layers.PReLU(name="activation")(sequence(inner(x)))
    x = layers.Conv2DTranspose(2, 3, name="up")(x)
    x = layers.Dense(2, name="fc")(layers.Flatten(name="flat")(x))
    model = library.Model(image, x, name="net")
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(RANDOM.normal(size=(2, 5, 7, 3)), RANDOM.normal(size=(2, 2)), verbose=0)
    return model


def variables(model, scope=""):
    """Scope, role and value of every variable, in the order of the layers."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from variables(layer, f"{scope}{layer.name}/")
        else:
            for variable in layer.weights:
                role = getattr(variable, "path", variable.name).split(":")[0].split("/")[-1]
                yield scope + layer.name, role, variable.numpy()


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Directory by library, with its files in every layout, and the model's variables by library."""
    import keras
    import tf_keras

    directories, wanted = {}, {}
    for name, library in (("keras3", keras), ("tf_keras", tf_keras)):
        model, directory = build(library), tmp_path_factory.mktemp(name)
        model.save(directory / "full.h5")
        model.save(directory / "model.keras")
        model.save_weights(directory / "x.weights.h5")
        if name == "keras3":
            model.save_weights(directory / "x.weights.json", max_shard_size=3e-6)
        else:
            model.save_weights(directory / "only.h5", save_format="h5")
        directories[name], wanted[name] = directory, list(variables(model))
    return directories, wanted


@pytest.mark.parametrize("library, file", [(key, file) for key, files in KERAS2_LAYOUT.items() for file in files])
def test_keras2_layout(written, library, file):
    directories, wanted = written
    checkpoint = open_checkpoint(directories[library] / file)
    values = {f"{scope}/{role}": value for scope, role, value in wanted[library]}
    assert checkpoint.format == "keras_hdf5" and not checkpoint.positional and len(values) == 21
    assert set(checkpoint) == set(values)
    for name, value in values.items():
        assert checkpoint.tensors[name] == (value.shape, "float32")
        np.testing.assert_array_equal(checkpoint[name], value, err_msg=name, strict=True)


@pytest.mark.parametrize("library, file", [(key, file) for key, files in KERAS3_LAYOUT.items() for file in files])
def test_keras3_layout(written, library, file):
    directories, wanted = written
    checkpoint = open_checkpoint(directories[library] / file)
    scopes = {
        scope: [value for other, _, value in wanted[library] if other == scope] for scope, _, _ in wanted[library]
    }
    values = {f"{scope}/{number}": value for scope, found in scopes.items() for number, value in enumerate(found)}
    assert checkpoint.positional and set(checkpoint) == set(values)
    for name, value in values.items():
        np.testing.assert_array_equal(checkpoint[name], value, err_msg=name, strict=True)


def test_without_names_the_paths_of_the_file_are_the_names(written):
    directories, wanted = written
    checkpoint = open_checkpoint(directories["tf_keras"] / "x.weights.h5")
    assert checkpoint.positional and "layer names unknown" in checkpoint.detail
    assert "layers/functional/layers/batch_normalization/3" in checkpoint
    kernel = next(value for scope, role, value in wanted["tf_keras"] if (scope, role) == ("shared", "kernel"))
    np.testing.assert_array_equal(checkpoint["layers/conv2d_1/0"], kernel)


@pytest.mark.parametrize("file", ["full.h5", "x.weights.h5", "model.keras"])
def test_optimizer_variables_are_mentioned_and_not_listed(written, file):
    checkpoint = open_checkpoint(written[0]["keras3"] / file)
    assert "optimizer variables not listed" in checkpoint.detail
    assert not any("adam" in name or "optimizer" in name for name in checkpoint)


@pytest.mark.parametrize("file", ["full.h5", "model.keras"])
def test_tensors_are_views_of_the_file(written, file):
    assert all(not array.flags.writeable for array in open_checkpoint(written[0]["keras3"] / file).values())


def test_archive_that_someone_compressed(written, tmp_path):
    source = written[0]["keras3"] / "model.keras"
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    ours, theirs = open_checkpoint(tmp_path / "m.keras"), open_checkpoint(source)
    assert list(ours) == list(theirs) and all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_chunked_attributes_and_layer_names_with_slashes(tmp_path):
    import tf_keras

    # Above 64512 bytes of names.
    layers = [tf_keras.layers.Dense(1, name=f"scope/{'long' * 80}_{number}") for number in range(200)]
    image = tf_keras.Input((1,))
    tf_keras.Model(image, [layer(image) for layer in layers]).save_weights(tmp_path / "long.h5")
    checkpoint = open_checkpoint(tmp_path / "long.h5")
    assert "layer_names0" in Hdf5File((tmp_path / "long.h5").read_bytes(), "").root.attrs
    assert len(checkpoint) == 400
    np.testing.assert_array_equal(checkpoint[f"{layers[170].name}/kernel"], layers[170].kernel.numpy())


def test_bfloat16_and_other_dtypes(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5, name="fc", dtype="bfloat16")])
    model.save_weights(tmp_path / "b.weights.h5")
    kernel = open_checkpoint(tmp_path / "b.weights.h5")["fc/0"]
    assert kernel.dtype.name == "bfloat16"
    np.testing.assert_array_equal(kernel.astype("float32"), np.asarray(model.layers[0].kernel, "float32"))


def test_bfloat16_of_which_the_file_says_nothing(tmp_path):
    """`save("m.h5")` of Keras 3 writes two opaque bytes a number, and no word of what they are."""
    import keras

    keras.Sequential([keras.Input((3,)), keras.layers.Dense(5, name="fc", dtype="bfloat16")]).save(tmp_path / "b.h5")
    words = "fc/kernel': holds opaque numbers of two bytes, as Keras 3 writes bfloat16 .* save the model as .keras"
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(tmp_path / "b.h5")


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", "<i8", "u1", "?"])
@pytest.mark.parametrize("layout", [{}, {"chunks": (2, 2), "compression": "gzip"}])
def test_dataset_layouts(tmp_path, dtype, layout):
    value = (np.arange(15).reshape(3, 5) % 2).astype(dtype)
    with keras3_file(tmp_path / "x.h5") as group:
        group.create_dataset("0", data=value, **layout)
    found = open_checkpoint(tmp_path / "x.h5")["layers/dense/0"]
    assert found.dtype.isnative and found.dtype.name == value.dtype.name
    np.testing.assert_array_equal(found, value)


def keras3_file(path: Path):
    """A context that gives the group of one layer's variables."""
    import h5py

    class Group:
        def __enter__(self):
            self.file = h5py.File(path, "w")
            return self.file.create_group("layers/dense/vars")

        def __exit__(self, *_):
            self.file.close()

    return Group()


@pytest.mark.parametrize(
    "layer, weight, name",
    [
        ("conv1", "conv1/kernel:0", "conv1/kernel"),
        ("conv1", "conv1_2/kernel:0", "conv1/kernel"),
        ("conv1", "net/conv1/kernel:0", "conv1/kernel"),
        ("conv1", "kernel", "conv1/kernel"),
        ("inner", "ic/kernel:0", "inner/ic/kernel"),
        ("inner", "inner/ic/kernel:0", "inner/ic/kernel"),
        ("fc/x", "fc/x/kernel:0", "fc/x/kernel"),
        ("conv1", "conv10/kernel", "conv1/conv10/kernel"),
        ("a.b", "axb/kernel", "a.b/axb/kernel"),
    ],
)
def test_canonical_names(layer, weight, name):
    assert canonical_name(layer, weight) == name


def test_colliding_names_keep_their_paths(tmp_path):
    import h5py

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["layer_names"] = ["conv"]
        group = file.create_group("conv")
        group.attrs["weight_names"] = ["conv_1/kernel:0", "conv_2/kernel:0"]
        for number in (1, 2):
            group.create_dataset(f"conv_{number}/kernel:0", data=[float(number)])
    checkpoint = open_checkpoint(tmp_path / "x.h5")
    assert {name: float(checkpoint[name][0]) for name in checkpoint} == {
        "conv/conv_1/kernel": 1,
        "conv/conv_2/kernel": 2,
    }


@pytest.mark.parametrize(
    "name", ["Conv2D", "PReLU", "DepthwiseConv2D", "Conv2DTranspose", "BatchNormalization", "MyLayerV2"]
)
def test_snake_case_is_keras_own(name):
    from keras.src.utils.naming import to_snake_case

    assert snake_case(name) == to_snake_case(name)


def test_names_of_keras_2_13(tmp_path):
    """Its archives count each layer with weights twice: conv2d, conv2d_2 (as Keras 2.13.1 wrote them when run)."""
    import h5py

    layers = [{"class_name": "Conv2D", "config": {"name": name}} for name in ("c1", "c2")]
    config = {"class_name": "Functional", "config": {"name": "net", "layers": layers}}
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for number, group in enumerate(("conv2d", "conv2d_2")):
            file.create_dataset(f"_layer_checkpoint_dependencies/{group}/vars/0", data=[float(number)])
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.13.1"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", stream.getvalue())
    checkpoint = open_checkpoint(tmp_path / "m.keras")
    assert {name: float(checkpoint[name][0]) for name in checkpoint} == {"c1/0": 0, "c2/0": 1}


def hostile(kind: str, path: Path) -> None:
    """Files that would make a plain reader follow other files, or read numbers that were never stored."""
    import h5py

    (path.parent / "secret").write_bytes(bytes(64))
    with h5py.File(path.parent / "other.h5", "w") as file:
        file.create_dataset("data", data=np.ones(4, "f"))
    with keras3_file(path) as group:
        if kind == "external link":
            group["0"] = h5py.ExternalLink("other.h5", "/data")
        elif kind == "soft link":
            group.create_dataset("1", data=np.ones(4, "f"))
            group["0"] = h5py.SoftLink("/layers/dense/vars/1")
        elif kind == "external storage":
            group.create_dataset("0", (4,), "f", external=[(str(path.parent / "secret"), 0, 16)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((4,), "f")
            layout[:] = h5py.VirtualSource(str(path.parent / "other.h5"), "data", (4,))
            group.create_virtual_dataset("0", layout)
        elif kind == "huge":
            group.create_dataset("0", (1 << 40,), "f")
        elif kind == "huge in chunks":
            group.create_dataset("0", (1 << 40,), "f", chunks=(1024,))
        elif kind == "text":
            group.create_dataset("0", data=["a", "b"])


@pytest.mark.parametrize(
    "kind, message",
    [
        ("external link", "'/layers/dense/vars/0' is a link to 'other.h5:/data', not followed"),
        ("soft link", "is a link to '/layers/dense/vars/1', not followed"),
        ("external storage", "dataset '/layers/dense/vars/0': its data are in another file, not followed"),
        ("virtual", "its data are in another file, not followed"),
        ("huge", r"shape \(1099511627776,\) float32, but its data are not in the file"),
        ("huge in chunks", "but its data are not in the file"),
        ("text", "wanted numbers"),
    ],
)
def test_hostile_files(tmp_path, kind, message):
    hostile(kind, tmp_path / "x.h5")
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / "x.h5")


def test_groups_in_a_circle_end(tmp_path):
    with keras3_file(tmp_path / "x.h5") as group:
        group.create_dataset("0", data=[1.0])
        group["again"] = group.file["layers"]
    assert list(open_checkpoint(tmp_path / "x.h5")) == ["layers/dense/0"]


def test_theano_kernels_are_refused(written, tmp_path):
    import h5py

    target = tmp_path / "theano.h5"
    target.write_bytes((written[0]["tf_keras"] / "only.h5").read_bytes())
    with h5py.File(target, "a") as file:
        file.attrs["backend"] = np.bytes_(b"theano")
    with pytest.raises(CheckpointError, match="Theano backend, whose kernels are turned by 180 degrees - load it"):
        open_checkpoint(target)


@pytest.mark.parametrize(
    "file, change, message",
    [
        ("full.h5", lambda data: data[: len(data) // 2], "full.h5: cut short or damaged .*truncated file"),
        ("full.h5", lambda data: data[:100], "cut short or damaged"),
        ("model.keras", lambda data: data[: len(data) // 2], "model.keras: cut short or damaged: a zip archive"),
        ("x.weights.json", lambda data: data, "its shard x_00000.weights.h5, .* is missing - copy it beside this file"),
    ],
)
def test_damaged_files(written, tmp_path, file, change, message):
    (tmp_path / file).write_bytes(change((written[0]["keras3"] / file).read_bytes()))
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / file)


def test_a_flipped_bit_in_an_archive_is_found(written, tmp_path):
    directories, wanted = written
    data = bytearray((directories["keras3"] / "model.keras").read_bytes())
    data[data.index(wanted["keras3"][0][2].tobytes()) + 3] ^= 1
    (tmp_path / "m.keras").write_bytes(data)
    with pytest.raises(CheckpointError, match="the CRC-32 of the record 'model.weights.h5' differs"):
        open_checkpoint(tmp_path / "m.keras")


def test_hdf5_of_something_else(tmp_path):
    import h5py

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("images", data=[1.0])
    with pytest.raises(CheckpointError, match="HDF5 without Keras weights"):
        open_checkpoint(tmp_path / "x.h5")


@pytest.mark.parametrize("seed", range(60))
def test_random_damage_never_ends_in_a_traceback(written, tmp_path, seed):
    """Eight random bytes anywhere in the metadata or data of a small file: read or CheckpointError."""
    random = np.random.default_rng(seed)
    data = bytearray((written[0]["keras3"] / "full.h5").read_bytes())
    for place in random.integers(0, len(data), 8):
        data[place] = random.integers(0, 256)
    (tmp_path / "x.h5").write_bytes(data)
    try:
        checkpoint = open_checkpoint(tmp_path / "x.h5")
        outcome = [checkpoint[name].shape == checkpoint.tensors[name].shape for name in checkpoint]
    except CheckpointError as error:
        outcome = [str(tmp_path) in str(error)]
    assert outcome and all(outcome)
