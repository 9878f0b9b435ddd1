"""run.py diff: every layer beside the source framework's own activations, worst first.

    run.py diff             the network definition, run on the CPU, builds nothing; says which mistake a layer has
    run.py diff --engine    engines on the GPU in the config's precision: every layer, and the shipped outputs
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict

from commands import build_arguments, engines, verification
from commands.console import Console
from commands.stages import Prepared, add_config_arguments, prepare, read_config
from spec.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    verification.add_arguments(parser)
    parser.add_argument("--all", action="store_true", help="print every layer, not only the worst")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison as JSON")
    parser.add_argument("--engine", action="store_true", help="compare engines on the GPU, in the config's precision")
    words = "--engine: every layer as an output (marked), what lies between fused kernels (boundaries), or debug "
    words += "tensors; default: marked, in int8 boundaries"
    choices = ("marked", "boundaries", "debug", "auto")
    parser.add_argument("--per-layer", choices=choices, default="auto", help=words)
    verification.add_reference_argument(parser)
    engines.add_agreement_argument(parser)
    build_arguments.add_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Runs the comparison; returns the exit code."""
    from engine.atomic_file import check_file, check_writable

    _check_options(options)
    model, graph = read_config(options, console)
    if not options.engine or options.reference_run == "source":
        verification.check_reference(model)
    if options.json:
        check_file(options.json)
    if options.report:
        check_writable(options.report)
    prepared = prepare(options, console, model, graph)
    if options.engine:
        return _finish(options, console, *_engine_diff(options, console, prepared))
    return _finish(options, console, verification.compare(options, console, prepared), {})


def _check_options(options: argparse.Namespace) -> None:
    """What an engine needs is there; without one nothing that was asked of it is dropped in silence."""
    if options.engine:
        engines.check_gpu("--engine")
        return
    engines.refuse_build_options(options, "nothing is built without --engine")
    others = {"--agreement": options.agreement, "--per-layer": options.per_layer != "auto"}
    others["--reference-run"] = options.reference_run == "interpreter"
    given = [name for name, value in others.items() if value]
    if given:
        raise UsageError(f"{', '.join(given)}: is about engines; add --engine")


def _finish(options: argparse.Namespace, console: Console, comparison: Any, more: Dict[str, Any]) -> int:
    """Prints and writes a comparison, with what is beside it in the JSON."""
    from engine.atomic_file import json_bytes, write_whole
    from verify.report import print_table

    if console.verbosity >= 0 or not comparison.passed:
        print_table(comparison, console.rich(), None if options.all else verification.SHOWN_ROWS)
    verification.Proof("", comparison).print(console)
    if options.json:
        write_whole(options.json, json_bytes({**comparison.as_json(), **more}))
    return 0 if comparison.passed else 1


def _engine_diff(options: argparse.Namespace, console: Console, prepared: Prepared) -> Any:
    """(Comparison, JSON of the agreement)."""
    from engine.tolerance import output_rtol
    from verify.compare import Tolerance
    from verify.engine_comparison import compare_engine

    activations = verification.any_activations(options, console, prepared)
    with console.stage("engine") as found:
        seen, agreement = engines.look(
            options, console, prepared, prepared.model, activations.inputs, options.per_layer
        )
        found.append(f"{seen.title}: {len(seen.inside)} tensors of one looked into, {len(seen.shipped)} of one shipped")
    words = prepared.model.precision.words
    tolerance = Tolerance(options.atol, output_rtol(words) if options.rtol is None else options.rtol)
    verified = compare_engine(prepared.graph, activations, seen, words, tolerance)
    if agreement is not None:
        notes = (*verified.comparison.notes, f"{agreement}; against our fp32 definition, run on the CPU")
        verified = verified._replace(comparison=verified.comparison._replace(notes=notes))
    if options.report is not None:
        verification.write_reports(options, console, prepared, verified)
    return verified.comparison, {"agreement": agreement.as_json()} if agreement is not None else {}
