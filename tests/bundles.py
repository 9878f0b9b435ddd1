"""A small bundle for tests: SMALL with what PyTorch computes of it, bundled by the command line; ways to damage it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np

from deploy.bundle_manifest import MANIFEST, SAMPLES, WEIGHTS, sealed
from engine.manifest import sha256_of_files
from run import main
from tests.small_models import SMALL, torch_arrays, write_small
from verify.recorded import Origin, record
from verify.verification import Activations

RECORDED = "reference: {activations: small.activations.safetensors}\n"
DYNAMIC = "batch: {min: 1, opt: 2, max: 4}\n"


def write_config(directory: Path, batch: int = 0) -> Path:
    """small.yaml, its weights, and its activations as PyTorch computed them; with a batch a dynamic one."""
    text = SMALL.replace("layers:\n", RECORDED + "layers:\n")
    if batch:
        text = text.replace("shape: [1,", "shape: [-1,").replace("layers:\n", DYNAMIC + "layers:\n")
    config = write_small(directory, text)
    origin = Origin("small", sha256_of_files([directory / "small.safetensors"]))
    record(directory / "small.activations.safetensors", torch_activations(batch or 1), origin)
    return config


def torch_activations(batch: int) -> Activations:
    """SMALL on random images, layer by layer, by PyTorch's functions."""
    import torch
    from torch.nn import functional

    arrays = {name: torch.from_numpy(array) for name, array in torch_arrays().items()}
    image = np.random.default_rng(1).standard_normal((batch, 2, 7, 9), dtype=np.float32)
    conv = functional.conv2d(torch.from_numpy(image), arrays["conv.weight"], arrays["conv.bias"], stride=2)
    statistics = (arrays["bn.running_mean"], arrays["bn.running_var"])
    bn = functional.batch_norm(conv, *statistics, arrays["bn.weight"], arrays["bn.bias"], eps=1e-3)
    relu = functional.relu(bn)
    flat = relu.flatten(1)
    made = {"conv": conv, "bn": bn, "relu": relu, "flat": flat}
    made["fc"] = functional.linear(flat, arrays["fc.weight"], arrays["fc.bias"])
    names = {name: f"torch.{name}" for name in made}
    plain = {name: tensor.numpy() for name, tensor in made.items()}
    return Activations(plain, names, {"image": image}, f"PyTorch {torch.__version__}", "a random image")


def write_small_bundle(directory: Path, *words: str, batch: int = 0) -> Path:
    """The bundle's folder."""
    config, folder = write_config(directory, batch), directory / "bundle"
    assert main(["bundle", "--config", str(config), "--output", str(folder), "-q", *words]) == 0
    return folder


def resealed(folder: Path, name: str, change: Callable[[bytes], bytes], **other: Any) -> None:
    """Changes a file and seals the bundle anew, as one made of other content, or with other facts, would be."""
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    facts = json.loads((folder / MANIFEST).read_bytes())
    files = {each: (folder / each).read_bytes() for each in facts["files"]}
    kept = {key: value for key, value in facts.items() if key not in ("kind", "files", "seal")}
    (folder / MANIFEST).write_bytes(sealed({**kept, **other}, files))


def with_tensor(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[bytes], bytes]:
    """A change of one tensor of a safetensors file; its metadata stays."""
    from safetensors.numpy import load, save

    def changed(content: bytes) -> bytes:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        tensors: Dict[str, np.ndarray] = dict(load(content))
        tensors[name] = np.ascontiguousarray(change(tensors[name]))
        return save(tensors, header.get("__metadata__"))

    return changed


def files_of(folder: Path) -> List[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


__all__ = ["SAMPLES", "WEIGHTS", "files_of", "resealed", "with_tensor", "write_config", "write_small_bundle"]
