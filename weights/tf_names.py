"""Names for the variables of TensorFlow 2 object checkpoints, whose keys are paths through Python objects.

    optimizer/_trainable_variables/3/.ATTRIBUTES/VARIABLE_VALUE ──object graph──> full_name conv1/kernel

Keras 3 stores kernels under its optimizer only, so the path says nothing of the layer; `full_name` does. tf.Module
names every variable 'Variable', so a full_name that is not unique loses to the path.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, Mapping, Sequence, Set

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_EXPORTED, _EXPORTED_COPY = "variables/", "_all_variables/"


def full_names(nodes: Sequence[Any]) -> Dict[str, str]:
    """Full name by key, from the nodes of a TrackableObjectGraph."""
    return {saved.checkpoint_key: saved.full_name for node in nodes for saved in node.attributes}


def export_copies(checksums: Mapping[str, int], names: Mapping[str, str]) -> Set[str]:
    """The keys of second copies: Keras 3's `model.export` stores each variable under `variables` and `_all_variables`.

    Args:
        checksums: crc32c by key.
        names: full name by key.
    """
    first = {(names.get(key), crc) for key, crc in checksums.items() if key.startswith(_EXPORTED)}
    copies = [key for key in checksums if key.startswith(_EXPORTED_COPY)]
    return {key for key in copies if (names.get(key), checksums[key]) in first}


def variable_names(keys: Sequence[str], names_by_key: Mapping[str, str]) -> List[str]:
    """One name per key: its full name if no other key has it, else the object path, else the key itself.

    Args:
        keys: the keys of the checkpoint.
        names_by_key: its full names, empty for a Saver's checkpoint.
    """
    full_counts = Counter(names_by_key.get(key) for key in keys)
    full = {key: names_by_key.get(key) for key in keys if full_counts[names_by_key.get(key)] == 1}
    paths = [key[: -len(_VALUE)] if key.endswith(_VALUE) else key for key in keys]
    names = [full.get(key) or path for key, path in zip(keys, paths)]
    counts = Counter(names)
    # A path that is another variable's full name makes both ambiguous: the keys themselves are unique.
    return [name if counts[name] == 1 else key for name, key in zip(names, keys)]
