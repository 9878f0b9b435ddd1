"""A bundle's folder -> a plan, on the machine that will run it: checked, built, compared with what was recorded.

    manifest ─> TensorRT ─> model.yaml, weights ─> memory, disk ─> every layer in fp32 ─> plan ─> its outputs ─> out/

`run.py --config BUNDLE` in a clone, `python3 run.py` in the bundle. On a GPU the layers come from an engine with all of
them marked, the outputs from the plan as it ships; without one TensorRT's layers are read back and run on the CPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
from pathlib import Path
from typing import Any, Dict, Sequence, Tuple

from commands import build_arguments
from commands.argument_types import from_zero
from commands.console import UNPROVEN, Console
from commands.device_stages import (
    Machine,
    Network,
    build,
    check_room,
    compared_bytes,
    open_machine,
    prove_layers,
    prove_outputs,
    read_network,
    shipped_definition,
)
from commands.job import run_job
from spec.errors import TransplantFailure, UsageError

NOT_FOR_BUNDLES: Dict[str, Any] = {
    # option: its value where it was not given
    "set": [], "sample": False, "dry_run": False, "ledger": False, "input": None, "report": None, "atol": 0.0,
}  # fmt: skip


def add_own_arguments(parser: argparse.ArgumentParser) -> None:
    """What the build of a bundle takes beside the options of every build."""
    words = "bundles: build although memory seems too little"
    parser.add_argument("--force-memory", action="store_true", help=words)


def main(folder: Path, words: Sequence[str]) -> int:
    """The command line of a bundle's own run.py; returns the exit code."""
    options = _parser().parse_args(words, argparse.Namespace(config=str(folder)))
    options.command = shlex.join(["run.py", *words])
    console = DeviceConsole(options.verbose - options.quiet)
    return run_job(lambda: run(options, console), console, options.command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run.py", description="builds this bundle's plan here and proves it")
    add = parser.add_argument
    add("-v", "--verbose", action="count", default=0, help="say more; twice: TensorRT's debug log too")
    add("-q", "--quiet", action="count", default=0, help="say only what is wrong, and the verdict")
    add("--output", type=Path, metavar="DIR", help="where the plan goes (default out/ beside this file)")
    backends = ("auto", "tensorrt", "tensorrt_rtx")
    add("--backend", choices=backends, default="auto", help="auto: tensorrt where a GPU answers")
    add("--no-verify", action="store_true", help="build without comparing with what was recorded")
    add("--rtol", type=from_zero, help="of each layer in fp32, relative to its largest magnitude (default 1e-5)")
    add("--json", type=Path, metavar="FILE", help="write the plan's manifest there too")
    add_own_arguments(parser)
    build_arguments.add_arguments(parser)
    return parser


class DeviceConsole(Console):
    """Plain lines where Rich is not installed, as on most devices."""

    @property
    def terminal(self) -> bool:
        return super().terminal and importlib.util.find_spec("rich") is not None


def run(options: argparse.Namespace, console: Console) -> int:
    """Builds the bundle in the folder `options.config`; returns the exit code."""
    from deploy.bundle_manifest import RESULTS, verified
    from deploy.device_memory import return_freed_memory
    from engine.atomic_file import check_file, json_bytes, write_whole
    from engine.manifest import check_place

    return_freed_memory()
    folder = Path(options.config)
    _check_options(options)
    with console.stage("bundle") as found:
        manifest = verified(folder)
        found.append(f"{folder}: {manifest['model']}, {len(manifest['files'])} files, every byte as it was made")
    output = options.output or folder / RESULTS
    _check_output(folder, output)
    check_place(output / f"{manifest['model']}.plan")
    if options.json:
        check_file(options.json)
    machine = open_machine(options, console, manifest["tensorrt"]["needs"])
    _check_refit(folder, machine, manifest["weights"]["dtype"])
    network = read_network(console, folder, [f"precision={options.precision}"] if options.precision else [])
    compared = 0 if _not_verified(options, network) else compared_bytes(machine, network)
    check_room(console, machine, manifest["weights"]["parameters"], compared, output, options.force_memory)
    if "int8" in network.model.precision.words and network.model.ranges is None:
        raise UsageError(f"{folder}: has no activation ranges, which int8 needs; make it by `bundle --precision int8`")
    plan, proven = _proven_plan(options, console, machine, network)
    facts = _facts(options, console, machine, network, manifest)
    written = _write(console, output / f"{network.model.name}.plan", plan, {**facts, **proven})
    if options.json:
        write_whole(options.json, json_bytes(written))
    return 0


def _check_options(options: argparse.Namespace) -> None:
    given = [name for name, default in NOT_FOR_BUNDLES.items() if getattr(options, name, default) != default]
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(f"{options.config}: is a bundle, which is built as it was made; leave out {names}")
    if options.no_verify and options.rtol is not None:
        raise UsageError("--rtol: nothing is compared with --no-verify; leave out one or the other")


def _check_output(folder: Path, output: Path) -> None:
    """A bundle with a file too many is refused, so only its `out` may take some."""
    from deploy.bundle_manifest import RESULTS

    inside, place = folder.resolve(), output.resolve()
    if inside in (place, *place.parents) and inside / RESULTS not in (place, *place.parents):
        raise UsageError(f"--output {output}: is in the bundle, whose files stay as they are; name another place")


def _check_refit(folder: Path, machine: Machine, dtype: str) -> None:
    """Raises UsageError for a plan of exchangeable weights that cannot be built here, or that nothing could fill."""
    from engine.refit_table import refit_option
    from engine.tensorrt_api import require_gpu

    option = refit_option(machine.options)
    if option == "--strip-weights" and dtype == "float16":
        raise UsageError(f"{folder}: its weights are float16, and --strip-weights alone takes no others, which no "
                         "checkpoint holds; add --refit")  # fmt: skip
    if option:
        require_gpu(machine.tensorrt, option)


def _proven_plan(
    options: argparse.Namespace, console: Console, machine: Machine, network: Network
) -> Tuple[Any, Dict[str, Any]]:
    """(plan, what the manifest says of its proof and its weights). Nothing is built where layers differ."""
    from deploy.device_proof import LAYER_RTOL
    from engine.execution import run_plan
    from engine.interpreter import Interpreter

    why = _not_verified(options, network)
    proof: Dict[str, Any] = {"not_verified": why}
    if not why:
        proof = prove_layers(console, machine, network, LAYER_RTOL if options.rtol is None else options.rtol)
    definition = shipped_definition(machine, network)
    if not why and machine.gpu is None:
        run = Interpreter(definition.network, machine.tensorrt.module).run
        proof["outputs"] = prove_outputs(console, network, "on the CPU, the plan itself cannot run here", run)
        del run  # a copy of the weights, which TensorRT needs the room of
    plan = build(console, machine, definition, network.model.precision.words)
    if not why and machine.gpu is not None and not machine.options.strip_weights:
        where, core = f"of the plan on {machine.gpu.name}", machine.options.dla_core
        outputs = prove_outputs(console, network, where, lambda inputs: run_plan(machine.tensorrt, plan, inputs, core))
        proof["outputs"] = outputs
    if why:
        console.line("verify", f"not compared with the source framework: {why}")
        console.passed = UNPROVEN
    return plan, {"verification": proof, **_exchangeable(machine, definition)}


def _exchangeable(machine: Machine, definition: Any) -> Dict[str, Any]:
    """What a refit must find again, where the plan's weights can be exchanged; they are called `layer:role`."""
    from engine.refit_table import refit_option, refit_table

    return {"refit": refit_table(definition, {})} if refit_option(machine.options) else {}


def _not_verified(options: argparse.Namespace, network: Network) -> str:
    """Why there is nothing to compare with; empty where there is."""
    if options.no_verify:
        return "--no-verify"
    return "" if network.recording is not None else "this bundle records nothing; its manifest.json says why"


def _facts(
    options: argparse.Namespace, console: Console, machine: Machine, network: Network, manifest: Dict[str, Any]
) -> Dict[str, Any]:
    """What the plan's manifest says beside the proof."""
    from engine.build_options import describe_options
    from engine.manifest import describe_tensors, sha256_of_files
    from engine.plan_check import gpu_entry

    model, graph, tensorrt = network.model, network.graph, machine.tensorrt
    return {
        "bundle": {"sha256": manifest["seal"], "made_from": manifest["made_from"]},
        "config": {"file": options.config},
        "ranges": sha256_of_files([model.ranges_path]) if model.ranges_path else None,
        "tensorrt": {"name": tensorrt.name, "version": tensorrt.version},
        "gpu": gpu_entry(machine.gpu),
        "compute_capabilities": list(machine.options.targets) or "default",
        "options": describe_options(machine.options),
        "precision": model.precision.as_written(),
        "inputs": describe_tensors(graph, [*graph.inputs]),
        "outputs": describe_tensors(graph, graph.outputs),
        "batch": graph.batch.model_dump() if graph.batch else None,
        "build_seconds": round(console.seconds["build"], 3),
        "command": options.command,
    }


def _write(console: Console, path: Path, plan: Any, facts: Dict[str, Any]) -> Dict[str, Any]:
    from engine.manifest import write_plan

    with console.stage("write") as found:
        before = _state(path)
        written = write_plan(path, plan, facts)
        found.append(f"{path} and {path.name}.json, sha256 {written['plan']['sha256'][:12]}; before: {before}")
    say_what_is_left(console, path, written)
    return written


def say_what_is_left(console: Console, path: Path, manifest: Dict[str, Any]) -> None:
    """The next step after a build that left the weights out."""
    from engine.plan_check import lacks_weights
    from engine.refit_table import refit_command

    if lacks_weights(manifest):
        console.line("next", f"put in the weights, which the plan lacks: `{refit_command(path, manifest)}`")


def _state(path: Path) -> str:
    """What stands where the plan goes: a plan that its manifest does not describe counts as none."""
    from engine.plan_check import built_by, read_manifest

    if not path.is_file():
        return "none"
    try:
        return f"a whole plan by {built_by(read_manifest(path))}"
    except TransplantFailure:
        return "a plan that is not what its manifest says"
