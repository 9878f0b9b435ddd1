"""What Triton is told of a model: its config.pbtxt, from the manifests of its plans and a few choices.

    manifest(s) ─> contract ─┬─> model_config ─> pbtxt.write_text
           ServingOptions ───┘

A plan with a dynamic batch takes Triton's batching (`max_batch_size`, dims without the batch); any other says its dims
whole. Field names are those of Triton's model_config.proto.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from deploy.pbtxt import Word
from engine.plan_check import dla_core_of, gpu_of
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


class Contract(NamedTuple):
    """What all plans and versions of a model must agree on: they have the same clients and one config.pbtxt.

    Attributes:
        fields: of config.pbtxt: batching, inputs, outputs, plans by compute capability.
        batch: min, opt and max of the optimization profile; None for a fixed batch. Only its largest must agree.
        dla_core: the DLA that the plans are for, if they are.
    """

    fields: Message
    batch: Optional[Mapping[str, int]]
    dla_core: Optional[int]


def contract(manifests: Sequence[Mapping[str, Any]]) -> Contract:
    """The contract of plans that are served together.

    Raises:
        UsageError: plans that differ in inputs, outputs, batch or DLA, or whose GPUs do not tell them apart; or a batch
            that Triton cannot serve.
    """
    first = _contract_of(manifests[0])
    for manifest in manifests[1:]:
        found = differences(first, _contract_of(manifest))
        if found:
            raise UsageError(f"plans of one model differ: {'; '.join(found)}")
    names = {} if len(manifests) == 1 else {"cc_model_filenames": _by_capability(manifests)}
    return first._replace(fields={**first.fields, **names})


def differences(one: Contract, other: Contract) -> List[str]:
    """`input 'image': TYPE_UINT8 [224, 224, 3] and TYPE_FP32 [224, 224, 3]`, for each field in which two differ."""
    ours, theirs = _flat(one), _flat(other)
    keys = list(dict.fromkeys([*ours, *theirs]))
    return [
        f"{key}: {ours.get(key, 'none')} and {theirs.get(key, 'none')}"
        for key in keys
        if ours.get(key) != theirs.get(key)
    ]


def model_config(name: str, agreed: Contract, options: ServingOptions) -> Message:
    """The fields of config.pbtxt; raises UsageError for labels that do not fit the first output."""
    outputs = [dict(output) for output in agreed.fields["output"]]
    if options.labels is not None:
        _check_labels(options.labels, outputs[0])
        outputs[0]["label_filename"] = LABELS
    config: Message = {"name": name, "platform": "tensorrt_plan", **agreed.fields, "output": outputs}
    config["version_policy"] = {"latest": {"num_versions": options.served}}
    config["instance_group"] = [_instances(options, agreed.dla_core)]
    if agreed.batch is not None:
        config["dynamic_batching"] = _batching(agreed.batch, options)
    if options.graphs:
        config["optimization"] = {"cuda": {"graphs": True}}
    config["model_warmup"] = _warmups(agreed.fields["input"], agreed.batch, WARMUPS[options.warmup])
    return config


def plan_names(manifests: Sequence[Mapping[str, Any]]) -> List[str]:
    """The file of each plan in a version's folder: model.plan, or model_sm90.plan where there are several."""
    if len(manifests) == 1:
        return [PLAN]
    return [row["value"] for row in _by_capability(manifests)]


def _contract_of(manifest: Mapping[str, Any]) -> Contract:
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
    fields = {"max_batch_size": batch["max"] if batch is not None else 0, **sides}
    return Contract(fields, batch, dla_core_of(manifest))


def _tensor(row: Mapping[str, Any], batch: Optional[Mapping[str, int]]) -> Message:
    """Its dims without the batch; those of a tensor that is one number an image must not be empty for Triton.

    Clients then see n x 1, and the reshape says that the plan has n (Triton, Model Configuration, Reshape).
    """
    dims = list(row["shape"] if batch is None else row["shape"][1:])
    shape = {"dims": dims} if dims else {"dims": [1], "reshape": {"shape": []}}
    return {"name": row["name"], "data_type": Word(TYPES[row["dtype"]]), **shape}


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


def _flat(agreed: Contract) -> Dict[str, str]:
    """One line of text a field, and a tensor."""
    lines = {"max_batch_size": str(agreed.fields["max_batch_size"])}
    for side in ("input", "output"):
        lines.update({f"{side} '{row['name']}'": _words(row) for row in agreed.fields[side]})
    words = sorted(row["key"] for row in agreed.fields.get("cc_model_filenames", []))
    lines["plans for compute capabilities"] = ", ".join(words) or "any"
    if agreed.dla_core is not None:
        lines["DLA core"] = str(agreed.dla_core)
    return lines


def _words(tensor: Message) -> str:
    """Clients see a reshaped tensor as they see one that has these dims, but one config cannot fit both plans."""
    reshaped = f" for {tensor['reshape']['shape']} in the plan" if "reshape" in tensor else ""
    return f"{tensor['data_type']} {tensor['dims']}{reshaped}"


def _instances(options: ServingOptions, dla_core: Optional[int]) -> Message:
    """Triton's TensorRT backend runs a plan on the DLA that is the instance's secondary device, and on no other."""
    gpus = {"gpus": list(options.gpus)} if options.gpus else {}
    dla = {} if dla_core is None else {"secondary_devices": [{"kind": Word("KIND_NVDLA"), "device_id": dla_core}]}
    return {"count": options.instances, "kind": Word("KIND_GPU"), **gpus, **dla}


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
