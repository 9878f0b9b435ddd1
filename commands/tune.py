"""run.py tune: the fewest layers that must stay in higher precision, found by trials, as YAML.

Where tensors are typed (TensorRT-RTX, 11) a trial is the network run on the CPU, every tensor rounded as it is typed.
Elsewhere it is an engine on the GPU, and layers are only ranked on the CPU, where half is emulated.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, FrozenSet, Iterator, List, NamedTuple

from commands import build_arguments, engines, tuned, verification
from commands.argument_types import above_zero, whole
from commands.console import Console
from commands.defining import precision_of
from commands.stages import Prepared, add_config_arguments, prepare, read_config
from spec.errors import TransplantFailure, UsageError
from spec.wording import counted

HIGH = {"fp16": "fp32", "int8": "fp16"}
"""What kept layers compute in, by what the others do."""

IMAGES = "structured:2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    verification.add_input_argument(parser)
    add = parser.add_argument
    add("--images", metavar="WHAT", help=f"as calibrate takes them (default {IMAGES})")
    add("--reference", action="store_true", help="judge against the config's `reference` on --input, not against fp32")
    add("--tolerance", type=above_zero, default=1e-3, metavar="ERROR", help="the largest that will do (default 1e-3)")
    measures = "||c - r|| / ||r|| (the default), or max|c - r| / max|r|"
    add("--measure", choices=tuple(tuned.MEASURED), default="relative_l2", help=measures)
    add("--layers", action="store_true", help="judge every layer, not only the outputs; in an engine it changes fusion")
    add("--high", choices=("fp32", "fp16"), help="precision of the kept layers (default fp32, under int8 fp16)")
    add("--trials", type=whole(0), default=100, metavar="N", help="trials at most that give layers back (default 100)")
    add("--json", type=Path, metavar="FILE", help="write every trial as JSON")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--write", action="store_true", help="write the result into the config, at its `precision:`")
    where.add_argument("--output", type=Path, metavar="FILE", help="write the result to a YAML file of its own")
    build_arguments.add_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Searches and writes; returns the exit code."""
    from verify.precision_choice import choice_of

    if options.input and not options.reference or options.images and options.reference:
        raise UsageError("tune: --images goes with the fp32 network, --input with --reference; leave one out")
    model, graph = read_config(options, console)
    precisions = _precisions(options, model)
    tuned.check_targets(options, model)
    prepared = prepare(options, console, model, graph)
    choice = choice_of(graph, *precisions, spare_images=prepared.definition.tensorrt.has("fp16 flag"))
    job = _Job(options, console, prepared, choice)
    if not job.built:
        without = argparse.Namespace(**{**vars(options), "precision": None})
        engines.refuse_build_options(without, "trials are run on the CPU here, and nothing is built")
    precision_of(job.model(frozenset()), graph, job.prepared.definition.tensorrt)  # lacks int8 ranges, before the work
    report = tuned.Report(options, console, choice, model)
    with _searching(job, _cases(options, console, job.prepared), report) as search:
        try:
            search.run()
        except (KeyboardInterrupt, TransplantFailure) as end:
            what = "interrupted" if isinstance(end, KeyboardInterrupt) else "a trial failed"
            report.result(search, f"{what}; the best so far")
            report.print(search)
            report.trials_as_json(search, complete=False)
            raise
    report.trials_as_json(search)
    report.check_reached(search)
    report.result(search, "--trials ended the search" if search.exhausted else "no single one of them can be low")
    if not report.write(search):
        report.print(search)
    return 0


def _precisions(options: argparse.Namespace, model: Any) -> List[str]:
    """[low, high]."""
    low = model.precision.default
    if low not in HIGH:
        raise UsageError(f"tune: most layers are {low}; say --precision fp16 or --precision int8")
    high = options.high or HIGH[low]
    if high == low:
        raise UsageError(f"--high {high}: the other layers are {low} already; wanted --high {HIGH[low]}")
    return [low, high]


def _cases(options: argparse.Namespace, console: Console, prepared: Prepared) -> List[Any]:
    """Inputs with the tensors to be judged: of the fp32 network on --images, or of the reference on its input."""
    from commands.calibrate import batches_of
    from engine.interpreter import Interpreter
    from verify.trials import Case, check_cases

    graph, definition = prepared.graph, prepared.definition
    judged = graph.made if options.layers else graph.outputs
    if options.reference:
        activations = verification.reference_activations(options, console, prepared)
        cases = [Case(activations.inputs, {name: activations.arrays[name] for name in judged})]
    else:
        with console.stage("expected") as found:
            interpreter = Interpreter(definition.network, definition.tensorrt.module)
            images = options.images or IMAGES
            cases = [Case(inputs, interpreter.run(inputs, judged)) for inputs in batches_of(graph, images)]
            tensors, inputs = counted(len(judged), "tensor"), counted(len(cases), "input")
            found.append(f"{tensors} of the fp32 network on {inputs} of {images}")
    check_cases(cases)
    return cases


class _Job(NamedTuple):
    """What every trial needs."""

    options: argparse.Namespace
    console: Console
    prepared: Prepared
    choice: Any  # verify.precision_choice.Choice

    def define(self, kept: FrozenSet[str]) -> Any:
        """The network with these groups kept."""
        return engines.defined(self.prepared, self.model(kept))

    def model(self, kept: FrozenSet[str]) -> Any:
        """The config with these groups kept."""
        return self.prepared.model.model_copy(update={"precision": self.choice.spec(kept)})

    @property
    def built(self) -> bool:
        """Whether a trial is an engine: where tensors have no types, nothing else shows a precision."""
        return bool(self.prepared.definition.tensorrt.has("fp16 flag"))


@contextmanager
def _searching(job: _Job, cases: List[Any], report: tuned.Report) -> Iterator[Any]:
    """The search, with the measure that this TensorRT allows."""
    from verify.trials import Built, Interpreted
    from verify.tuning import Search

    options, choice, every = job.options, job.choice, job.choice.every
    arguments = (job.define, cases, options.measure, report.refused)
    interpreted = Interpreted(job.prepared.graph, every, *arguments)

    def emulated(name: str) -> float:
        error = interpreted.error(every - {name})
        report.emulated(name, error)
        return error

    with tempfile.TemporaryDirectory() as directory:
        error, sensitivity = interpreted.error, None
        if job.built:
            plan_options = build_arguments.runnable_options(options, job.prepared.definition.tensorrt)
            cache = plan_options.timing_cache or Path(directory) / "timing.cache"
            error, sensitivity = Built(plan_options._replace(timing_cache=cache), *arguments).error, emulated
        names, costs = list(choice.groups), choice.costs
        yield Search(names, error, options.tolerance, report.trial, sensitivity, costs, options.trials)
