"""What the command line can do: VERBS maps the first word to the module that runs it; without one it is the main job.

Each module has `add_arguments(parser)` and `run(arguments, console)`, and imports what is heavy inside them.
"""

from __future__ import annotations

from typing import Dict, NamedTuple


class Verb(NamedTuple):
    """A module and its line in --help."""

    module: str
    help: str


MAIN = Verb("commands.build", "rebuild a network and write its TensorRT plan")

VERBS: Dict[str, Verb] = {
    "diff": Verb("commands.diff", "compare every layer with the source framework's own activations"),
    "record": Verb("commands.record", "write those activations to a file, for comparisons without the framework"),
    "calibrate": Verb("commands.calibrate", "write the activation ranges that int8 needs, from images"),
    "precisions": Verb("commands.precisions", "the error of every layer in fp32, fp16 and int8 side by side"),
    "inspect": Verb("commands.inspect", "list every tensor of a checkpoint, and the format that was recognised"),
    "sample": Verb("commands.sample", "write the checkpoint of a sample model with its own framework"),
    "schema": Verb("commands.schema", "print the JSON Schema of configs, for editors"),
}
