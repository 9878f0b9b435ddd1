"""Plans with manifests and the repositories made of them, for the tests of deploy.triton: any bytes serve as a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Sequence

from deploy.triton import Published, checked_sources, publish
from deploy.triton_config import ServingOptions
from engine.manifest import write_plan

IMAGE = {"name": "image", "shape": [1, 8, 9, 3], "dtype": "uint8", "layout": "NHWC"}
PROB = {"name": "prob", "shape": [1, 5], "dtype": "float32", "layout": None}


def made_plan(directory: Path, content: bytes = b"plan", capability: str = "", batch: Any = None, **more: Any) -> Path:
    """A plan file and its manifest; with a batch, image and prob have a dynamic one."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = {"inputs": [dict(IMAGE)], "outputs": [dict(PROB)]}
    for row in (*rows["inputs"], *rows["outputs"]) if batch else ():
        row["shape"] = [-1, *row["shape"][1:]]
    manifest: Dict[str, Any] = {"tensorrt": {"name": "tensorrt", "version": "8.5.3.1"}, "batch": batch, **rows}
    if capability:
        manifest["gpu"] = {"name": f"GPU of {capability}", "compute_capability": capability}
    write_plan(directory / "m.plan", content, {**manifest, **more})
    return directory / "m.plan"


def publish_plans(repository: Path, *plans: Path, keep: int = 0, **options: Any) -> Published:
    """Publishes as model `m`; options are fields of ServingOptions."""
    return publish(repository, "m", checked_sources(plans), ServingOptions(**options), keep)


def valid_models(repository: Path) -> Sequence[Path]:
    """The models of a repository; fails where Triton would not start with it: every folder must be a whole model."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    from deploy.triton import _versions
    from engine.plan_check import read_manifest

    models = [path for path in sorted(repository.iterdir()) if path.is_dir()]
    for model in models:
        config = text_format.Parse((model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
        assert config.name == model.name and config.platform == "tensorrt_plan"
        versions = _versions(model)
        assert versions, f"{model}: no version"
        names = set(config.cc_model_filenames.values()) or {"model.plan"}
        for version in versions:
            for name in names:
                read_manifest(model / str(version) / name)
        assert all(not output.label_filename or (model / output.label_filename).is_file() for output in config.output)
    return models
