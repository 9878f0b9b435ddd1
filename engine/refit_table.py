"""What a refit must find again: the `refit` table in the manifest of a refittable plan, and how a config differs.

    build: Definition ---> refit_table ---> manifest["refit"]  ─┐
    refit: Definition of the new checkpoint ---> refit_table  ──┴─> check_network: one sentence a mismatch
"""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from engine.build_options import PlanOptions
from engine.manifest import describe_tensors
from engine.network import Definition
from spec.errors import PlanError, listed
from spec.graph import Graph

SOURCES = {"tensors", "scope", "reference"}
"""Keys of a layer that say where its numbers come from, not what it computes."""

KEYS = {"model": str, "tensors": dict, "layers": dict, "weights": dict}
BESIDE = {"inputs": list, "outputs": list, "batch": (dict, type(None)), "ranges": (dict, type(None)),
          "build_seconds": (int, float)}  # fmt: skip
"""What a refit reads in the table, and in the manifest beside it, and what a build writes there."""

TEXTS = ("tensors", "layers", "weights")
"""Those of them that hold texts by name."""

Table = Mapping[str, Any]
TensorNames = Mapping[Tuple[str, str], str]


def refit_option(options: PlanOptions) -> str:
    """The option that wants a table in the manifest, if any: a stripped plan is filled by a refit."""
    return "--refit" if options.refit else "--strip-weights" if options.strip_weights else ""


def refit_table(definition: Definition, tensor_names: TensorNames) -> Dict[str, Any]:
    """The table: JSON values, each layer and each weight a line.

    `tensors`: layer:role -> tensor name; one that is not there is called `layer:role`. `layers`: name -> digest of its
    type and keys. `weights`: name -> `float32 64x3x7x7 SHA256` of the array that TensorRT was given, axes as in the
    network.
    """
    return {
        "model": definition.graph.name,
        "tensors": {":".join(slot): name for slot, name in tensor_names.items()},
        "layers": {layer.name: _digest_of_layer(layer) for layer in definition.graph.layers},
        "weights": {name: _described(array) for name, array in definition.named.items()},
    }


def _digest_of_layer(layer: Any) -> str:
    keys = layer.model_dump(mode="json", exclude=SOURCES)
    return hashlib.sha256(json.dumps([layer.type, keys], sort_keys=True).encode()).hexdigest()[:12]


def _described(array: np.ndarray) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8)).hexdigest()
    return f"{array.dtype} {'x'.join(map(str, array.shape)) or 'scalar'} {digest}"


def table_of(path: Path, manifest: Mapping[str, Any]) -> Table:
    """The table in the manifest of a plan.

    Raises:
        PlanError: there is none, so the plan was built without --refit, or it was damaged.
    """
    if "refit" not in manifest:
        raise PlanError(f"{path}: was built without --refit, so its weights are fixed; build it again with --refit")
    found: Table = manifest["refit"]
    damaged = [f"refit.{key}" for key, kind in KEYS.items() if not _is_whole(found, key, kind)]
    damaged += [key for key, kind in BESIDE.items() if not _is_whole(manifest, key, kind)]
    if damaged:
        raise PlanError(f"{path}.json: was damaged: {', '.join(damaged)}; copy it again, or build the plan again")
    return found


def _is_whole(holder: Any, key: str, kind: Any) -> bool:
    """Whether the value of a key is there and what a build writes."""
    if not isinstance(holder, dict) or key not in holder or not isinstance(holder[key], kind):
        return False
    return key not in TEXTS or all(isinstance(row, str) for row in holder[key].values())


def tensor_names_of(table: Table) -> Dict[Tuple[str, str], str]:
    """What a plan calls its weights, by (layer, role): the names in the checkpoint that it was built from."""
    return {tuple(slot.rsplit(":", 1)): name for slot, name in table["tensors"].items()}  # type: ignore[misc]


