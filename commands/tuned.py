"""What `run.py tune` tells and writes: a line a trial, the precision it found, as YAML."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, Dict, List, Mapping

from commands.configs import shown
from commands.console import Console
from commands.output_files import check_files
from spec.errors import UsageError, VerificationError
from spec.wording import counted

MEASURED = {"relative_l2": "relative L2 error", "max": "max error"}


class Report:
    """One search as a person sees it.

    Args:
        choice: the verify.precision_choice.Choice that is searched.
    """

    def __init__(self, options: argparse.Namespace, console: Console, choice: Any, model: Any) -> None:
        self._options, self._console, self._choice, self._model = options, console, choice, model
        self._measured = MEASURED[options.measure]
        self._refusals: List[str] = []

    def refused(self, words: str) -> None:
        """TensorRT's reason against the trial that is under way."""
        self._refusals.append(words)

    def emulated(self, low: str, error: float) -> None:
        """A line for a group that was ranked without a trial."""
        self._told("rank", f"{low} low, emulated on the CPU: {error:.3g}")

    def trial(self, trial: Any, within: bool) -> None:
        """A line for a trial that has ended."""
        low = ", ".join(sorted(self._choice.every - trial.kept))
        what = f"{low} low" if trial.step == "rank" else self._kept(trial.kept)
        verdict = "within" if within else "too much"
        self._told(trial.step, f"{what}: {trial.error:.3g}, {verdict}")

    def _told(self, step: str, words: str) -> None:
        self._console.line(step, "; ".join([words, *self._refusals]))
        self._refusals.clear()

    def result(self, search: Any, claim: str) -> None:
        """A line for the best that is known."""
        best, count = search.best, f"{counted(len(search.trials), 'trial')}"
        if best is None:
            self._console.line("result", f"nothing within {self._options.tolerance:g} yet; {claim}; {count}")
            return
        error = f"{self._measured} {best.error:.3g}, tolerance {self._options.tolerance:g}"
        self._console.line("result", "; ".join([self._kept(best.kept), error, *([claim] if best.kept else []), count]))

    def print(self, search: Any) -> None:
        """The YAML of the best on standard output, whatever the verbosity; nothing where there is none."""
        if search.best is not None:
            print(self._row(search.best), flush=True)

    def check_reached(self, search: Any) -> None:
        """Raises VerificationError where no trial was within the tolerance."""
        if search.best is not None:
            return
        choice = self._choice
        least = min(search.trials, key=lambda trial: trial.error).error
        cure = "--high fp32" if choice.high == "fp16" else "a larger --tolerance; and see `run.py diff`"
        raise VerificationError(
            f"{self._model.path}: with all {len(choice.groups)} groups in {choice.high} the {self._measured} is "
            f"{least:.3g}, wanted {self._options.tolerance:g} at most; try {cure}"
        )

    def trials_as_json(self, search: Any, complete: bool = True) -> None:
        """Every trial into --json; not complete: the search ended before it was done."""
        from engine.atomic_file import json_bytes, json_number, write_whole

        options, layers = self._options, self._choice.layers
        if options.json is None:
            return
        trials = [{"step": t.step, "kept": layers(t.kept), "error": json_number(t.error)} for t in search.trials]
        best = self._choice.result(search.best.kept).as_written() if search.best else None
        about = {"measure": options.measure, "tolerance": options.tolerance, "complete": complete}
        about["exhausted"] = search.exhausted
        write_whole(options.json, json_bytes({**about, "precision": best, "trials": trials}))

    def write(self, search: Any) -> bool:
        """Into the config or a file of its own; whether one of them was asked for."""
        from engine.atomic_file import write_whole

        options, path = self._options, self._model.path.resolve()
        if options.write:
            values = values_of(options, self._model, self._choice.result(search.best.kept))
            write_whole(path, edited(path, values))
        elif options.output:
            write_whole(options.output, f"# {options.command}\n{self._row(search.best)}\n".encode())
        asked = bool(options.write or options.output)
        if asked:
            self._console.line("write", shown(path if options.write else options.output))
        return asked

    def _row(self, trial: Any) -> str:
        from spec.yaml_edit import written

        return f"precision: {written(self._choice.result(trial.kept).as_written())}"

    def _kept(self, kept: Any) -> str:
        choice = self._choice
        layers = f" ({counted(len(choice.layers(kept)), 'layer')})" if kept else ""
        return f"{len(kept)} of {counted(len(choice.groups), 'group')}{layers} in {choice.high}"


def check_targets(options: argparse.Namespace, model: Any) -> None:
    """Whether the result can be written, before the work; raises UsageError or ConfigError."""
    config = model.path.resolve() if options.write else None
    check_files({"--output": options.output, "--json": options.json, "--write": config})
    if options.write:
        edited(model.path, values_of(options, model, model.precision))


def values_of(options: argparse.Namespace, model: Any, precision: Any) -> Dict[str, Any]:
    """What `--write` puts into the config: the PrecisionSpec, and the ranges of int8 where `--set` alone names them."""
    values: Dict[str, Any] = {"precision": precision.as_written()}
    overridden = any(word.partition("=")[0].strip() == "ranges" for word in options.set)
    if overridden and model.ranges_path is not None and "int8" in precision.words:
        values["ranges"] = os.path.relpath(model.ranges_path.resolve(), model.path.resolve().parent)
    return values


def edited(path: Path, values: Mapping[str, Any]) -> bytes:
    """The config's bytes with other values at these keys."""
    from spec.yaml_edit import with_value

    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    for key, value in values.items():
        text = with_value(path, text, key, value)
    return text.encode()
