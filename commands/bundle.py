"""run.py bundle: one folder with all that a device needs to build a plan and prove it, without the source framework.

    config ─> weights ─> definition ─> every layer compared here ─> samples of the reference ─> folder
"""

from __future__ import annotations

import argparse
import shlex
import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from commands import build_arguments, verification
from commands.configs import shown
from commands.console import Console
from commands.defining import precision_of
from commands.stages import Prepared, add_config_arguments, prepare, read_config
from spec.errors import ConfigError, MissingFramework, UsageError, VerificationError
from spec.wording import counted


class Reference(NamedTuple):
    """What will be recorded: a verify.verification.Activations, or why there is none.

    Attributes:
        rounding: by layer, what float32 may lose there beyond the tolerance, of max|r|: see verify/rounding.py.
    """

    activations: Optional[Any]
    without: str
    rounding: Mapping[str, float] = MappingProxyType({})


class Stored(NamedTuple):
    """The parameters as they lie in the bundle.

    Attributes:
        arrays: by (layer, role), in TensorRT's axis orders.
        rounding: by layer, what float16 does to its tensor: max|c - r| / max|r|.
    """

    arrays: Dict[Tuple[str, str], Any]
    half: bool
    rounding: Dict[str, float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    verification.add_input_argument(parser)
    add = parser.add_argument
    add("--output", type=Path, metavar="DIR", help="default out/<model>/<model>-bundle")
    build_arguments.add_precision(parser, "of all layers; the YAML's `precision` can name exceptions")
    add("--half", action="store_true", help="weights in float16: half the size; says what that changes")
    add("--zip", action="store_true", help="write DIR.zip too")
    add("--no-verify", action="store_true", help="neither compare nor record: the device will prove nothing")


def run(options: argparse.Namespace, console: Console) -> int:
    """Writes the bundle; returns the exit code."""
    from deploy import bundle

    if options.no_verify:
        verification.refuse_unused(options, "--no-verify")
    model, graph = read_config(options, console)
    output = options.output or Path("out") / model.name / f"{model.name}-bundle"
    bundle.check_target(output)
    if options.zip and _zip_of(output).is_dir():
        raise UsageError(f"{_zip_of(output)}: is a folder, where --zip is to write; move it away")
    prepared = prepare(options, console, model, graph)
    precision_of(model, graph, prepared.definition.tensorrt)  # ranges that int8 lacks are a problem of this machine
    reference = _reference(options, console, prepared)
    stored = _stored(options, console, prepared, reference)
    with console.stage("write") as found:
        files = _files(prepared, stored, reference)
        size = bundle.write_bundle(output, files, _facts(options, prepared, stored, reference))
        factor = size / len(files["weights.safetensors"])
        found.append(f"{shown(output)}, {size / 1e6:,.2f} MB, {factor:.3f} times its weights")
        found.append("on the device: sh build.sh")
        if options.zip:
            bundle.write_zip(_zip_of(output), output)
            found.append(shown(_zip_of(output)))
    if not options.zip and _zip_of(output).exists():
        console.line("zip", f"{shown(_zip_of(output))} is of an older bundle; --zip writes it anew")
    if reference.activations is None:
        console.passed = "PACKED, NOT COMPARED"
        console.line("verify", f"the bundle records nothing, so the device cannot compare: {reference.without}")
    return 0


def _zip_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.zip")


def _reference(options: argparse.Namespace, console: Console, prepared: Prepared) -> Reference:
    """What the source framework computes, after every layer of ours agreed with it."""
    if options.no_verify:
        return Reference(None, "--no-verify")
    if prepared.model.reference is None:
        return Reference(None, "the config names no `reference`")
    try:
        activations, loud = verification.activations_and_louder(options, console, prepared)
    except MissingFramework as missing:
        return Reference(None, str(missing))
    return Reference(activations, "", _compare(console, prepared, activations, loud))


def _compare(console: Console, prepared: Prepared, activations: Any, loud: Any) -> Dict[str, float]:
    """`Reference.rounding`; VerificationError where the network is not the source framework's: no device needs that."""
    from verify.compare import Tolerance
    from verify.report import verdict_lines
    from verify.rounding import allowed_rounding
    from verify.verification import verify
    from weights.readings import readings_of

    with console.stage("compare") as found:
        readings = readings_of(prepared.graph, prepared.weights)
        comparison = verify(prepared.definition, activations, Tolerance(), readings, loud).comparison
        if not comparison.passed:
            raise VerificationError(list(verdict_lines(comparison)))
        found.append(f"{len(comparison.rows)} layers, isolated and accumulated, needed rtol {comparison.needed:.1g}")
        rounding = allowed_rounding(comparison.rows)
        if rounding:
            found.append(f"{counted(len(rounding), 'tensor')} further off by rounding alone")
    return rounding


def _stored(options: argparse.Namespace, console: Console, prepared: Prepared, reference: Reference) -> Stored:
    """The weights as they will lie in the bundle; in float16 the network is run with them, to say what that does."""
    from deploy.bundle import stored_weights
    from engine.interpreter import Interpreter
    from engine.network import define

    arrays = stored_weights(prepared.weights.arrays, options.half)
    if not options.half or reference.activations is None:
        return Stored(arrays, options.half, {})
    with console.stage("half") as found:
        tensorrt, expected = prepared.definition.tensorrt, reference.activations.arrays
        definition = define(prepared.graph, arrays, tensorrt)
        made = Interpreter(definition.network, tensorrt.module).run(reference.activations.inputs, list(expected))
        rounding = {name: _rounding(name, made[name], expected[name]) for name in expected}
        worst = max(rounding, key=lambda name: rounding[name])
        found.append(f"float16 weights change {worst} by {rounding[worst]:.2g} of its max|r|, no layer by more")
    return Stored(arrays, True, rounding)


def _rounding(name: str, candidate: Any, reference: Any) -> float:
    """The largest of what a device compares: elements, norm and mean, each relative; see deploy.device_proof.

    Raises:
        VerificationError: values that are not finite, others than zeros where the reference has nothing else, or
            whole numbers that differ.
    """
    from deploy.bundle_samples import sums_of
    from verify.compare import Tolerance, difference

    try:
        found, wanted = sums_of(candidate), sums_of(reference)
    except VerificationError as error:
        raise VerificationError(f"{name}: {error} with float16 weights; leave --half out") from None
    if found.norm and not wanted.norm:
        raise VerificationError(f"{name}: is zero, and is not with float16 weights; leave --half out")
    rounded = difference(candidate, reference, Tolerance())
    if rounded.differing:
        changed = counted(rounded.differing, "whole number")
        raise VerificationError(f"{name}: {changed} changed by float16 weights; leave --half out")
    norm = abs(found.norm - wanted.norm) / wanted.norm if wanted.norm else 0.0
    return max(rounded.error, norm)


def _files(prepared: Prepared, stored: Stored, reference: Reference) -> Dict[str, bytes]:
    """Every file but the manifest, by name."""
    from builders import expand
    from deploy import bundle, bundle_manifest
    from deploy.bundle_model import model_yaml

    uses_ranges = _uses_ranges(prepared.model)
    text = model_yaml(prepared.model, expand(prepared.model), uses_ranges)
    _check_round_trip(text, prepared.graph)
    weights = {f"{layer}:{role}": array for (layer, role), array in stored.arrays.items()}
    files = {
        bundle_manifest.MODEL: text.encode(),
        bundle_manifest.WEIGHTS: bundle.safetensors_bytes(weights, {"layout": "TensorRT's axis orders; layer:role"}),
        **bundle.device_files(),
    }
    if uses_ranges:
        files[bundle_manifest.RANGES] = prepared.model.ranges_path.read_bytes()
    if reference.activations is not None:
        rounding = {**reference.rounding, **stored.rounding}
        files[bundle_manifest.SAMPLES] = _samples(prepared, rounding, reference.activations, files)
    return files


def _uses_ranges(model: Any) -> bool:
    return model.ranges is not None and "int8" in model.precision.words


def _check_round_trip(text: str, graph: Any) -> None:
    """Reads model.yaml as the device will; raises ConfigError unless the graph is the same."""
    from commands.device_stages import load_plain
    from deploy.bundle_model import description

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.yaml"
        path.write_text(text, encoding="utf-8")
        again = load_plain(path)[1]
    if description(again) != description(graph):
        raise ConfigError(f"{graph.name}: written out layer by layer it is another network; please report this config")


def _samples(
    prepared: Prepared, rounding: Mapping[str, float], activations: Any, files: Dict[str, bytes]
) -> bytes:
    """samples.safetensors, as many elements of each layer as the size of a bundle allows."""
    from deploy import bundle
    from deploy.bundle_manifest import WEIGHTS
    from deploy.bundle_samples import COUNTS, Recording, record_layer, thinned, to_file

    arrays, names = activations.arrays, activations.names
    layers = tuple(record_layer(name, names.get(name, ""), arrays[name], rounding.get(name, 0.0)) for name in arrays)
    outputs = {name: arrays[name] for name in prepared.graph.outputs}
    recording = Recording(activations.title, activations.input_title, layers, activations.inputs, outputs)
    left = bundle.MOST * len(files[WEIGHTS]) - bundle.MANIFEST_BYTES - sum(map(len, files.values()))
    for count in COUNTS:
        content = bundle.safetensors_bytes(*to_file(thinned(recording, count)))
        if len(content) <= left:
            break
    return content


def _facts(options: argparse.Namespace, prepared: Prepared, stored: Stored, reference: Reference) -> Dict[str, Any]:
    """What the manifest says beside the files."""
    from deploy.bundle_texts import REQUIREMENTS
    from deploy.device_checks import needs_of
    from engine.manifest import describe_tensors, sha256_of_file, sha256_of_files

    model, graph, checkpoint = prepared.model, prepared.graph, prepared.checkpoint
    words = model.precision.words
    return {
        "model": model.name,
        "made_from": {
            "config": {"file": model.path.name, "sha256": sha256_of_file(model.path), "set": options.set},
            "checkpoint": {"format": checkpoint.format, "sha256": sha256_of_files(checkpoint.files)},
            "command": _command(options),
        },
        "weights": {
            "dtype": "float16" if stored.half else "float32",
            "parameters": sum(array.size for array in stored.arrays.values()),
            "rounding": _worst(stored.rounding),
        },
        "recorded": _recorded(reference),
        "tensorrt": {"needs": needs_of(graph, words), "compared_with": prepared.definition.tensorrt.title},
        "precision": model.precision.as_written(),
        "inputs": describe_tensors(graph, [*graph.inputs]),
        "outputs": describe_tensors(graph, graph.outputs),
        "batch": graph.batch.model_dump() if graph.batch else None,
        "requirements": {"python": ">=3.8", "packages": REQUIREMENTS, "gpu": "cuda-python or pycuda"},
    }  # fmt: skip


def _worst(rounding: Dict[str, float]) -> Any:
    """The layer that float16 weights change most; None with float32."""
    worst = max(rounding, key=lambda name: rounding[name], default=None)
    return None if worst is None else {"layer": worst, "error": rounding[worst]}


def _recorded(reference: Reference) -> Dict[str, Any]:
    if reference.activations is None:
        return {"nothing": reference.without}
    activations = reference.activations
    return {"layers": len(activations.arrays), "reference": activations.title, "input": activations.input_title}


def _command(options: argparse.Namespace) -> str:
    """The command without the place of its output, which changes nothing in the bundle."""
    words = shlex.split(options.command)
    for position, word in enumerate(words):
        if word == "--output":
            return shlex.join(words[:position] + words[position + 2 :])
        if word.startswith("--output="):
            return shlex.join(words[:position] + words[position + 1 :])
    return options.command
