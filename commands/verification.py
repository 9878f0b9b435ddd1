"""The proof within a job: every layer against the source framework, the verdict in its last lines, and the reports."""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from commands.argument_types import from_zero
from commands.configs import shown
from commands.console import Console
from commands.stages import Prepared
from spec.errors import MissingFramework, UsageError, VerificationError
from spec.wording import counted

SHOWN_ROWS = 10
"""Rows of the table printed after a passed comparison; a failed one prints as many, the worst first."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a comparison."""
    add_input_argument(parser)
    rule = "a layer passes if |c - r| <= atol + rtol * max|r|"
    parser.add_argument("--atol", type=from_zero, default=0.0, help=f"{rule} (default 0)")
    parser.add_argument("--rtol", type=from_zero, help="default 1e-5")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write the comparison as JSON and as one HTML page")


def add_input_argument(parser: argparse.ArgumentParser) -> None:
    words = "random:SEED (default in fp32), structured:SEED (default in others), an .npy, .npz or image file"
    parser.add_argument("--input", metavar="WHAT", help=words)


def add_reference_argument(parser: argparse.ArgumentParser) -> None:
    """For comparisons of engines, which are worth something without the source framework too."""
    words = "source: the source framework; interpreter: our own definition in float64, which proves the engine alone"
    choices = ("auto", "source", "interpreter")
    parser.add_argument("--reference-run", choices=choices, default="auto", help=f"{words} (default: what is there)")


COMPARED: Dict[str, Any] = {
    # option of a comparison: its value where it was not given
    "input": None, "report": None, "atol": 0.0, "rtol": None,
}  # fmt: skip


def refuse_unused(options: argparse.Namespace, without: str, names: Iterable[str] = tuple(COMPARED)) -> None:
    """Raises UsageError for options of a comparison beside one, `without`, that leaves it out."""
    given = [name for name in names if getattr(options, name, COMPARED[name]) != COMPARED[name]]
    if given:
        words = ", ".join(f"--{name}" for name in given)
        raise UsageError(f"{words}: nothing is compared with {without}; leave out one or the other")


class Proof(NamedTuple):
    """What was proven: a comparison, or a sentence that says why there is none."""

    without: str
    comparison: Optional[Any]  # verify.compare.Comparison

    @property
    def passed(self) -> bool:
        """Not having compared is no failure of the network, and is said plainly."""
        return self.comparison is None or self.comparison.passed

    def print(self, console: Console) -> None:
        """The last lines before the verdict."""
        if self.comparison is None:
            console.line("verify", self.without)
            return
        from verify.report import verdict_lines

        for line in verdict_lines(self.comparison):
            console.line("verify", line)

    def as_json(self) -> Any:
        return {"not_verified": self.without} if self.comparison is None else self.comparison.as_json()

    def summary(self) -> Any:
        """The comparison without its rows, for a manifest."""
        if self.comparison is None:
            return {"not_verified": self.without}
        from engine.atomic_file import json_number

        plain: Dict[str, Any] = self.comparison.as_json()
        rows = plain.pop("rows")
        return {**plain, "layers": len(rows), "worst_error": json_number(self.comparison.worst.worst_error)}


def prove(options: argparse.Namespace, console: Console, prepared: Prepared) -> Proof:
    """Compares with what is there; a source framework that is not installed is no failure.

    Raises:
        UsageError: a report is asked for, and there is nothing to report.
    """
    try:
        if options.no_verify:
            raise MissingFramework("--no-verify")
        if prepared.model.reference is None:
            raise MissingFramework("the config names no `reference`")
        return Proof("", compare(options, console, prepared))
    except MissingFramework as missing:
        reason = f" ({missing})" if options.no_verify else f": {missing}"
        without = f"not verified against the source model{reason}"
    if options.report is not None:
        raise UsageError(f"--report {options.report}: nothing to report: {without}")
    return Proof(without, None)


def compare(options: argparse.Namespace, console: Console, prepared: Prepared) -> Any:
    """The comparison of every layer; writes the reports that were asked for."""
    from verify.compare import Tolerance
    from verify.verification import verify
    from weights.readings import readings_of

    if options.report is not None:
        from verify.report import require_packages

        require_packages()
    activations, loud = activations_and_louder(options, console, prepared)
    with console.stage("compare") as found:
        readings = readings_of(prepared.graph, prepared.weights)
        tolerance = Tolerance(options.atol, 1e-5 if options.rtol is None else options.rtol)
        verification = verify(prepared.definition, activations, tolerance, readings, loud)
        found.append(f"{counted(len(verification.comparison.rows), 'layer')}, isolated and accumulated")
    if options.report is not None:
        write_reports(options, console, prepared, verification)
    return verification.comparison


