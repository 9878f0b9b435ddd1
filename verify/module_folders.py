"""Modules of the user's own, importable from a few folders for a while, without standing in for installed ones.

    the module asked for    the folders ─> what is installed
    what it imports         what is installed ─> the folders

On sys.path the folders would answer everybody: PyTorch tries `import triton`, and a folder of that name with Triton's
models in it is no compiler.
"""

from __future__ import annotations

import contextlib
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Iterator, Optional, Sequence


class _Folders(MetaPathFinder):
    """Finds what lies in folders: before all else, the module that is asked for; behind all else, any."""

    def __init__(self, folders: Sequence[str], asked: str, before: bool) -> None:
        self._folders, self._asked, self._before = folders, asked, before

    def find_spec(
        self, name: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        if path is not None or self._before and name != self._asked:  # with a path it is a package that looks in itself
            return None
        spec = PathFinder.find_spec(name, self._folders)
        return spec if spec is not None and (spec.loader is not None or self._is_source(name, spec)) else None

    def _is_source(self, name: str, spec: ModuleSpec) -> bool:
        """Whether a folder without __init__.py is meant: as in Python itself, only behind all that is installed."""
        holds_modules = any(any(Path(folder).glob("*.py")) for folder in spec.submodule_search_locations or ())
        return not self._before and (name == self._asked or holds_modules)


@contextlib.contextmanager
def importable(module: str, folders: Sequence[str]) -> Iterator[None]:
    """Until it ends, `module` and what it imports may lie in these folders."""
    asked = module.partition(".")[0]
    own, others = (_Folders(folders, asked, before) for before in (True, False))
    sys.meta_path[:] = [own, *sys.meta_path, others]
    try:
        yield
    finally:
        sys.meta_path[:] = [each for each in sys.meta_path if each not in (own, others)]
