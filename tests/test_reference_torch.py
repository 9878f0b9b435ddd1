"""References in PyTorch: names of modules and functions, in-place operations, weights as checkpoints hold them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_reference import Case, assert_close, config, opened, random_image, randomise_torch  # noqa: E402

from spec.errors import ConfigError, UsageError, VerificationError  # noqa: E402
from verify.reference import reference_names, unresolved  # noqa: E402
from verify.torch_recorder import Recorder  # noqa: E402

IMAGE = "shape: [1, 3, 9, 7], dtype: float32, layout: NCHW"
SOURCE = '''
import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """relu is one module called twice, in place; the sum is in place too."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y += x
        return self.relu(y)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.block = nn.Conv2d(3, 4, 3, stride=2), Block()
        self.fc = nn.Linear(48, 5)

    def forward(self, x):
        x = functional.relu(self.conv(x), inplace=True)
        x = self.block(x)
        return self.fc(x.view(x.size(0), -1))


def build():
    return Net()


def build_nothing():
    return 3
'''
LAYERS = [
    "convolution: {name: conv, filters: 4, kernel: 3, stride: 2, padding: 0, bias: true}",
    "activation: {name: relu, function: relu}",
    "convolution: {name: block.conv1, filters: 4, kernel: 3, stride: 1, padding: 1, bias: false}",
    "batch_norm: {name: block.bn1, epsilon: 1.0e-5}",
    "activation: {name: block.relu1, function: relu, reference: [block.relu#1]}",
    "elementwise: {name: block.add, inputs: [block.relu1, relu], function: sum}",
    "activation: {name: block.relu2, function: relu, reference: [block.act2, block.relu#2]}",
    "flatten: {name: flatten, order: NCHW, reference: [':flatten', ':view']}",
    "dense: {name: fc, units: 5, bias: true}",
]


def network(folder: Path, source: str = SOURCE):
    """The network of SOURCE with random weights, and its module's name, which is new in every test."""
    name = f"source_{abs(hash(str(folder)))}"
    (folder / f"{name}.py").write_text(source)
    scope: dict = {}
    exec(source, scope)
    return randomise_torch(scope["build"]()), name


def case(
    folder: Path,
    weights: str = "path: ../net.pth",
    function: str = "build",
    layers: List[str] = LAYERS,
    source: str = SOURCE,
) -> Case:
    module, name = network(folder, source)
    if not list(folder.glob("net.*")):
        torch.save(module.state_dict(), folder / "net.pth")
    path = folder / "configs" / "net.yaml"
    return opened(config(path, IMAGE, weights, f"callable: '{name}:{function}'", layers))


def test_every_layer_has_its_tensor(tmp_path):
    found = case(tmp_path)
    assert reference_names(*found) == {
        "conv": "conv",
        "relu": ":relu",
        "block.conv1": "block.conv1",
        "block.bn1": "block.bn1",
        "block.relu1": "block.relu#1",
        "block.add": "block:add",
        "block.relu2": "block.relu#2",
        "flatten": ":view",
        "fc": "fc",
    }
    order = [":relu", "block.conv1", "block.bn1", "block.relu#1", "block:add", "block.relu#2", "block", ":view", "fc"]
    assert found.reference.names() == ["conv", *order]
    assert "PyTorch" in found.reference.title and "net.pth" in found.reference.title


def test_relu_and_relu6_are_known_by_module_and_by_function(tmp_path):
    source = SOURCE.replace("functional.relu(self.conv(x), inplace=True)", "functional.relu6(self.conv(x))")
    reference = case(tmp_path, source=source).reference
    assert {name: reference.function(name) for name in ("block.relu#1", ":relu6", "block:add", "fc", "block")} == {
        "block.relu#1": "relu", ":relu6": "relu6", "block:add": None, "fc": None, "block": None,
    }  # fmt: skip


def test_what_is_overwritten_in_place_is_kept(tmp_path):
    found, (module, _) = case(tmp_path), network(tmp_path)
    module.load_state_dict(torch.load(tmp_path / "net.pth", weights_only=True))
    image = random_image(1, 3, 9, 7)
    arrays = found.run(image=image).arrays
    with torch.no_grad():  # written out, nothing in place
        x = module.conv(torch.from_numpy(image))
        wanted = {"conv": x.clone(), "relu": x.clip(min=0)}
        wanted["block.conv1"] = module.block.conv1(wanted["relu"])
        wanted["block.bn1"] = module.block.bn1(wanted["block.conv1"])
        wanted["block.relu1"] = wanted["block.bn1"].clip(min=0)
        wanted["block.add"] = wanted["block.relu1"] + wanted["relu"]
        wanted["block.relu2"] = wanted["block.add"].clip(min=0)
        wanted["flatten"] = wanted["block.relu2"].reshape(1, 48)
        wanted["fc"] = module.fc(wanted["flatten"])
    assert list(arrays) == list(wanted)
    for name, tensor in wanted.items():
        assert_close(arrays[name], tensor.numpy())
    assert (arrays["conv"] < 0).any() and (arrays["block.bn1"] < 0).any()


def test_the_module_is_left_as_it_was(tmp_path):
    module, _ = network(tmp_path)
    recorder = Recorder(module)
    recorder.run(torch.zeros(1, 3, 9, 7))
    assert recorder.kept == {} and len(recorder.made) == 10
    assert all(not each._forward_hooks and not each._forward_pre_hooks for each in module.modules())


def test_names_of_functions():
    class Functions(torch.nn.Module):
        def forward(self, x):
            y = 1 - x
            y = torch.cat([y, torch.concat([x, x])])
            y *= 2
            values, indices = y.topk(2)
            return {"best": values, "where": indices[0] + torch.max_pool2d(x, 2).sum().long(), "count": 3}

    recorder = Recorder(Functions())
    recorder.run(torch.zeros(2, 3, 4, 4))
    names = recorder.names()
    assert [*names][:6] == [":sub", ":cat#1", ":cat#2", ":mul", ":topk", ":topk:1"]
    assert {":getitem", ":max_pool2d", ":sum", ":add"} <= set(names)


WEIGHTS = {
    # how the tensors are stored -> what the config says of it
    "bare": ("path: ../net.pth", lambda state: state),
    "under a key": ("path: ../net.pth", lambda state: {"epoch": 3, "state_dict": state}),
    "DataParallel": (
        "path: ../net.pth, prefix: module.",
        lambda state: {"model": {f"module.{name}": each for name, each in state.items()}, "optimizer": {"state": {}}},
    ),
    "two, by key": (
        "path: ../net.pth, key: ema.model",
        lambda state: {"model": {name: each + 1 for name, each in state.items()}, "ema": {"model": state}},
    ),
    "half precision": ("path: ../net.pth", lambda state: {name: each.half() for name, each in state.items()}),
    "something more": (
        "path: ../net.pth, ignore: ['extra.*']",
        lambda state: {**state, "extra.weight": torch.zeros(1)},
    ),
}


@pytest.mark.parametrize("how", WEIGHTS)
def test_weights(how, tmp_path):
    module, _ = network(tmp_path)
    text, stored = WEIGHTS[how]
    torch.save(stored(module.state_dict()), tmp_path / "net.pth")
    if how == "half precision":
        module = module.half().float()
    image = random_image(1, 3, 9, 7)
    with torch.no_grad():
        wanted = module(torch.from_numpy(image)).numpy()
    assert_close(case(tmp_path, text).run(image=image).arrays["fc"], wanted)


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    module, _ = network(tmp_path)
    safetensors.save_file(module.state_dict(), tmp_path / "net.safetensors")
    found = case(tmp_path, "path: ../net.safetensors")
    image = random_image(1, 3, 9, 7)
    assert_close(found.run(image=image).arrays["fc"], module(torch.from_numpy(image)).detach().numpy())


def renamed(state: dict) -> dict:
    return {name.replace("fc.", "head."): each for name, each in state.items()}


UNFIT = {
    "missing and unused": (renamed, "path: ../net.pth", "missing fc.weight, fc.bias; unused head.weight, head.bias"),
    "prefix": (lambda s: s, "path: ../net.pth, prefix: module., key: model", "no tensors under weights.key 'model'"),
    "ambiguous": (lambda s: {"a": s, "b": s}, "path: ../net.pth", "2 state_dicts in it ('a', 'b')"),
    "shape": (lambda s: {**s, "fc.bias": torch.zeros(4)}, "path: ../net.pth", "size mismatch for fc.bias"),
    "no tensors": (lambda s: {"epoch": 3}, "path: ../net.pth", "0 state_dicts in it (none)"),
    "code": (lambda s: {"model": torch.nn.ReLU()}, "path: ../net.pth", "PyTorch refuses it"),
}


@pytest.mark.parametrize("how", UNFIT)
def test_weights_that_do_not_fit(how, tmp_path):
    stored, text, message = UNFIT[how]
    torch.save(stored(network(tmp_path)[0].state_dict()), tmp_path / "net.pth")
    with pytest.raises(VerificationError) as caught:
        case(tmp_path, text)
    assert message in str(caught.value) and "net.yaml:5: weights.path" in str(caught.value)


def test_weights_cut_short(tmp_path):
    torch.save(network(tmp_path)[0].state_dict(), tmp_path / "net.pth")
    whole = (tmp_path / "net.pth").read_bytes()
    (tmp_path / "net.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VerificationError, match=r"net\.pth is damaged: .*zip archive"):
        case(tmp_path)


@pytest.mark.parametrize(
    "function, message",
    [
        ("biuld", "no function 'biuld' in source_.*; did you mean 'build'"),
        ("build_nothing", "returned a int, wanted a torch.nn.Module"),
    ],
)
def test_wrong_callable(function, message, tmp_path):
    with pytest.raises(UsageError, match=message) as caught:
        case(tmp_path, function=function)
    assert "net.yaml:6: reference.callable" in str(caught.value)


FOREIGN = {
    # what the user's own code does wrong: (its text, wrong instead of right; what was called; what it raised)
    "call": ("    return Net()", "    return Net(depth=50)", "build()", "TypeError: ", "unexpected keyword"),
    "arguments": ("def build():", "def build(depth):", "build()", "TypeError: ", "missing 1 required"),
    "forward": (
        "        x = self.block(x)", "        x = self.block({}['x'])", "forward on [1, 3, 9, 7]", "KeyError: ", "'x'"
    ),
    "shape": ("self.fc(x.view(x.size(0), -1))", "self.fc(x)", "forward on [1, 3", "RuntimeError: ", "mat1 and mat2"),
    "syntax": ("class Net(nn.Module):", "class Net(nn.Module:", "import of source_", "SyntaxError: ", ""),
    "import": ("import torch\n", "import nothing_of_this_name\n", "import of source_", "ModuleNotFoundError: ", ""),
    "exit": ("def build_nothing", "raise SystemExit(2)\ndef build_nothing", "import of source_", "SystemExit: ", "2"),
}  # fmt: skip


@pytest.mark.parametrize("how", FOREIGN)
def test_errors_in_the_users_own_code(how, tmp_path):
    module, name = network(tmp_path)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    right, wrong, called, kind, says = FOREIGN[how]
    source = tmp_path / f"{name}.py"
    text = source.read_text().replace(right, wrong, 1)
    source.write_text(text)
    path = config(tmp_path / "configs" / "net.yaml", IMAGE, "path: ../net.pth", f"callable: '{name}:build'", LAYERS)
    with pytest.raises(VerificationError) as caught:
        opened(path)
    (message,) = str(caught.value).splitlines()
    assert message.startswith(f"{path}:6: reference.callable: ")
    assert called in message and f"raised {kind}" in message and says in message
    line = text[: text.index(wrong)].count("\n") + 1
    assert f", at {source}:{line} - " in message or how == "arguments" and ", at " not in message, message


def test_module_that_is_nowhere(tmp_path):
    text = config(tmp_path / "configs" / "a.yaml", IMAGE, "path: x", "callable: 'nowhere_at_all:build'", LAYERS)
    with pytest.raises(UsageError, match="cannot import 'nowhere_at_all'.*looked in"):
        opened(text)


def test_given_names_are_checked(tmp_path):
    module, name = network(tmp_path)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    reference = f"callable: '{name}:build', tensors: {{conv: block.conv2, blok.conv1: conv}}"
    found = opened(config(tmp_path / "configs" / "net.yaml", IMAGE, "path: ../net.pth", reference, LAYERS))
    with pytest.raises(ConfigError) as caught:
        reference_names(*found)
    first, second = caught.value.problems
    assert "layer 'conv': PyTorch" in first and "no tensor 'block.conv2'; did you mean 'block.conv1'?" in first
    assert (
        "'blok.conv1' is no layer; did you mean 'block.conv1'?" in second and "net.yaml:6: reference.tensors" in first
    )


def test_layers_without_a_tensor_are_named_with_the_nearest(tmp_path):
    layers = [layer.replace("name: block.bn1", "name: block.bm1") for layer in LAYERS]
    found = case(tmp_path, layers=layers)
    activations = found.run(image=random_image(1, 3, 9, 7))
    assert (
        set(found.layer_names) - set(activations.arrays)
        == {"block.bm1"}
        == set(found.layer_names) - set(activations.names)
    )
    message, everything, guesses = unresolved(found.graph, found.reference, activations.names)
    assert "layer 'block.bm1'" in message and "did you mean 'block.bn1'?" in message
    assert "has, in order: " in everything
    assert guesses.endswith('add to `reference`: tensors: {"block.bm1": "block.bn1"}')


def test_preprocessing_that_the_model_leaves_to_others_is_said_to_be_fed(tmp_path):
    case(tmp_path)
    path, before = tmp_path / "configs" / "net.yaml", "layout: NCHW"
    path.write_text(path.read_text().replace(before, f"{before}, preprocessing: {{mean: 0.5, std: 2.0}}"))
    found = opened(path)
    names = found.run(image=random_image(1, 3, 9, 7)).names
    message = unresolved(found.graph, found.reference, names)[0]
    assert "no tensor for 'image/normalised' - " in message and "say reference: {feed: preprocessed}; else" in message
    path.write_text(path.read_text().replace("reference: {", "reference: {feed: preprocessed, "))
    cured = opened(path)
    assert unresolved(cured.graph, cured.reference, cured.run(image=random_image(1, 3, 9, 7)).names) == []


def test_a_layer_without_a_tensor_is_guessed_by_what_the_reference_calls_next(tmp_path):
    unnamed = [layer.replace(", reference: [block.relu#1]", "") for layer in LAYERS]
    layers = [layer.replace("block.relu1", "block.a") for layer in unnamed]
    found = case(tmp_path, layers=layers)
    message = unresolved(found.graph, found.reference, reference_names(*found))[0]
    assert "layer 'block.a'" in message and "did you mean 'block.relu#1'?" in message


def test_the_module_may_lie_beside_the_config(tmp_path, monkeypatch):
    module, name = network(tmp_path)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = config(tmp_path / "net.yaml", IMAGE, "path: net.pth", f"callable: '{name}:build'", LAYERS)
    assert "conv" in opened(path).reference.names()


SHADOWS = {
    # in the folder of the config: what would answer `import packaging` in the place of what is installed
    "a module": "packaging.py",
    "a package": "packaging/__init__.py",
    "a folder": "packaging/version/config.py",
}


@pytest.mark.parametrize("file", SHADOWS.values(), ids=SHADOWS)
def test_what_lies_beside_the_config_stands_in_for_nothing_installed(file, tmp_path, monkeypatch):
    loaded = [name for name in sys.modules if name.split(".")[0] == "packaging"]
    for name in loaded:
        monkeypatch.delitem(sys.modules, name)
    module, name = network(tmp_path, "import packaging.version\n" + SOURCE)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("raise SystemExit('not the installed one')\n")
    path = config(tmp_path / "net.yaml", IMAGE, "path: net.pth", f"callable: '{name}:build'", LAYERS)
    before = list(sys.path), list(sys.meta_path)
    assert "conv" in opened(path).reference.names()
    assert (list(sys.path), list(sys.meta_path)) == before


def test_a_folder_of_something_else_is_no_package_that_is_not_installed(tmp_path):
    """A Triton model repository: `import triton` has to fail where triton is not installed, as PyTorch expects."""
    (tmp_path / "nothing_installed" / "net" / "1").mkdir(parents=True)
    probe = "try:\n    import nothing_installed\nexcept ImportError:\n    pass\nelse:\n    raise SystemExit('found')\n"
    module, name = network(tmp_path)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    (tmp_path / f"{name}.py").write_text(probe + SOURCE)
    path = config(tmp_path / "net.yaml", IMAGE, "path: net.pth", f"callable: '{name}:build'", LAYERS)
    assert "conv" in opened(path).reference.names()


@pytest.mark.parametrize("package", [True, False], ids=["package", "folder"])
def test_the_module_may_import_its_neighbours_even_when_it_is_called(package, tmp_path, monkeypatch):
    module, name = network(tmp_path)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder = tmp_path / f"parts_{name}"
    folder.mkdir()
    (tmp_path / f"{name}.py").rename(folder / "net.py")
    if package:
        (folder / "__init__.py").touch()
    asked = f"def build():\n    from parts_{name}.net import build\n    return build()\n"
    (tmp_path / f"asked_{name}.py").write_text(asked)
    path = config(tmp_path / "net.yaml", IMAGE, "path: net.pth", f"callable: 'asked_{name}:build'", LAYERS)
    assert "conv" in opened(path).reference.names()


def test_the_module_asked_for_comes_before_an_installed_one(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "this", raising=False)
    module, name = network(tmp_path)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    (tmp_path / f"{name}.py").rename(tmp_path / "this.py")
    path = config(tmp_path / "net.yaml", IMAGE, "path: net.pth", "callable: 'this:build'", LAYERS)
    assert "conv" in opened(path).reference.names()
    monkeypatch.delitem(sys.modules, "this")


@pytest.mark.parametrize("name", ["block.add", "block/add"])
def test_a_function_of_a_module_needs_no_name(name, tmp_path):
    found = case(tmp_path, layers=[layer.replace("block.add", name) for layer in LAYERS])
    assert reference_names(*found)[name] == "block:add"


def test_images_in_another_layout_and_type(tmp_path):
    """The engine takes uint8 n h w c; the module gets the same numbers as float32 n c h w."""
    module, name = network(tmp_path)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    image = "shape: [1, 9, 7, 3], dtype: uint8, layout: NHWC"
    path = config(tmp_path / "configs" / "net.yaml", image, "path: ../net.pth", f"callable: '{name}:build'", LAYERS)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 9, 7, 3), dtype=np.uint8)
    found = opened(path).run(image=pixels)
    wanted = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32))
    np.testing.assert_array_equal(found.arrays["image/cast"], pixels.astype(np.float32))
    np.testing.assert_array_equal(found.arrays["image/nchw"], wanted.numpy())
    assert_close(found.arrays["fc"], module(wanted).detach().numpy())


def test_preprocessed(tmp_path):
    """feed: preprocessed: the module gets (x * scale - mean) / std with reversed channels; so do our layers."""
    module, name = network(tmp_path)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    image = (
        "shape: [1, 9, 7, 3], dtype: uint8, layout: NHWC, "
        "preprocessing: {scale: 1/255, mean: [0.1, 0.2, 0.3], std: [0.4, 0.5, 0.6], swap_channels: true}"
    )
    reference = f"callable: '{name}:build', feed: preprocessed"
    path = config(tmp_path / "configs" / "net.yaml", image, "path: ../net.pth", reference, LAYERS)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 9, 7, 3), dtype=np.uint8)
    found = opened(path)
    arrays = found.run(image=pixels).arrays
    assert list(arrays) == found.layer_names
    bgr = pixels[..., ::-1].astype(np.float64)
    wanted = ((bgr / 255 - [0.1, 0.2, 0.3]) / [0.4, 0.5, 0.6]).transpose(0, 3, 1, 2).astype(np.float32)
    np.testing.assert_array_equal(arrays["image/swap"], bgr.transpose(0, 3, 1, 2).astype(np.float32))
    np.testing.assert_array_equal(arrays["image/normalised"], wanted)
    assert_close(arrays["fc"], module(torch.from_numpy(np.ascontiguousarray(wanted))).detach().numpy())
    raw = opened(path, ["reference.feed=raw"]).run(image=pixels).arrays
    assert set(arrays) - set(raw) == {"image/swap", "image/normalised"}
    assert np.abs(raw["fc"] - arrays["fc"]).max() > 0.1
