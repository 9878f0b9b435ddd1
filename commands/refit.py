"""run.py refit: a new checkpoint into an existing plan, without a build.

config + new checkpoint ─> audit ─> network definition ─> is the plan of this network? ─> proof on the CPU ─┐
plan + manifest ────────────────────────────────────────────────────> refit on the GPU ─> run, compared ──> plan
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from commands import build_arguments, verification
from commands.build import origins
from commands.configs import shown
from commands.console import Console
from commands.stages import Prepared, add_config_arguments, in_precision, prepare, read_config
from spec.errors import VerificationError
from spec.wording import counted


class Exchange(NamedTuple):
    """A plan beside the network with its new weights."""

    path: Path
    manifest: Dict[str, Any]
    definition: Any  # engine.network.Definition, as it was built but for the numbers
    table: Dict[str, Any]  # engine.refit_table.refit_table of it

    @property
    def ranges(self) -> List[str]:
        """sha256 of the int8 ranges that the plan was built with."""
        return list((self.manifest["ranges"] or {}).values())

    @property
    def dla_core(self) -> Optional[int]:
        """The DLA that the plan was built for, if it was."""
        from engine.plan_check import dla_core_of

        return dla_core_of(self.manifest)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a refit."""
    add_config_arguments(parser)
    add = parser.add_argument
    words = "a plan that was built with --refit, or without its weights (--strip-weights), which are put in"
    add("--plan", type=Path, required=True, metavar="FILE", help=f"{words}; its manifest lies beside it")
    add("--output", type=Path, metavar="DIR", help="where the new plan goes (default: it takes the place of the old)")
    build_arguments.add_precision(parser, "that of the plan, where the config says another")
    add("--no-verify", action="store_true", help="without comparing with the source model; the engine is still checked")
    verification.add_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Runs the job; returns the exit code."""
    from engine.manifest import check_place
    from engine.tensorrt_api import require_gpu

    if options.no_verify:
        verification.refuse_unused(options, "--no-verify")
    model, graph = read_config(options, console)
    output = options.output or options.plan.parent
    check_place(output / options.plan.name)
    prepared = prepare(options, console, model, graph)
    exchange = _match(options.plan, prepared, console)
    _warn_of_old_ranges(console, prepared, exchange)
    require_gpu(prepared.definition.tensorrt, "refit")
    proof = verification.prove(options, console, prepared)
    if proof.passed:
        _refit(options, console, prepared, exchange, proof, output)
    proof.print(console)
    return 0 if proof.passed else 1


def _match(path: Path, prepared: Prepared, console: Console) -> Exchange:
    """The plan and the network, which are of each other; raises PlanError with what to do where they are not.

    The weights are called what the plan calls them, so the new checkpoint may name them otherwise.
    """
    from engine.plan_check import check_plan, gpu_here
    from engine.refit_table import check_config, check_network, check_numbers, refit_table, table_of, tensor_names_of

    model, tensorrt = prepared.model, prepared.definition.tensorrt
    with console.stage("plan") as found:
        manifest = check_plan(path, tensorrt, gpu_here(), model.precision.as_written())
        names = tensor_names_of(table_of(path, manifest))
        check_config(path, manifest, prepared.graph)
        definition = in_precision(prepared, names)
        table = refit_table(definition, names)
        check_network(path, manifest, table)
        check_numbers(path, manifest, table)
        found.append(f"{shown(path)}: of this network, in {' and '.join(model.precision.words)}")
    return Exchange(path, manifest, definition, table)


def _refit(
    options: argparse.Namespace,
    console: Console,
    prepared: Prepared,
    exchange: Exchange,
    proof: verification.Proof,
    output: Path,
) -> None:
    """Refits, runs the plan that is about to be written, and writes it; a plan that computes otherwise is not."""
    from engine import manifest
    from engine.atomic_file import json_bytes

    plan, facts = _exchanged(console, exchange)
    facts.update(engine=_checked(options, console, prepared, plan, exchange.dla_core), command=options.command)
    kept = {key: value for key, value in exchange.manifest.items() if key not in ("plan", "ledger")}
    about = {**kept, **origins(options, prepared), "verification": proof.summary(), "refit": exchange.table}
    with console.stage("write") as found:
        path = output / exchange.path.name
        ledger = json_bytes([row._asdict() for row in prepared.weights.ledger])
        written = manifest.write_plan(path, plan, {**about, "refitted": facts}, ledger)
        found.append(f"{shown(path)} and {path.name}.json, sha256 {written['plan']['sha256'][:12]}")


def _warn_of_old_ranges(console: Console, prepared: Prepared, exchange: Exchange) -> None:
    """Kernel scales follow the new kernels; activation ranges were measured, with the old weights."""
    from engine.manifest import sha256_of_file

    model = prepared.model
    if "int8" in model.precision.words and sha256_of_file(model.ranges_path) in exchange.ranges:
        console.line("int8", f"the ranges in {model.ranges} are those of the old weights: calibrate on the new "
                     "checkpoint with `run.py calibrate`, and refit with --set ranges=FILE")  # fmt: skip


def _exchanged(console: Console, exchange: Exchange) -> Tuple[Any, Dict[str, Any]]:
    """(plan, what the manifest says of the refit); the time is of loading, setting, refitting and serializing."""
    from engine.refit import refit_plan
    from engine.refit_table import unchanged_weights

    unchanged = unchanged_weights(exchange.manifest["refit"], exchange.table)
    content = exchange.path.read_bytes()
    with console.stage("refit") as found:
        start = time.monotonic()
        definition = exchange.definition
        refitted = refit_plan(definition.tensorrt, content, definition.named, unchanged, exchange.dla_core)
        seconds, build = time.monotonic() - start, exchange.manifest["build_seconds"]
        changed = len(exchange.table["weights"]) - len(unchanged)
        found.append(f"{counted(refitted.count, 'weight')} set, {changed} of them with new numbers")
        found.append(f"the build took {build:.1f} s, {build / seconds:.0f} times as long")
    return refitted.plan, {"from_sha256": exchange.manifest["plan"]["sha256"], "seconds": round(seconds, 3)}


def _checked(
    options: argparse.Namespace, console: Console, prepared: Prepared, plan: Any, dla_core: Optional[int]
) -> Dict[str, Any]:
    """The outputs of the refitted engine beside those of the fp32 network definition on the CPU, the same input.

    Raises:
        VerificationError: an output differs by more than its precision allows; names the first.
    """
    from engine.execution import run_plan
    from engine.interpreter import Interpreter
    from engine.tolerance import output_rtol
    from verify.inputs import make_inputs

    tensorrt, network = prepared.definition.tensorrt, prepared.definition.network
    allowed = output_rtol(prepared.model.precision.words)
    with console.stage("engine") as found:
        inputs, title = make_inputs(prepared.graph, options.input or verification.default_input(prepared.model))
        wanted = Interpreter(network, tensorrt.module).run(inputs)
        errors = errors_of(run_plan(tensorrt, plan, inputs, dla_core), wanted)
        words = ", ".join(f"{name} off by {error:.1e} of max|r|" for name, error in errors.items())
        words += f"; allowed {allowed:g}, against the fp32 network on the CPU, {title}"
        if max(errors.values()) > allowed:
            raise VerificationError(f"the refitted engine: {words}; nothing is written: build again")
        found.append(words)
    return {"input": title, "rtol": allowed, "errors": errors}


def errors_of(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Dict[str, float]:
    """max|c - r| / max|r| of every output; raises VerificationError for NaN or another shape."""
    from verify.compare import Tolerance, difference

    try:
        return {name: difference(found[name], reference, Tolerance()).error for name, reference in wanted.items()}
    except ValueError as error:
        raise VerificationError(f"the refitted engine: {error}; nothing is written: build again") from None
