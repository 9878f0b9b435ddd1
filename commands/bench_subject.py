"""What run.py bench measures: a plan built for it from a config, or one that is there with its manifest."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from commands import build_arguments
from commands.configs import load_graph, shown
from commands.console import Console
from commands.stages import in_precision, prepare, read_config
from spec.errors import UsageError


class Subject(NamedTuple):
    """A plan, and what of it must be stated.

    Attributes:
        plan: its bytes.
        graph: our description, whose layers the engine's are joined to; None where the plan's config is not here.
        precision: as a config writes it; None if unknown.
        title: where the plan is from.
        dla_core: the DLA that the plan was built for, if it was.
        least_batch: of a plan with a dynamic batch, whose engine says only what it is at most.
    """

    tensorrt: Any  # engine.tensorrt_api.TensorRT
    plan: Any
    graph: Optional[Any]  # spec.graph.Graph
    precision: Any
    title: str
    dla_core: Optional[int] = None
    least_batch: int = 1

    @property
    def layer_names(self) -> List[str]:
        return [layer.name for layer in self.graph.layers] if self.graph is not None else []

    @property
    def tf32(self) -> Optional[bool]:
        """Whether TF32 was allowed, which only a default can ask for; None if unknown."""
        default = self.precision.get("default") if isinstance(self.precision, dict) else self.precision
        return None if self.precision is None else default == "tf32"

    def check_batch(self, batch: int, tensor: Any) -> None:
        """Raises UsageError for a batch that the plan's input, an engine.buffers.IOTensor, does not take."""
        fixed, most = tensor.shape[0] != -1, tensor.most[0]
        if fixed and batch != most:
            cure = "with --config a plan is built for the batch given"
            raise UsageError(f"--batch {batch}: the plan takes batch {most} only; {cure}")
        if not self.least_batch <= batch <= most:
            cure = "with --config and another dynamic batch (--set batch=...) one is built that takes it"
            raise UsageError(f"--batch {batch}: the plan takes {self.least_batch} to {most}; {cure}")

    def conditions(self) -> List[str]:
        """In words."""
        from spec.precision import PrecisionSpec

        if self.precision is None:
            return [self.tensorrt.title, "precision unknown"]
        words = " and ".join(PrecisionSpec.model_validate(self.precision).words)
        return [self.tensorrt.title, words, f"TF32 {'on' if self.tf32 else 'off'}"]

    def as_json(self) -> Dict[str, Any]:
        size = memoryview(self.plan).nbytes
        tensorrt = {"name": self.tensorrt.name, "version": self.tensorrt.version}
        return {"tensorrt": tensorrt, "plan": {"from": self.title, "bytes": size}, "precision": self.precision,
                "tf32": self.tf32}  # fmt: skip


def built(options: argparse.Namespace, console: Console) -> Subject:
    """Builds the config's plan; a batch that the config does not have is put in its place."""
    from commands.progress import shown_progress
    from engine.plan import build_plan

    _, as_written = load_graph(options.config, options.set)
    _check_batch(options.batch, as_written)
    options.set = [*options.set, *_batch_overrides(as_written, options.batch)]
    model, graph = read_config(options, console)
    prepared = prepare(options, console, model, graph)
    plan_options = build_arguments.plan_options(options, prepared.definition.tensorrt)
    if options.layers and plan_options.profiling is None:
        plan_options = plan_options._replace(profiling="detailed")
    with console.stage("build") as found:
        with shown_progress(console) as progress:
            plan = build_plan(in_precision(prepared), plan_options, progress)
        found.append(f"{memoryview(plan).nbytes / 1e6:,.1f} MB")
    precision = model.precision.as_written()
    return Subject(prepared.definition.tensorrt, plan, as_written, precision, str(model.path), plan_options.dla_core)


def _check_batch(batch: Optional[int], graph: Any) -> None:
    """Raises UsageError for a batch outside the range of a dynamic one."""
    takes = graph.batch
    if batch is None or takes is None or takes.min <= batch <= takes.max:
        return
    wider = f"--set 'batch={{min: {min(batch, takes.min)}, opt: {takes.opt}, max: {max(batch, takes.max)}}}'"
    raise UsageError(f"--batch {batch}: the config's batch is {takes.min} to {takes.max}; widen it with {wider}")


def _batch_overrides(graph: Any, batch: Optional[int]) -> Sequence[str]:
    """KEY=VALUE words that give every input of a static graph another batch."""
    if batch is None or graph.batch is not None:
        return ()
    return [f"inputs.{name}.shape={[batch, *spec.shape[1:]]}" for name, spec in graph.inputs.items()]


def from_plan(options: argparse.Namespace, console: Console, facts: Any) -> Subject:
    """A plan that fits what is here; raises PlanError where it does not, UsageError for one without its weights."""
    from engine.plan_check import check_plan, dla_core_of, read_manifest, require_weights
    from engine.tensorrt_api import load

    backend = options.backend if options.backend != "auto" else read_manifest(options.plan)["tensorrt"]["name"]
    tensorrt = load(backend)
    manifest = check_plan(options.plan, tensorrt, facts)
    require_weights(options.plan, manifest)
    plan = options.plan.read_bytes()
    graph, where = _graph_of(manifest, options.set)
    console.line("plan", f"{shown(options.plan)}: {len(plan) / 1e6:,.1f} MB; {where}")
    dla_core, least = dla_core_of(manifest), _least_batch(manifest)
    return Subject(tensorrt, plan, graph, manifest.get("precision"), str(options.plan), dla_core, least)


def _least_batch(manifest: Dict[str, Any]) -> int:
    """1 where the batch is not dynamic, or the manifest, which may be older, does not say."""
    batch = manifest.get("batch")
    least = batch.get("min") if isinstance(batch, dict) else None
    return least if isinstance(least, int) else 1


def _graph_of(manifest: Dict[str, Any], overrides: Sequence[str]) -> Tuple[Optional[Any], str]:
    """The graph of the config that the plan was built from, if that is here and has not changed."""
    from engine.manifest import sha256_of_file

    config = manifest.get("config") or {}
    path = Path(str(config.get("file")))
    if not path.is_file():
        return None, f"its config {path} is not here, so the engine's layers keep their own names"
    if sha256_of_file(path) != config.get("sha256"):
        return None, f"its config {path} has changed since, so the engine's layers keep their own names"
    return load_graph(str(path), [*config.get("set", []), *overrides])[1], f"layers as in {path}"
