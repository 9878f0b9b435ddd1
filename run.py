#!/usr/bin/env python3
"""The command line of trt-transplant: `python run.py --config model3.yaml`, or a verb of commands.VERBS.

Exit codes: 0 done; 1 a build or a verification failed; 2 wrong use, config or checkpoint; 130 interrupted;
141 nobody reads the output any more; 143 ended by SIGTERM.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import sys
from typing import List, Optional

from commands import MAIN, VERBS
from commands.command_line import CommandLine, refuse_word
from commands.console import Console
from commands.job import run_job


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs one command; returns the exit code."""
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # whoever read our output, `head` perhaps, has seen enough; at its exit Python would flush, and fail, once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ModuleNotFoundError as missing:
        cure = "see Install in README.md: pip install -e '.[all]'"
        print(f"error: the Python package '{missing.name}' is missing here; {cure}", file=sys.stderr)
        return 2
    return code


def _run(words: List[str]) -> int:
    verb = VERBS.get(words[0]) if words else None
    row = verb or MAIN
    module = importlib.import_module(row.module)
    parser = _parser(words[0] if verb else None, row.help)
    if words and not verb and not words[0].startswith("-"):
        refuse_word(parser, words[0])
    module.add_arguments(parser)
    options = parser.parse_args(words[1:] if verb else words)
    options.command = shlex.join([parser.prog.split()[0], *words])
    console = Console(verbosity=options.verbose - options.quiet)
    return run_job(lambda: module.run(options, console), console, options.command, always_verdict=row.proves)


def _parser(verb: Optional[str], summary: str) -> CommandLine:
    width = max(len(word) for word in VERBS)
    listing = "\n".join(f"  {word:<{width}}  {row.help}" for word, row in VERBS.items())
    parser = CommandLine(
        prog=f"run.py {verb}" if verb else "run.py",
        description=summary,
        epilog=None if verb else f"verbs (run.py VERB --help):\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-v", "--verbose", action="count", default=0, help="say more; twice: TensorRT's debug log too")
    parser.add_argument("-q", "--quiet", action="count", default=0, help="say only what is wrong, and the verdict")
    return parser


if __name__ == "__main__":
    sys.exit(main())
