"""What the command line can do: VERBS maps the first word to the module that runs it; without one it is the main job.

Each module has `add_arguments(parser)` and `run(arguments, console)`, and imports what is heavy inside them.
"""

from __future__ import annotations

from typing import Dict, NamedTuple


class Verb(NamedTuple):
    """A module, its line in --help, and whether it proves something, so that its last line is a verdict."""

    module: str
    help: str
    proves: bool = False


MAIN = Verb("commands.build", "rebuild a network and write its TensorRT plan", proves=True)

VERBS: Dict[str, Verb] = {
    "diff": Verb("commands.diff", "compare every layer with the source framework's own activations", True),
    "record": Verb("commands.record", "write those activations to a file, for comparisons without the framework"),
    "refit": Verb("commands.refit", "put a new checkpoint into a plan that was built with --refit", True),
    "bundle": Verb("commands.bundle", "pack a network with its proof, to be built where no framework is", True),
    "calibrate": Verb("commands.calibrate", "write the activation ranges that int8 needs, from images"),
    "precisions": Verb("commands.precisions", "the error of every layer in fp32, fp16 and int8 side by side"),
    "tune": Verb("commands.tune", "find the fewest layers to keep in higher precision, within a tolerance"),
    "dla": Verb("commands.dla", "which layers the DLA of a Jetson takes, why not the others, and the hops between"),
    "bench": Verb("commands.bench", "measure a plan on the GPU: latency, throughput, time by layer"),
    "inspect": Verb("commands.inspect", "list every tensor of a checkpoint, and the format that was recognised"),
    "triton": Verb("commands.triton", "add a plan to a Triton model repository, as its newest version"),
    "polygraphy": Verb("commands.polygraphy", "write a network script for Polygraphy"),
    "check": Verb("commands.check", "whether a plan is whole, and was built for what is here", True),
    "sample": Verb("commands.sample", "write the checkpoint of a sample model with its own framework"),
    "schema": Verb("commands.schema", "print the JSON Schema of configs, for editors"),
}
