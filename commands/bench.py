"""run.py bench: how fast a plan runs, in trtexec's figures, and with --profile and --layers where the time goes.

    --config FILE ─> build ─┐
    --plan P ───────────────┴> runner ─> latency, in each load ─> profile by layer ─> what its layers are made of
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Tuple

from commands import build_arguments, engines, verification
from commands.argument_types import from_zero, whole
from commands.bench_subject import Subject, built, from_plan
from commands.console import Console
from commands.output_files import check_files
from commands.stages import add_changes
from spec.errors import UsageError

SHOWN_ROWS = 20
SHOWN_NAMES = 4
SHOWN_TACTIC = 40
"""What fits on a line; --all and --json have the rest."""


Latencies = Sequence[Any]  # engine.latency.Latency, one a load


class Inside(NamedTuple):
    """What --profile and --layers found; None where not asked for."""

    profile: Any  # engine.profiling.Profile
    document: Any  # the inspector's JSON
    layers: Sequence[Any]  # engine.inspection.EngineLayer
    join: Any  # engine.inspection.Join


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", metavar="FILE", help="build it, with the options of a build; or a name in configs/")
    source.add_argument("--plan", "--loadEngine", type=Path, metavar="FILE", help="a plan; its manifest lies beside it")
    add_changes(parser)
    _add_measurement(parser)
    _add_reports(parser)
    build_arguments.add_arguments(parser)


def _add_measurement(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("measurement").add_argument
    verification.add_input_argument(parser)
    add("--batch", type=whole(1), metavar="N", help="images an inference; default: what the plan is tuned for")
    add("--warm-up", "--warmUp", type=from_zero, default=200.0, metavar="MS", help="milliseconds not counted (200)")
    add("--loads", type=whole(1), default=3, metavar="N",
        help="load the engine so often and report the middle one (3): its memory lies elsewhere each time, which alone "
             "makes it some percent faster or slower")  # fmt: skip
    add("--duration", type=from_zero, default=3.0, metavar="S", help="measure at least so many seconds in all (3)")
    add("--iterations", type=whole(1), default=10, metavar="N", help="and at least so many inferences a load (10)")
    add("--in-flight", type=whole(1), default=2, metavar="N", help="inferences under way at once (2); 1 waits for each")
    add("--no-graph", dest="graph", action="store_false", help="launch kernel by kernel, without a CUDA graph")
    add("--useCudaGraph", dest="graph", action="store_true", default=True, help=argparse.SUPPRESS)
    add("--no-transfers", "--noDataTransfers", dest="transfers", action="store_false", help="inputs stay on the GPU")
    add("--binding", choices=("auto", "cuda-python", "pycuda"), default="auto", help="default: cuda-python, or pycuda")


def _add_reports(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("reports").add_argument
    add("--profile", "--dumpProfile", action="store_true", help="the time of each layer of the engine")
    add("--layers", "--dumpLayerInfo", action="store_true", help="kind, tactic and types of each layer of the engine")
    add("--all", action="store_true", help="print every layer, not only the slowest")
    add("--json", type=Path, metavar="FILE", help="write it all as JSON")
    add("--export-profile", "--exportProfile", type=Path, metavar="FILE", help="the profile as trtexec writes it")
    add("--export-layers", "--exportLayerInfo", type=Path, metavar="FILE", help="the layers as trtexec writes them")


def run(options: argparse.Namespace, console: Console) -> int:
    """Measures and reports; returns the exit code.

    Raises:
        UsageError: no GPU or no binding here, or options that do not go together.
    """
    from engine.devices import open_device
    from engine.latency import measure
    from engine.runner import Runner

    options.profile = options.profile or options.export_profile is not None
    options.layers = options.layers or options.export_layers is not None
    _check(options)
    with open_device(options.binding) as device:
        facts = device.facts()
        console.line("gpu", facts.line())
        subject = built(options, console) if options.config else from_plan(options, console, facts)
        latencies = []
        for load in range(1, options.loads + 1):
            with Runner(subject.tensorrt, subject.plan, device, subject.dla_core) as runner:
                inputs, title = _inputs(options, subject, runner)
                latencies.append(measure(runner, inputs, _latency_options(options)))
                if load == options.loads:
                    inside = _inside(options, subject, runner, inputs)
    _print_latency(console, latencies, [*subject.conditions(), device.binding])
    _print_inside(options, console, inside)
    about = {"gpu": facts._asdict(), "binding": device.binding, **subject.as_json(), "input": title}
    _write(options, inside, {**about, **_described(latencies)})
    return 0


def _check(options: argparse.Namespace) -> None:
    """What cannot work is refused before the build: no GPU, no weights, a directory that cannot be written.

    So is what a plan that is there would ignore; `--set` changes the config that says what it is fed with.
    """
    from engine.tensorrt_api import gpu_count

    if not gpu_count():
        raise UsageError(
            "run.py bench: no GPU answers here, and only a GPU can be measured; run it where an NVIDIA driver is, for "
            "example on the device with --plan"
        )
    if options.plan:
        engines.refuse_build_options(options, "the plan is built already")
        given = [name for name in ("sample", "ledger") if getattr(options, name)]
        if given:
            raise UsageError(f"--{given[0]}: the plan is built already, and no checkpoint is read")
    build_arguments.refuse_stripped(options)
    exports = {"--export-profile": options.export_profile, "--export-layers": options.export_layers}
    check_files({"--json": options.json, **exports})


def _inputs(options: argparse.Namespace, subject: Subject, runner: Any) -> Tuple[Dict[str, Any], str]:
    """Arrays of the batch that is measured; fewer images than that are repeated."""
    import numpy as np

    from verify.inputs import make_inputs

    if subject.graph is None and options.input is not None:
        raise UsageError(f"--input {options.input}: the plan's config is not here to say what it is fed with")
    batch = options.batch or runner.inputs[0].optimum[0]
    subject.check_batch(batch, runner.inputs[0])
    if subject.graph is None:
        rng = np.random.default_rng(0)
        arrays = {tensor.name: rng.integers(0, 128, tensor.optimum).astype(tensor.dtype) for tensor in runner.inputs}
        title = "random whole numbers"
    else:
        arrays, title = make_inputs(subject.graph, options.input or "random:0")
    return {name: array[np.arange(batch) % len(array)] for name, array in arrays.items()}, title


def _latency_options(options: argparse.Namespace) -> Any:
    """Of one load."""
    from engine.latency import LatencyOptions

    return LatencyOptions(options.warm_up / 1e3, options.duration / options.loads, options.iterations, options.graph,
                          options.transfers, options.in_flight)  # fmt: skip


def _print_latency(console: Console, latencies: Latencies, about: Sequence[str]) -> None:
    """The middle load's figures, with all that changes them."""
    from engine.latency import middle

    latency = middle(latencies)
    console.line("measured", ", ".join([*about, *latency.conditions()]))
    if len(latencies) > 1:
        medians = sorted(each.median for each in latencies)
        console.line("loads", f"the middle one of {len(medians)}: medians {medians[0]:.4g} to {medians[-1]:.4g} ms")
    for line in latency.lines():
        console.line("bench", line)


