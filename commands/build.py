"""The main job: YAML -> graph -> weights -> network definition -> proof -> plan, a line a stage.

Every input is checked before the long work starts: config, output directory, checkpoint, both ways of the audit. A
network that differs from its source model gets no plan.
"""

from __future__ import annotations

import argparse
from math import prod
from pathlib import Path
from typing import Any, Dict

from commands import build_arguments, device_build, verification
from commands.configs import shown
from commands.console import UNPROVEN, Console
from commands.defining import precision_of
from commands.stages import Prepared, add_config_arguments, in_precision, prepare, read_config, tensor_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the main job."""
    add_config_arguments(parser)
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the plan goes (default out/<model>/)")
    parser.add_argument("--dry-run", action="store_true", help="stop after the network definition; print every layer")
    parser.add_argument("--no-verify", action="store_true", help="build without comparing with the source model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was done, with times, as JSON")
    device_build.add_own_arguments(parser)
    verification.add_arguments(parser)
    build_arguments.add_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Runs the job; returns the exit code."""
    from deploy.bundle_manifest import is_bundle
    from engine import atomic_file, manifest

    if is_bundle(Path(options.config)):
        return device_build.run(options, console)
    _check_comparison(options)
    model, graph = read_config(options, console)
    output = options.output or Path("out") / model.name
    manifest.check_place(output / f"{model.name}.plan")
    if options.json:
        atomic_file.check_file(options.json)
    prepared = prepare(options, console, model, graph)
    plan_options = _checked_options(options, prepared)
    summary: Dict[str, Any] = {"model": model.name, "seconds": console.seconds}
    proof = verification.Proof("not verified: a dry run", None)
    if options.dry_run:
        _print_layers(console, prepared.definition)
    else:
        proof = verification.prove(options, console, prepared)
        if proof.passed:
            summary.update(_plan(options, console, prepared, plan_options, proof, output))
    proof.print(console)
    if proof.comparison is not None and model.precision.words != ("fp32",):
        words = " and ".join(model.precision.words)
        console.line("verify", f"compared in fp32; the plan computes in {words}: see `run.py precisions`")
    if proof.comparison is None:
        console.passed = "DEFINED, NOT COMPARED" if options.dry_run else UNPROVEN
    if options.json:
        atomic_file.write_whole(options.json, atomic_file.json_bytes({**summary, "verification": proof.as_json()}))
    return 0 if proof.passed else 1


def _check_comparison(options: argparse.Namespace) -> None:
    """A dry run takes the words of the run that it tries out, but for the report that nobody would find."""
    if options.no_verify:
        verification.refuse_unused(options, "--no-verify")
    if options.dry_run:
        verification.refuse_unused(options, "--dry-run", ["report"])


def _checked_options(options: argparse.Namespace, prepared: Prepared) -> Any:
    """The PlanOptions; what this TensorRT lacks is refused before the proof takes its seconds."""
    from engine.build_options import apply_options
    from engine.refit_table import refit_option
    from engine.tensorrt_api import require_gpu

    tensorrt, trt_builder = prepared.definition.tensorrt, prepared.definition.trt_builder
    plan_options = build_arguments.plan_options(options, tensorrt)
    if refit_option(plan_options):
        require_gpu(tensorrt, refit_option(plan_options))
    apply_options(tensorrt, trt_builder.create_builder_config(), plan_options)
    precision_of(prepared.model, prepared.graph, tensorrt)
    return plan_options


def _plan(
    options: argparse.Namespace,
    console: Console,
    prepared: Prepared,
    plan_options: Any,
    proof: verification.Proof,
    output: Path,
) -> Dict[str, Any]:
    from commands.progress import shown_progress
    from engine import manifest
    from engine.atomic_file import json_bytes
    from engine.plan import build_plan
    from engine.refit_table import refit_option, refit_table

    with console.stage("build") as found:
        with shown_progress(console) as progress:
            definition = in_precision(prepared)
            plan = build_plan(definition, plan_options, progress)
        found.append(f"{memoryview(plan).nbytes / 1e6:,.1f} MB")
    with console.stage("write") as found:
        path = output / f"{prepared.model.name}.plan"
        ledger = json_bytes([row._asdict() for row in prepared.weights.ledger])
        about = _manifest(options, console, prepared, plan_options, proof)
        if refit_option(plan_options):
            about["refit"] = refit_table(definition, tensor_names(prepared.weights))
        written = manifest.write_plan(path, plan, about, ledger)
        found.append(f"{shown(path)} and {path.name}.json, sha256 {written['plan']['sha256'][:12]}")
    device_build.say_what_is_left(console, path, written)
    return written


def _manifest(
    options: argparse.Namespace, console: Console, prepared: Prepared, plan_options: Any, proof: verification.Proof
) -> Dict[str, Any]:
    from engine import manifest, plan_check
    from engine.build_options import describe_options

    model, graph, tensorrt = prepared.model, prepared.graph, prepared.definition.tensorrt
    return {
        **origins(options, prepared),
        "tensorrt": {"name": tensorrt.name, "version": tensorrt.version},
        "gpu": plan_check.gpu_entry(plan_check.gpu_here()),
        "compute_capabilities": build_arguments.compute_capabilities(options) or "default",
        "options": describe_options(plan_options),
        "precision": model.precision.as_written(),
        "inputs": manifest.describe_tensors(graph, [*graph.inputs]),
        "outputs": manifest.describe_tensors(graph, graph.outputs),
        "batch": graph.batch.model_dump() if graph.batch else None,
        "verification": proof.summary(),
        "build_seconds": round(console.seconds["build"], 3),
        "command": options.command,
    }


def origins(options: argparse.Namespace, prepared: Prepared) -> Dict[str, Any]:
    """Which files a manifest's plan has its layers and numbers from."""
    from engine.manifest import sha256_of_file, sha256_of_files

    model, checkpoint = prepared.model, prepared.checkpoint
    files = sha256_of_files(checkpoint.files)
    return {
        "config": {"file": str(model.path), "sha256": sha256_of_file(model.path), "set": options.set},
        "checkpoint": {"path": str(checkpoint.path), "format": checkpoint.format, "sha256": files},
        "ranges": sha256_of_files([model.ranges_path]) if model.ranges_path else None,
    }


def _print_layers(console: Console, definition: Any) -> None:
    """Every layer with its output and its parameters."""
    from spec.shapes import show

    graph = definition.graph
    counts: Dict[str, int] = {}
    for layer, slot in graph.slots():
        counts[layer.name] = counts.get(layer.name, 0) + prod(slot.sizes.values())
    rows = []
    for layer in graph.layers:
        shape, dtype = graph.tensors[layer.name]
        rows.append([layer.name, layer.type, show(shape), dtype, f"{counts.get(layer.name, 0):,}"])
    title = f"{graph.name}: {len(rows)} layers, {sum(counts.values()):,} parameters"
    console.table(title, ["layer", "type", "output", "dtype", "parameters"], rows)
