"""What people name when they mean a TensorFlow checkpoint, taken to the prefix its files share.

    P, P.index, P.meta, P.data-00000-of-00002, directory with a `checkpoint` text file, SavedModel directory  ──>  P

tf.train.load_checkpoint("P.index") succeeds and lists nothing (TensorFlow 2.21): hence the normalisation.
"""

from __future__ import annotations

import re
from pathlib import Path

_FILE_OF_A_CHECKPOINT = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_NEWEST = re.compile(r'^\s*model_checkpoint_path:\s*"(.*)"', re.MULTILINE)


def checkpoint_prefix(path: Path) -> Path:
    """The prefix of the checkpoint that `path` names; whether its files exist is not looked at."""
    if path.is_dir():
        return _prefix_in(path)
    if path.name == "checkpoint" and path.is_file():
        return _newest(path)
    if path.name == "saved_model.pb":
        return path.parent / "variables" / "variables"
    return path.with_name(_FILE_OF_A_CHECKPOINT.sub("", path.name) or path.name)


def index_file(prefix: Path) -> Path:
    """The index file of a V2 checkpoint."""
    return prefix.with_name(prefix.name + ".index")


def data_file(prefix: Path, shard: int, shards: int) -> Path:
    """The data file number `shard` of a V2 checkpoint in `shards` files."""
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")


def _prefix_in(directory: Path) -> Path:
    if (directory / "checkpoint").is_file():
        return _newest(directory / "checkpoint")
    if (directory / "saved_model.pb").is_file():
        return directory / "variables" / "variables"
    indexes = sorted(directory.glob("*.index"))
    return indexes[0].with_suffix("") if len(indexes) == 1 else directory / "checkpoint"


def _newest(state: Path) -> Path:
    found = _NEWEST.search(state.read_bytes()[:65536].decode("utf-8", "replace"))
    if not found:
        return state
    named = state.parent / found.group(1)
    # An absolute path goes stale when the directory is copied elsewhere; its files are still beside the state file.
    if not (index_file(named).exists() or named.is_file()):
        return state.parent / re.split(r"[\\/]+", found.group(1))[-1]
    return named
