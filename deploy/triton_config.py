"""What Triton is told of a model: its config.pbtxt, from the manifests of its plans and a few choices.

    manifest(s) + ServingOptions ─> model_config ─> pbtxt.write_text

A plan with a dynamic batch takes Triton's batching (`max_batch_size`, dims without the batch); any other says its dims
whole. Field names are those of Triton's model_config.proto.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from deploy.pbtxt import Word
from engine.plan_check import gpu_of
from spec.errors import UsageError

TYPES: Dict[str, str] = {
    # our dtype: member of Triton's DataType
    "uint8": "TYPE_UINT8",
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "int32": "TYPE_INT32",
    "int8": "TYPE_INT8",
    "bool": "TYPE_BOOL",
}

WARMUPS: Dict[str, Optional[str]] = {
    # our word: the field of ModelWarmup.Input that says it
    "zero": "zero_data",
    "random": "random_data",
    "none": None,
}

LABELS = "labels.txt"
PLAN = "model.plan"

Message = Dict[str, Any]


class ServingOptions(NamedTuple):
    """How Triton shall serve a model.

    Attributes:
        queue_delay: microseconds a request may wait for others to fill a batch; 0: it never waits.
        instances: execution contexts on each GPU.
        gpus: which GPUs; none: every GPU of the server.
        warmup: a row of WARMUPS, what a model is run on before it takes requests.
        graphs: whether an inference is captured and launched as a CUDA graph.
        served: how many of the newest versions are served.
        labels: a file with the name of each class of the first output, a line each.
    """

    queue_delay: int = 0
    instances: int = 1
    gpus: Tuple[int, ...] = ()
    warmup: str = "zero"
    graphs: bool = True
    served: int = 1
    labels: Optional[Path] = None


def contract(manifests: Sequence[Mapping[str, Any]]) -> Message:
    """What clients and all versions of a model must agree on: batching, inputs, outputs, plans by compute capability.

    Raises:
        UsageError: plans that differ in inputs, outputs or batch, or whose GPUs do not tell them apart; or a batch that
            Triton cannot serve.
    """
    first = _tensors_of(manifests[0])
    for manifest in manifests[1:]:
        found = differences(first, _tensors_of(manifest))
        if found:
            raise UsageError(f"plans of one model differ: {'; '.join(found)}")
    names = {} if len(manifests) == 1 else {"cc_model_filenames": _by_capability(manifests)}
    return {**first, **names}


def differences(one: Message, other: Message) -> List[str]:
    """`input 'image': TYPE_UINT8 [224, 224, 3] and TYPE_FP32 [224, 224, 3]`, for each field in which two differ."""
    ours, theirs = _flat(one), _flat(other)
    keys = list(dict.fromkeys([*ours, *theirs]))
    return [
        f"{key}: {ours.get(key, 'none')} and {theirs.get(key, 'none')}"
        for key in keys
        if ours.get(key) != theirs.get(key)
    ]


def model_config(name: str, agreed: Message, batch: Optional[Mapping[str, int]], options: ServingOptions) -> Message:
    """The fields of config.pbtxt.

    Args:
        agreed: what `contract` returned.
        batch: min, opt and max of the optimization profile; None for a fixed batch.

    Raises:
        UsageError: labels that do not fit the first output.
    """
    outputs = [dict(output) for output in agreed["output"]]
    if options.labels is not None:
        _check_labels(options.labels, outputs[0])
        outputs[0]["label_filename"] = LABELS
    config: Message = {"name": name, "platform": "tensorrt_plan", **agreed, "output": outputs}
    config["version_policy"] = {"latest": {"num_versions": options.served}}
    config["instance_group"] = [_instances(options)]
    if batch is not None:
        config["dynamic_batching"] = _batching(batch, options)
    if options.graphs:
        config["optimization"] = {"cuda": {"graphs": True}}
    config["model_warmup"] = _warmups(agreed["input"], batch, WARMUPS[options.warmup])
    return config


def plan_names(manifests: Sequence[Mapping[str, Any]]) -> List[str]:
    """The file of each plan in a version's folder: model.plan, or model_sm90.plan where there are several."""
    if len(manifests) == 1:
        return [PLAN]
    return [row["value"] for row in _by_capability(manifests)]


