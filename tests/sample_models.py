"""The four sample models as tests name them: which overrides point a config at the files in a sample directory."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List

FILES: Dict[str, Dict[str, str]] = {
    # key of the config: file in the sample's directory
    "model1": {"weights.path": "model.ckpt", "reference.graph": "model.ckpt.meta"},
    "model2": {"weights.path": "resnet50_skips.h5", "reference.keras": "resnet50_skips.h5"},
    "model3": {"weights.path": "model.ckpt-2", "reference.graph": "inference.meta"},
    "model4": {"weights.path": "resnet50.pth"},
}
LAYERS = {"model1": 22, "model2": 188, "model3": 189, "model4": 175}


def overrides_of(name: str, directory: Path) -> List[str]:
    """`--set` strings for the config of that name."""
    return [f"{key}={directory / file}" for key, file in FILES[name].items()]
