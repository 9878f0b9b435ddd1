"""run.py check --plan P: whether a plan is whole and was built for the TensorRT and the GPU that are here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict, List

from commands.build_arguments import WORDS
from commands.configs import shown
from commands.console import Console
from spec.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plan", type=Path, required=True, metavar="FILE", help="a plan; its manifest lies beside it")
    parser.add_argument("--precision", choices=WORDS, help="the precision that is wanted")
    parser.add_argument(
        "--file-only", action="store_true", help="compare the plan with its manifest, not with what is here"
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Prints what the manifest says, then the verdict; raises PlanError where the plan does not fit."""
    from engine.plan_check import check_plan, gpu_here, lacks_weights, read_manifest

    manifest = read_manifest(options.plan)
    _print(console, options.plan, manifest)
    if options.file_only:
        console.line("check", "the plan is the one that its manifest describes")
        return 0
    facts = gpu_here()
    tensorrt = _nearest_tensorrt(manifest["tensorrt"]["name"])
    check_plan(options.plan, tensorrt, facts, options.precision)
    place = f"{facts.name}" if facts else "a machine without a GPU, so not compared with one"
    whole = "whole but for its weights" if lacks_weights(manifest) else "whole"
    console.line("check", f"{whole}, and fits {tensorrt.title} on {place}")
    return 0


def _nearest_tensorrt(name: str) -> Any:
    """The TensorRT that built the plan where it is installed, else the one that is, which the verdict then names."""
    from engine.tensorrt_api import load

    try:
        return load(name)
    except UsageError:
        return load("auto")


def _print(console: Console, path: Path, manifest: Dict[str, Any]) -> None:
    from engine.plan_check import built_by, lacks_weights
    from engine.refit_table import refit_command

    plan, config, proof = manifest["plan"], manifest.get("config") or {}, manifest.get("verification") or {}
    console.line("plan", f"{shown(path)}: {plan['bytes']:,} bytes, sha256 {plan['sha256'][:12]}")
    console.line("built by", f"{built_by(manifest)}, in {manifest.get('precision', 'an unnamed precision')}")
    console.line("from", f"{config.get('file', 'an unnamed config')}, with `{manifest.get('command', 'unknown')}`")
    inputs, outputs = (", ".join(_described(manifest.get(key) or [])) for key in ("inputs", "outputs"))
    console.line("tensors", f"{inputs} -> {outputs}")
    if lacks_weights(manifest):
        console.line("weights", f"left out by --strip-weights; put them in: `{refit_command(path, manifest)}`")
    if proof:
        agreed = f"agreed with {proof.get('reference')}" if proof.get("passed") else proof.get("not_verified")
        console.line("proof", str(agreed))


def _described(tensors: List[Dict[str, Any]]) -> List[str]:
    from spec.shapes import show

    return [f"{tensor['name']} {tensor['dtype']} {show(tensor['shape'])}" for tensor in tensors]
