"""The files that a command is asked to write, checked before the work: each can be written, and no two are one.

    {"--json": a, "--output": b} ─> UsageError, or nothing to say
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Mapping, Optional

from spec.errors import UsageError


def check_files(paths: Mapping[str, Optional[Path]]) -> None:
    """Paths by the option that names them, None where it was not given; raises UsageError."""
    from engine.atomic_file import check_file

    options: Dict[Path, str] = {}
    for option, path in paths.items():
        if path is None:
            continue
        other = options.setdefault(path.resolve(), option)
        if other != option:
            raise UsageError(f"{other} and {option}: both write {path}; name another file for one of them")
        check_file(path)