def activations_and_louder(options: argparse.Namespace, console: Console, prepared: Prepared) -> Tuple[Any, Any]:
    """The reference's activations; and those on a louder input, where only that shows what layers do; else None."""
    from verify.inputs import make_inputs
    from verify.reference import reference_activations
    from verify.source_inputs import takes_louder
    from verify.unseen import tensors_of
    from verify.verification import quiet_of

    model, graph = prepared.model, prepared.graph
    reference, activations = _reference_run(options, console, prepared)
    quiet = {} if options.input is not None or reference.recorded else quiet_of(graph, activations)
    if not quiet or not takes_louder(model, graph, reference):
        return activations, None
    with console.stage("louder") as found:
        wanted = set(tensors_of(graph, list(quiet)))
        loud = reference_activations(model, graph, reference, *make_inputs(graph, "loud:0"), wanted)
        found.append(f"{loud.title} on {loud.input_title}, for layers that show there what they do")
    return activations, loud


def reference_activations(options: argparse.Namespace, console: Console, prepared: Prepared) -> Any:
    """What the source framework computes on the input, by our names."""
    return _reference_run(options, console, prepared)[1]


def _reference_run(options: argparse.Namespace, console: Console, prepared: Prepared) -> Tuple[Any, Any]:
    """The source framework's model, opened, and what it computes on the input."""
    from engine.manifest import sha256_of_files
    from verify.inputs import make_inputs
    from verify.recorded import Recorded
    from verify.reference import open_reference, reference_activations, unresolved
    from weights.tf_paths import checkpoint_prefix

    with console.stage("reference") as found:
        reference = open_reference(prepared.model, checkpoint_prefix(prepared.model.weights_path))
        if isinstance(reference, Recorded):
            reference.check_checkpoint(sha256_of_files(prepared.checkpoint.files))
        if options.input is None and reference.inputs is not None:
            inputs, title = reference.inputs, reference.input_title
        else:
            inputs, title = make_inputs(prepared.graph, options.input or default_input(prepared.model))
        activations = reference_activations(prepared.model, prepared.graph, reference, inputs, title)
        absent = unresolved(prepared.graph, reference, activations.names)
        if absent:
            raise VerificationError(absent)
        found.append(f"{activations.title} on {activations.input_title}: {counted(len(activations.arrays), 'tensor')}")
    return reference, activations


def default_input(model: Any) -> str:
    """Noise finds every mistake in a definition; fp16 and int8 are judged on images like those they are made for."""
    return "random:0" if model.precision.words == ("fp32",) else "structured:0"


def any_activations(options: argparse.Namespace, console: Console, prepared: Prepared) -> Any:
    """Those of the source framework; where it cannot be asked, or need not be, those of our own fp32 definition.

    Raises:
        UsageError: `--reference-run source`, and the config names no reference, or its framework is not installed.
    """
    missing = "--reference-run interpreter"
    if options.reference_run != "interpreter":
        try:
            check_reference(prepared.model)
            return reference_activations(options, console, prepared)
        except MissingFramework as error:
            if options.reference_run == "source":
                raise
            missing = str(error)
    console.line("reference", f"not the source framework: {missing}")
    return _own_activations(options, console, prepared)


def check_reference(model: Any) -> None:
    """Raises MissingFramework where the config names nothing to compare with."""
    if model.reference is None:
        raise MissingFramework(f"{model.path}: names no `reference` to compare with; see configs/model1.yaml")


def _own_activations(options: argparse.Namespace, console: Console, prepared: Prepared) -> Any:
    from verify.engine_comparison import interpreted_activations
    from verify.inputs import make_inputs

    with console.stage("reference") as found:
        inputs, title = make_inputs(prepared.graph, options.input or default_input(prepared.model))
        activations = interpreted_activations(prepared.definition, inputs, title)
        found.append(f"{activations.title}; on {title}")
    return activations


def write_reports(options: argparse.Namespace, console: Console, prepared: Prepared, verification: Any) -> None:
    """The comparison as JSON and as a page, into `--report`."""
    from engine.atomic_file import check_writable
    from verify.report import write_json, write_page

    with console.stage("report") as found:
        directory: Path = options.report
        check_writable(directory)
        ledger = [row._asdict() for row in prepared.weights.ledger]
        paths: List[Path] = [directory / f"{prepared.model.name}.diff.{kind}" for kind in ("json", "html")]
        write_json(verification.comparison, paths[0])
        made = f"{options.command}, {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
        write_page(verification.comparison, prepared.graph, verification.arrays, ledger, paths[1], made)
        found.append(" and ".join(shown(path) for path in paths))
