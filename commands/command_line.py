"""The parser of every command: what is wrong in one line, with the nearest word, and where the options are listed."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from commands import VERBS
from spec.errors import did_you_mean


class CommandLine(argparse.ArgumentParser):
    """argparse answers a typing error with the usage of all thirty options, and no suggestion."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Like argparse's; an unknown option is answered with the nearest."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            options = re.findall(r"--[a-z][\w-]*", self.format_usage())
            hint = did_you_mean(unknown[0].partition("=")[0], options)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n       {self.prog} --help lists every option\n")


def refuse_word(parser: CommandLine, word: str) -> NoReturn:
    """Answers a first word that is neither an option nor a verb: a verb mistyped, or a config without --config."""
    if word.endswith((".yaml", ".yml")):
        parser.error(f"found '{word}', wanted an option or a verb; a config is given with --config {word}")
    parser.error(f"no verb '{word}'{did_you_mean(word, VERBS) or '; verbs are ' + ', '.join(VERBS)}")