def _tensors_of(manifest: Mapping[str, Any]) -> Message:
    batch = manifest.get("batch")
    if batch is not None and batch["min"] > 1:
        raise UsageError(
            f"batch from {batch['min']} on: Triton sends single requests too; build with "
            f"--set 'batch={{min: 1, opt: {batch['opt']}, max: {batch['max']}}}'"
        )
    fixed = [tensor["name"] for tensor in manifest["outputs"] if batch is not None and tensor["shape"][:1] != [-1]]
    if fixed:
        raise UsageError(f"outputs {', '.join(fixed)}: without the batch that Triton divides; build with a fixed batch")
    sides = {field: [_tensor(row, batch) for row in manifest[f"{field}s"]] for field in ("input", "output")}
    return {"max_batch_size": batch["max"] if batch is not None else 0, **sides}


def _tensor(row: Mapping[str, Any], batch: Optional[Mapping[str, int]]) -> Message:
    dims = row["shape"] if batch is None else row["shape"][1:]
    return {"name": row["name"], "data_type": Word(TYPES[row["dtype"]]), "dims": list(dims)}


def _by_capability(manifests: Sequence[Mapping[str, Any]]) -> List[Message]:
    """The map that Triton looks its GPU's compute capability up in, `9.0` -> model_sm90.plan."""
    gpus = [gpu_of(dict(manifest)) for manifest in manifests]
    words = [gpu["compute_capability"] for gpu in gpus if gpu]
    if len(words) < len(manifests) or len(set(words)) < len(words):
        raise UsageError(
            "several plans: each must be for a GPU of another compute capability, as its manifest says; these are for "
            + ", ".join(gpu["compute_capability"] if gpu else "no one GPU" for gpu in gpus)
        )
    return [{"key": word, "value": f"model_sm{word.replace('.', '')}.plan"} for word in words]


def _flat(agreed: Message) -> Dict[str, str]:
    """One line of text a field, and a tensor."""
    lines = {"max_batch_size": str(agreed["max_batch_size"])}
    for side in ("input", "output"):
        lines.update({f"{side} '{row['name']}'": f"{row['data_type']} {row['dims']}" for row in agreed[side]})
    words = sorted(row["key"] for row in agreed.get("cc_model_filenames", []))
    lines["plans for compute capabilities"] = ", ".join(words) or "any"
    return lines


def _instances(options: ServingOptions) -> Message:
    gpus = {"gpus": list(options.gpus)} if options.gpus else {}
    return {"count": options.instances, "kind": Word("KIND_GPU"), **gpus}


def _batching(batch: Mapping[str, int], options: ServingOptions) -> Message:
    """Triton fills batches up to the size the plan was tuned for; it captures CUDA graphs of these sizes too."""
    preferred = {"preferred_batch_size": [batch["opt"]]} if batch["opt"] > 1 else {}
    delay = {"max_queue_delay_microseconds": options.queue_delay} if options.queue_delay else {}
    return {**preferred, **delay}


def _warmups(inputs: Sequence[Message], batch: Optional[Mapping[str, int]], field: Optional[str]) -> List[Message]:
    """A sample at each size of the profile: the first inference of a size is the slow one."""
    if field is None:
        return []
    sizes = sorted({batch["min"], batch["opt"], batch["max"]}) if batch is not None else [1]
    tensors = [{"data_type": row["data_type"], "dims": row["dims"], field: True} for row in inputs]
    values = [{"key": row["name"], "value": tensor} for row, tensor in zip(inputs, tensors)]
    return [{"name": f"batch of {size}", "batch_size": size, "inputs": values} for size in sizes]


def _check_labels(path: Path, output: Message) -> None:
    try:
        count = len(path.read_text(encoding="utf-8").splitlines())
    except OSError as error:
        raise UsageError(f"--labels {path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"--labels {path}: is no UTF-8 text; wanted the name of each class, a line each") from None
    classes = prod(output["dims"][-1:])
    if count != classes:
        raise UsageError(f"--labels {path}: has {count} lines, output '{output['name']}' has {classes} classes")