def _described(latencies: Latencies) -> Dict[str, Any]:
    """The middle load's figures as JSON, and the median of each."""
    from engine.latency import middle

    return {**middle(latencies).as_json(), "medians_of_loads": [round(each.median, 5) for each in latencies]}


def _inside(options: argparse.Namespace, subject: Subject, runner: Any, inputs: Mapping[str, Any]) -> Inside:
    """The engine's layers beside ours; with a profile alone their names come from the profile."""
    from engine.inspection import EngineLayer, engine_document, engine_layers, join
    from engine.profiling import profile

    document = engine_document(subject.tensorrt, runner.engine) if options.layers else None
    profiled = profile(runner, inputs, _latency_options(options)) if options.profile else None
    named = [EngineLayer(name) for name in profiled.times] if profiled is not None else []
    layers = engine_layers(document) if document is not None else named
    return Inside(profiled, document, layers, join(layers, subject.layer_names))


def _print_inside(options: argparse.Namespace, console: Console, inside: Inside) -> None:
    shown = None if options.all else SHOWN_ROWS
    if inside.profile is not None:
        rows = _profile_rows(inside)
        title = f"profile of {inside.profile.runs} inferences, {inside.profile.total:.4g} ms in {len(rows)} layers"
        _table(console, title, ["ms", "median", "share %", "engine layer", "our layers"], rows, shown)
    if options.layers:
        rows = _layer_rows(inside)
        title = f"the engine's {len(rows)} layers"
        _table(console, title, ["engine layer", "kind", "tactic", "outputs", "our layers"], rows, shown)
    if inside.layers and inside.join.vanished:
        console.line("vanished", f"folded away or without work: {', '.join(inside.join.vanished)}")


def _table(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], shown: Any
) -> None:
    rest = len(rows) - len(rows[:shown])
    console.table(f"{title}; {rest} more with --all" if rest else title, columns, rows[:shown])


def _profile_rows(inside: Inside) -> List[List[str]]:
    """Slowest first."""
    import numpy as np

    profile, ours = inside.profile, _owners(inside)
    return [
        [f"{profile.mean(name):.4f}", f"{np.median(profile.times[name]):.4f}", f"{profile.share(name):.1f}", name,
         ours(name)]  # fmt: skip
        for name in profile.slowest_first()
    ]


def _layer_rows(inside: Inside) -> List[List[str]]:
    from engine.inspection import output_types

    ours = _owners(inside)
    return [
        [layer.name, layer.kind, _cut(layer.tactic, SHOWN_TACTIC), output_types(layer), ours(layer.name)]
        for layer in inside.layers
    ]


def _owners(inside: Inside) -> Callable[[str], str]:
    """Our layers of an engine layer as a cell."""

    def cell(name: str) -> str:
        names = inside.join.ours.get(name, ())
        more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
        return ", ".join(names[:SHOWN_NAMES]) + more

    return cell


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _write(options: argparse.Namespace, inside: Inside, report: Dict[str, Any]) -> None:
    """The files that were asked for."""
    from engine.atomic_file import json_bytes, write_whole

    profiled = inside.profile.as_json() if inside.profile is not None else None
    if options.export_profile:
        write_whole(options.export_profile, json_bytes(profiled))
    if options.export_layers:
        write_whole(options.export_layers, json_bytes(inside.document))
    if options.json:
        layers = [{**layer.as_json(), "our_layers": list(inside.join.ours[layer.name])} for layer in inside.layers]
        vanished = list(inside.join.vanished) if inside.layers else None
        details = {"profile": profiled, "layers": layers or None, "vanished": vanished}
        write_whole(options.json, json_bytes({**report, **details}))
