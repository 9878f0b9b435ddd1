"""run.py dla: which layers the DLA of a Jetson takes, before anything is built there, and what that costs in hops.

By NVIDIA's documented rules anywhere; on a machine with a DLA, TensorRT itself is asked for each layer.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from commands.console import Console
from commands.stages import Prepared, add_config_arguments, in_precision, prepare, read_config
from spec.errors import UsageError

if TYPE_CHECKING:
    from engine.dla.placement import DlaPlan, Placement
    from engine.targets import Target

DEFAULT = "orin"
SHOWN_LAYERS, SHOWN_HOPS = 3, 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--target", default=DEFAULT, metavar="NAME", help=f"xavier, orin@6.2, ... (default {DEFAULT})")
    parser.add_argument("--precision", choices=("fp16", "int8"), help="the config's where left out, fp16 for fp32")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the plan as JSON")
    parser.add_argument("--all", action="store_true", help="print every layer, not only those on the GPU")


def run(options: argparse.Namespace, console: Console) -> int:
    """Prints the plan; returns the exit code."""
    from engine.atomic_file import check_file, json_bytes, write_whole
    from engine.dla.placement import plan_dla

    target = _target(options.target)
    if options.json:
        check_file(options.json)
    model, graph = read_config(options, console)
    if set(model.precision.words) <= {"fp32", "tf32"}:
        console.line("precision", f"fp16: a DLA does nothing in the {model.precision.default} of the config")
        model = model.model_copy(update={"precision": type(model.precision)(default="fp16")})
    precisions = model.precision.of_layers([layer.name for layer in graph.layers], model.place("precision"))
    asked, version = _asked(options, console, target, model, graph)
    with console.stage("dla") as found:
        plan = plan_dla(graph, _accelerator(target, version), precisions, asked)
        found += _summary(plan, target, version, asked is not None)
    _print(console, plan, options.all)
    if options.json:
        about = {"model": model.name, "target": target.name, "tensorrt": version, "asked": asked is not None}
        write_whole(options.json, json_bytes({**about, **_as_json(plan, model)}))
    return 0


def _target(word: str) -> Target:
    """The target with the one release that is planned for: the oldest, whose rules are the strictest."""
    from engine.targets import find_target, targets

    target = find_target(word)
    if not target.dla_cores:
        known = ", ".join(name for name, row in targets().items() if row.dla_cores)
        raise UsageError(f"--target {word}: {target.title} has no DLA; these have: {known}")
    return target._replace(releases=target.releases[:1])


def _accelerator(target: Target, version: str) -> Any:
    from engine.dla.case import Accelerator
    from engine.targets import version_of

    return Accelerator(target.dla_generation, version_of(version))


def _asked(
    options: argparse.Namespace, console: Console, target: Target, model: Any, graph: Any
) -> Tuple[Optional[Dict[str, str]], str]:
    """(TensorRT's own answers, its version) where this is the target; else (None, the version that the target has)."""
    from engine.targets import is_this_machine, no_dla_because, version_of
    from engine.tensorrt_api import load

    ruled = None, target.releases[0].tensorrt
    try:
        tensorrt = load(options.backend)
    except UsageError:  # the rules need none
        return ruled
    if not is_this_machine(target, tensorrt):
        return ruled
    missing = no_dla_because(version_of(tensorrt.version))
    if missing:
        raise UsageError(f"--target {target.name}: {missing}; JetPack 5.1 to 6.2 have a TensorRT with it")
    return _answers(prepare(options, console, model, graph)), tensorrt.version


def _answers(prepared: Prepared) -> Dict[str, str]:
    from engine.build_options import PlanOptions, apply_options
    from engine.dla.asking import ask
    from engine.plan import set_precision

    definition = in_precision(prepared)
    config = definition.trt_builder.create_builder_config()
    set_precision(definition, config)
    apply_options(definition.tensorrt, config, PlanOptions(dla_core=0, gpu_fallback=True))
    return ask(definition, config)


def _summary(plan: DlaPlan, target: Target, version: str, asked: bool) -> List[str]:
    from engine.dla.placement import DLA, MOST_SUBNETWORKS

    source = "TensorRT was asked" if asked else f"rules for JetPack {target.releases[0].jetpack}"
    placed = f"{len(plan.on(DLA))} of {len(plan.placements)} layers on the DLA"
    words = [
        f"{target.title}, TensorRT {version}, {source}: {placed}",
        f"{plan.subnetworks} subnetwork{'' if plan.subnetworks == 1 else 's'}",
        f"{len(plan.hops)} hop{'' if len(plan.hops) == 1 else 's'}, {sum(hop.bytes for hop in plan.hops):,} bytes",
    ]
    if plan.subnetworks > MOST_SUBNETWORKS:
        words.append(f"a core loads {MOST_SUBNETWORKS} subnetworks at once")
    return words


def _print(console: Console, plan: DlaPlan, whole: bool) -> None:
    from engine.dla.placement import GPU
    from spec.shapes import show

    if whole:
        rows = [[row.layer.name, row.layer.type, row.device, row.reason, row.source] for row in plan.placements]
        console.table("layers", ["layer", "type", "device", "reason", "by"], rows)
    else:
        console.table("on the GPU", ["layers", "type", "names", "reason"], _by_reason(plan.on(GPU)))
    hops = [[hop.tensor, f"{hop.source} to {hop.target}", show(hop.shape), f"{hop.bytes:,}"] for hop in plan.hops]
    shown = hops if whole else hops[:SHOWN_HOPS]
    title = "hops" if len(shown) == len(hops) else f"hops, the first {len(shown)} of {len(hops)}"
    console.table(title, ["tensor", "from", "shape", "bytes"], shown)


def _by_reason(placements: Sequence[Placement]) -> List[List[str]]:
    """A row for all layers of a type that share a reason."""
    groups: Dict[Tuple[str, str], List[str]] = {}
    for placement in placements:
        groups.setdefault((placement.layer.type, placement.reason), []).append(placement.layer.name)
    return [
        [str(len(names)), word, ", ".join(names[:SHOWN_LAYERS]) + (", ..." if len(names) > SHOWN_LAYERS else ""), why]
        for (word, why), names in groups.items()
    ]


def _as_json(plan: DlaPlan, model: Any) -> Dict[str, Any]:
    layers = [
        {"name": row.layer.name, "type": row.layer.type, "device": row.device, "reason": row.reason, "by": row.source}
        for row in plan.placements
    ]
    hops = [{**hop._asdict(), "shape": list(hop.shape)} for hop in plan.hops]
    precision = model.precision.as_written()
    return {"precision": precision, "subnetworks": plan.subnetworks, "layers": layers, "hops": hops}
