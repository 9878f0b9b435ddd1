"""The configs a command works on: found by path or by name, loaded, expanded and checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Sequence, Tuple

from spec.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from spec.graph import Graph
    from spec.model import ModelSpec

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def find_config(word: str) -> Path:
    """A path as it is, or the name of a file in configs/, with or without `.yaml`.

    Raises:
        UsageError: neither exists; names the nearest config.
    """
    for path in (Path(word), CONFIGS / word, CONFIGS / f"{word}.yaml"):
        if os.path.isfile(path):  # Path.is_file raises where a name is too long or a directory is closed
            return path
    if os.path.isdir(word):
        raise UsageError(f"--config {word}: is a folder; wanted a YAML file, or for the main job a bundle's folder")
    known = sorted(path.name for path in CONFIGS.glob("*.yaml"))
    hint = did_you_mean(Path(word).name, known) or (f"; in {CONFIGS.name}/: {', '.join(known)}" if known else "")
    raise UsageError(f"--config {word}: no such file{hint}")


def load_graph(word: str, overrides: Sequence[str]) -> Tuple[ModelSpec, Graph]:
    """The model of a config and the graph its builder makes of it."""
    from builders import ARCHITECTURES, expand
    from spec.graph import build_graph
    from spec.load import load_model

    model = load_model(find_config(word), ARCHITECTURES, overrides)
    return model, build_graph(model, expand(model))


def shown(path: Path) -> str:
    """A path as a person would type it: relative to here where it lies below."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
