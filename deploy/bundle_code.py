"""The device-side code of a bundle: every module that the build on the device reaches, in one small archive.

    ENTRY ─ imports, read off the syntax trees ─> modules ─ without comments ─> zip, stored ─> xz

Packages in BARE come without their tables. Comments and docstrings are blanked, so every line keeps its number. A zip
that Python imports as it is would be 113 kB instead of 69: model1's 5.7 MB of weights leave 284 kB for all the rest.
"""

from __future__ import annotations

import ast
import io
import lzma
import tokenize
import zipfile
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Set

ROOT = Path(__file__).resolve().parents[1]
OURS = ("builders", "commands", "deploy", "engine", "spec", "weights")

ENTRY = "commands.device_build"
BY_NAME = ("engine.devices.cuda_python_device", "engine.devices.pycuda_device")
"""Imported through importlib, which no syntax tree shows."""

BARE: Dict[str, str] = {
    # package: what stands for its __init__, whose table imports every reader and every architecture
    "builders": '"""In a bundle every layer is written out: `plain` alone."""\n',
    "commands": '"""In a bundle: the build on the device alone."""\n',
    "weights": '"""In a bundle the weights are safetensors: that reader alone."""\n',
}

DATA = ("engine/targets.yaml",)
"""Files that modules read beside themselves."""

_FIXED_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest a zip can say; with it, and names in order, equal files make equal bytes."""


def device_modules(root: Path = ROOT) -> List[str]:
    """Dotted names of the modules that a build on the device needs, packages included, sorted."""
    found: Set[str] = set()
    waiting = [ENTRY, *BY_NAME]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        package = name.rpartition(".")[0]
        waiting += [package] if package else []
        if name not in BARE:
            waiting += _imports(name, root)
    return sorted(found)


def code_archive(root: Path = ROOT) -> bytes:
    """The modules and data as a zip archive in xz; the same source gives the same bytes."""
    modules = device_modules(root)
    files = {_file(name, root).relative_to(root).as_posix(): _source(name, root).encode() for name in modules}
    files.update({name: (root / name).read_bytes() for name in DATA})
    return lzma.compress(zip_bytes(files), preset=9)


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """A zip archive of files by name, nothing compressed, with neither dates nor an order of its own."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _FIXED_TIME)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # Unix, whatever wrote it
            archive.writestr(entry, files[name], zipfile.ZIP_STORED)
    return target.getvalue()


def _imports(name: str, root: Path) -> Iterator[str]:
    """Our modules that a module imports, at its top or inside functions."""
    path = _file(name, root)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            candidates = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package.split(".")[: len(package.split(".")) + 1 - node.level]) if node.level else ""
            module = ".".join(part for part in (start, node.module) if part)
            candidates = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (each for each in candidates if each.partition(".")[0] in OURS and _file(each, root).is_file())


def _file(name: str, root: Path) -> Path:
    """Where a module is: the package's __init__ where the name is a directory."""
    path = root.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _source(name: str, root: Path) -> str:
    return without_comments(BARE[name] if name in BARE else _file(name, root).read_text(encoding="utf-8"))


def without_comments(source: str) -> str:
    """The same program with as many lines: comments cut off, strings that are statements empty."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str):
            _blank(lines, node)
    return "\n".join(lines) + "\n"


def _blank(lines: List[str], node: ast.Expr) -> None:
    """An empty string stays where the text began: a function needs a body."""
    first, last = node.lineno - 1, node.end_lineno - 1
    indent = " " * node.col_offset
    lines[first : last + 1] = [f'{indent}""'] + [""] * (last - first)