def refit_command(path: Path, manifest: Mapping[str, Any]) -> str:
    """What sets the weights of a plan anew, with the config of its build, or that its bundle was made from."""
    made_from = (manifest.get("bundle") or {}).get("made_from") or {}
    source = made_from.get("config") or manifest.get("config") or {}
    precision, tensorrt = manifest.get("precision"), manifest["tensorrt"]["name"]
    words = ["--config", str(source.get("file", "FILE")), *(f"--set={each}" for each in source.get("set") or [])]
    words += ["--precision", precision] if isinstance(precision, str) else []
    return shlex.join(["run.py", "refit", *words, "--backend", tensorrt, "--plan", str(path)])


def unchanged_weights(before: Table, after: Table) -> List[str]:
    """Names of the weights whose numbers are the same in two tables."""
    return [name for name, row in after["weights"].items() if before["weights"].get(name) == row]


def check_config(path: Path, manifest: Mapping[str, Any], graph: Graph) -> None:
    """Whether a plan is of this model, with these inputs and outputs; raises PlanError with every mismatch."""
    name = manifest["refit"]["model"]
    if name != graph.name:
        raise PlanError(f"{path}: is a plan of '{name}', the config is of '{graph.name}'; give the plan's own config")
    batch = graph.batch.model_dump() if graph.batch else None
    found = {
        # what the config says: how the plan's manifest is put beside it
        "inputs": (_tensors(manifest["inputs"]), _tensors(describe_tensors(graph, [*graph.inputs]))),
        "outputs": (_tensors(manifest["outputs"]), _tensors(describe_tensors(graph, graph.outputs))),
        "batch": (_bounds(manifest["batch"]), _bounds(batch)),
    }
    _refuse(path, manifest, [
        f"its {word}: {plan}; the config says {here}" for word, (plan, here) in found.items() if plan != here
    ])  # fmt: skip


def check_network(path: Path, manifest: Mapping[str, Any], table: Table) -> None:
    """Whether a plan has the layers and the weights of a table; raises PlanError with every mismatch."""
    built = manifest["refit"]
    layers = _differing(built["layers"], table["layers"])
    before, after = _kinds(built), _kinds(table)
    absent = "absent"
    weights = [f"{name} ({before.get(name, absent)} in the plan, {after.get(name, absent)} here)"
               for name in _differing(before, after)]  # fmt: skip
    found = (("layers", layers), ("weights", weights))
    _refuse(path, manifest, [f"{len(names)} {word} differ: {listed(names)}" for word, names in found if names])


def check_numbers(path: Path, manifest: Mapping[str, Any], table: Table) -> None:
    """Whether a plan takes the numbers of a table; raises PlanError where it takes none but its own.

    Without --refit a stripped plan has TensorRT's REFIT_IDENTICAL, of which its documentation of BuilderFlag says:
    "Different weights during refits yield unpredictable behavior".
    """
    options = manifest.get("options") or {}
    same = set(unchanged_weights(manifest["refit"], table))
    changed = [name for name in table["weights"] if name not in same]
    if changed and options.get("strip_weights") and not options.get("refit"):
        raise PlanError(
            f"{path}: was built with --strip-weights alone and takes only the weights of its build, but "
            f"{len(changed)} have other numbers: {listed(changed)}; build it with --refit --strip-weights"
        )


def _kinds(table: Table) -> Dict[str, str]:
    """dtype and shape of each weight, without its digest."""
    return {name: row.rpartition(" ")[0] for name, row in table["weights"].items()}


def _differing(before: Mapping[str, str], after: Mapping[str, str]) -> List[str]:
    return [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]


def _refuse(path: Path, manifest: Mapping[str, Any], mismatches: Sequence[str]) -> None:
    if mismatches:
        command = refit_command(path, manifest)
        raise PlanError([
            f"{path}: is of another network, {text}; refit with the config and --set of its build, `{command}`"
            for text in mismatches
        ])  # fmt: skip


def _tensors(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{row['name']} {row['dtype']} {'x'.join(map(str, row['shape']))}" for row in rows)


def _bounds(batch: Any) -> str:
    return "/".join(str(batch.get(key)) for key in ("min", "opt", "max")) if batch else "fixed"
