"""run.py triton: the plan of a config becomes the newest version of a model in a Triton model repository."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any, List, Sequence, Tuple

from commands.argument_types import whole
from commands.configs import load_graph, shown
from commands.console import Console
from spec.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="the YAML that the plan was built from")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the YAML, as in the build")
    add("--repository", type=Path, required=True, metavar="DIR", help="what `tritonserver --model-repository` is given")
    add("--plan", type=Path, nargs="+", metavar="FILE", help="default out/<model>/<model>.plan; or one for each GPU")
    add("--name", help="what clients call the model (default: the config's name)")
    add("--keep", type=whole(1), default=0, metavar="N", help="remove all but the newest N versions")
    group = parser.add_argument_group("config.pbtxt").add_argument
    group("--served-versions", type=whole(1), default=1, metavar="N", help="serve the newest N versions (default 1)")
    group("--queue-delay", type=whole(0), default=0, metavar="MICROSECONDS",
          help="how long a request may wait for a batch")  # fmt: skip
    group("--instances", type=whole(1), default=1, metavar="N", help="execution contexts on each GPU (default 1)")
    group("--gpus", type=_numbers, default=(), metavar="N,...", help="only these GPUs of the server")
    group("--warmup", choices=("zero", "random", "none"), default="zero", help="what a model is run on before requests")
    group("--no-graphs", action="store_true", help="without CUDA graphs")
    group("--labels", type=Path, metavar="FILE", help="the name of each class of the first output, a line each")
    add("--rehearse", action="store_true", help="accept a TensorRT-RTX plan, which Triton cannot load")


def run(options: argparse.Namespace, console: Console) -> int:
    """Publishes the plans; returns the exit code."""
    from deploy.triton import checked_sources, publish

    with console.stage("config") as found:
        model, graph = load_graph(options.config, options.set)
        name = _model_name(options.name or model.name)
        found.append(f"{shown(model.path)}: {name}")
    plans = options.plan or [Path("out") / model.name / f"{model.name}.plan"]
    with console.stage("plan") as found:
        sources = checked_sources(plans)
        for source in sources:
            _check_source(source, graph, options.rehearse)
            found.append(f"{shown(source.path)}: {_words(source.manifest)}")
    with console.stage("triton") as found:
        published = publish(options.repository, name, sources, _serving(options), options.keep)
        found.extend(_done(published, options.repository / name))
    _print_next(console, options.repository, sources)
    return 0


def _serving(options: argparse.Namespace) -> Any:
    from deploy.triton_config import ServingOptions

    return ServingOptions(
        queue_delay=options.queue_delay,
        instances=options.instances,
        gpus=options.gpus,
        warmup=options.warmup,
        graphs=not options.no_graphs,
        served=options.served_versions,
        labels=options.labels,
    )


def _check_source(source: Any, graph: Any, rehearse: bool) -> None:
    """A plan is of this config, and of the TensorRT that Triton has."""
    from engine.manifest import describe_tensors
    from engine.plan_check import require_weights

    manifest = source.manifest
    require_weights(source.path, manifest)
    if manifest["tensorrt"]["name"] != "tensorrt" and not rehearse:
        raise UsageError(
            f"{source.path}: is a TensorRT-RTX plan; Triton's TensorRT backend loads plans of TensorRT only: build it "
            "with --backend tensorrt on a machine with the GPU (--rehearse writes the repository all the same)"
        )
    wanted = {"inputs": describe_tensors(graph, [*graph.inputs]), "outputs": describe_tensors(graph, graph.outputs)}
    wanted["batch"] = graph.batch.model_dump() if graph.batch else None
    for key, value in wanted.items():
        if manifest.get(key) != value:
            both = f"{key} of the plan: {_shown(manifest.get(key))}; of the config: {_shown(value)}"
            again = "repeat the --set of its build, a batch=... perhaps, or build it again"
            raise UsageError(f"{source.path}: {both}; {again}")


def _shown(value: Any) -> str:
    """Part of a manifest as a person writes it: `image uint8 1x224x224x3`, `min 1, opt 8, max 32`, `none`."""
    if isinstance(value, list):
        return ", ".join(f"{each['name']} {each['dtype']} {'x'.join(map(str, each['shape']))}" for each in value)
    return ", ".join(f"{key} {size}" for key, size in value.items()) if value else "none"


def _words(manifest: Any) -> str:
    from engine.plan_check import built_by

    return f"{built_by(manifest)}, {manifest.get('precision', 'unknown precision')}"


def _done(published: Any, model: Path) -> List[str]:
    added = "" if published.is_new else " holds these plans already"
    lines = [f"{shown(model)}: version {published.version}{added}"]
    lines.append("config.pbtxt written" if published.config_changed else "config.pbtxt unchanged")
    if published.removed:
        lines.append(f"removed {', '.join(map(str, published.removed))}")
    return lines


def _print_next(console: Console, repository: Path, sources: Sequence[Any]) -> None:
    """How to serve it; a plan loads only into a Triton with its own TensorRT."""
    from engine.plan_check import is_version_compatible

    if any(source.manifest["tensorrt"]["name"] != "tensorrt" for source in sources):
        console.line("next", "this was a rehearsal: Triton loads the layout, but not a plan of TensorRT-RTX")
        return
    compatible = any(is_version_compatible(source.manifest) for source in sources)
    option = " --backend-config=tensorrt,version-compatible=true" if compatible else ""
    console.line("next", f"tritonserver --model-repository={shlex.quote(str(repository.resolve()))}{option}")
    version = sources[0].manifest["tensorrt"]["version"]
    rule = "or a newer one" if compatible else "exactly"
    console.line("", f"in a container with TensorRT {version} {rule}: docs/serve.md says how to find it")


def _model_name(name: str) -> str:
    """Triton refuses names with `..` or a slash."""
    if not name or ".." in name or "/" in name or name.startswith("."):
        raise UsageError(f"--name {name!r}: wanted a folder's name without slash, `..` or a dot in front")
    return name


def _numbers(text: str) -> Tuple[int, ...]:
    return tuple(whole(0)(word) for word in text.split(","))
