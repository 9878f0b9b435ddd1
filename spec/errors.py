"""One exception per stage under one parent; each collects every problem of its stage before it is raised.

A message says: place - what was found - what was wanted - next step. No traceback of these reaches a user.
"""

from __future__ import annotations

import difflib
from typing import Dict, Iterable, List, Sequence, Tuple, Union

SHOWN = 5
"""Names in full per message before the rest is counted."""


class TransplantFailure(Exception):
    """Parent of all expected failures.

    Args:
        problems: one message, or every message of the stage.
    """

    exit_code = 2

    def __init__(self, problems: Union[str, Sequence[str]]) -> None:
        self.problems: Tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class UsageError(TransplantFailure):
    """The command line asks for something that cannot be done, or a file cannot be read or written."""


class MissingFramework(UsageError):
    """The source framework that a reference needs is not installed; recorded activations need none."""


class ConfigError(TransplantFailure):
    """The YAML, or the graph it describes, is wrong."""


class CheckpointError(TransplantFailure):
    """A checkpoint is missing, damaged, of an unknown format or unsafe to read."""


class AuditError(TransplantFailure):
    """Graph and checkpoint do not fit each other: missing, unused, mis-shaped or non-finite tensors."""


class PlanError(TransplantFailure):
    """A plan and its manifest do not belong together, or were made for another TensorRT, GPU or precision."""


class TensorRTError(TransplantFailure):
    """TensorRT is not there, lacks what is asked, or refused a layer or the build."""

    exit_code = 1


class DeviceError(TransplantFailure):
    """The GPU or its driver reports an error."""

    exit_code = 1


class VerificationError(TransplantFailure):
    """A comparison failed, or nothing could be compared."""

    exit_code = 1


def nearest(word: str, known: Iterable[str], count: int = 1) -> Tuple[str, ...]:
    """The known words most like `word`, best first; empty when none is close.

    Upper and lower case decide only between words that are the same otherwise: Relu is nearer to relu than to elu.
    """
    spellings: Dict[str, List[str]] = {}
    for each in known:
        spellings.setdefault(each.casefold(), []).append(each)
    close = difflib.get_close_matches(word.casefold(), list(spellings), n=count, cutoff=0.6)
    found = [difflib.get_close_matches(word, spellings[folded], n=count, cutoff=0) for folded in close]
    return tuple(spelled for same in found for spelled in same)[:count]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or an empty string when no known word is close."""
    matches = nearest(word, known)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
