"""The API of a TensorRT as JSON, read off its bindings without any of NVIDIA's libraries.

    bindings wheel + stub libraries --import in a fresh process--> classes, enumerations, signatures --> tests/data

The bindings are linked against libnvinfer and its like, yet call none of them at import, so a library with the dozen
symbols they name is enough. The wheels are for certain Pythons: name one that has NumPy (TensorRT 8.5 ends at 3.10).

    python tests/tensorrt_record.py 10.7.0 --python python3.10
    python tests/tensorrt_record.py 8.5.3.1 --python python3.10 --wheel tensorrt-8.5.3.1-cp310-....whl
    python tests/tensorrt_record.py installed --module tensorrt_rtx
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

FOLDER = Path(__file__).resolve().parent / "data" / "tensorrt_api"

PACKAGES = {
    # first digits of a version: the package with its bindings; 8.5 has none without the libraries
    "8.5": "tensorrt",
    "8.6": "tensorrt-bindings",
    "10.": "tensorrt-cu12-bindings",
    "11.": "tensorrt-cu13-bindings",
}

LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser", "nvparsers")

STUB = """
#define STUB(name) void *name(void) { return 0; }
STUB(createInferBuilder_INTERNAL) STUB(createInferRefitter_INTERNAL) STUB(createInferRuntime_INTERNAL)
STUB(createNvOnnxParser_INTERNAL) STUB(createNvOnnxParserRefitter_INTERNAL) STUB(getNvOnnxParserVersion)
STUB(getPluginRegistry) STUB(getBuilderPluginRegistry) STUB(initLibNvInferPlugins)
/* TensorRT 8's parsers of Caffe and UFF, which are C++ */
STUB(_ZN11nvuffparser15createUffParserEv) STUB(_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi)
STUB(_ZN14nvcaffeparser117createCaffeParserEv) STUB(_ZN14nvcaffeparser123shutdownProtobufLibraryEv)
"""

NOT_RECORDED = re.compile(
    r"Plugin|Algorithm|Caffe|Uff|Calibrator|RNN|Attention|MoE|Dist|^IGpuAlloc|^IOutputAlloc|^Dims"
)
"""Classes of things that this program has no use for; they are half of the API."""

Record = Dict[str, Any]
"""{"module", "version", "enums": {name: [member]}, "classes": {name: {attribute: kind}}}; the module itself is the
class `module`. The kind of a property is `r` or `rw`, that of a method its overloads: `first, second= -> Type | first
-> Type`, where `=` marks a default."""


def read(module: Any) -> Record:
    """The API of an imported module."""
    found = dict(_classes(module, ""))
    enums = {name: sorted(each.__members__) for name, each in found.items() if hasattr(each, "__members__")}
    classes = {name: _attributes(each) for name, each in found.items() if name not in enums}
    title = "tensorrt_rtx" if "rtx" in module.__name__ else "tensorrt"
    return {
        "module": title,
        "version": str(module.__version__),
        "enums": enums,
        "classes": {"module": _attributes(module), **classes},
    }


def _classes(owner: Any, prefix: str) -> Iterator[Tuple[str, type]]:
    """Classes by name, those inside classes as `ILogger.Severity`."""
    for key, found in inspect.getmembers(owner, inspect.isclass):
        if not key.startswith("_") and not NOT_RECORDED.search(key):
            yield prefix + key, found
            yield from _classes(found, f"{prefix}{key}.")


def _attributes(owner: Any) -> Dict[str, str]:
    """Kinds by name; classes and modules inside are no attributes here."""
    public = [key for key in dir(owner) if key == "__init__" or not key.startswith("_")]
    kinds = {key: _kind(getattr(owner, key)) for key in public if not NOT_RECORDED.search(key)}
    return {key: kind for key, kind in kinds.items() if kind}


def _kind(found: Any) -> str:
    """Nothing for classes and modules, and for what has no signature: an inherited constructor that only refuses."""
    if inspect.isclass(found) or inspect.ismodule(found):
        return ""
    if isinstance(found, property):
        return "rw" if found.fset else "r"
    return _overloads(found.__doc__ or "") if callable(found) else "r"


def _overloads(text: str) -> str:
    """pybind11's `1. name(self: X, first: int, second: Y = <Y.Z: 0>) -> tensorrt.W`, without types of arguments."""
    lines = re.findall(r"^(?:\d+\. )?\w+\((.*)\)(?: -> (.*))?$", text, re.MULTILINE)
    if len(lines) > 1 and lines[0][0] == "*args, **kwargs":  # pybind11's heading over several
        lines = lines[1:]
    return " | ".join(f"{_arguments(first)} -> {result.rpartition('.')[2] or None}".strip() for first, result in lines)


def _arguments(text: str) -> str:
    """`self: X, first: int, second: Tuple[int, int] = (1, 1)` -> `first, second=`."""
    before = None
    while before != text:
        before, text = text, re.sub(r"\([^()]*\)|\[[^][]*\]|<[^<>]*>|\{[^{}]*\}|'[^']*'", "", text)
    words = (re.sub(r":[^=]*|\s", "", part) for part in text.split(","))
    names = (word.partition("=")[0] + "=" * ("=" in word) for word in words)
    return ", ".join(name for name in names if name not in ("self", ""))


def as_text(record: Record) -> str:
    """One line an attribute, so that versions can be compared with `diff`."""
    return json.dumps(record, indent=0, sort_keys=True) + "\n"


def record(version: str, python: str, wheel: str) -> Record:
    """Downloads the bindings of a version unless a wheel is given, and reads them in another process."""
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        package = _unpack(Path(wheel) if wheel else _download(version, python, where), where)
        _compile_stubs(version.partition(".")[0], where)
        paths = {"LD_LIBRARY_PATH": folder, "PYTHONPATH": folder}
        command = [python, __file__, "installed", "--module", package, "--print"]
        return json.loads(subprocess.run(command, env={**os.environ, **paths}, check=True, stdout=-1).stdout)


def _download(version: str, python: str, where: Path) -> Path:
    wanted = f"{PACKAGES[version[:3]]}=={version}"
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    number = subprocess.run([python, "-c", ask], check=True, stdout=-1, universal_newlines=True).stdout.strip()
    options = ["--no-deps", "--only-binary=:all:", "--python-version", number, "--dest", str(where)]
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", wanted, *options], check=True)
    return next(where.glob("*.whl"))


def _unpack(wheel: Path, where: Path) -> str:
    """The two files of the bindings, not the gigabyte of libraries beside them in 8.5's; returns the package."""
    with zipfile.ZipFile(str(wheel)) as archive:
        names = [name for name in archive.namelist() if re.fullmatch(r"tensorrt\w*/(__init__\.py|tensorrt\.so)", name)]
        archive.extractall(str(where), names)
    return names[0].partition("/")[0]


def _compile_stubs(major: str, where: Path) -> None:
    source = where / "stub.c"
    source.write_text(STUB)
    for library in LIBRARIES:
        name = f"lib{library}.so.{major}"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(where / name), str(source)], check=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="a version on PyPI, or the word `installed`")
    parser.add_argument("--module", default="tensorrt_rtx", help="the installed module to read")
    parser.add_argument("--python", default=sys.executable, help="a Python that the wheel is for")
    parser.add_argument("--wheel", default="", help="a wheel that is already here")
    parser.add_argument("--print", action="store_true", help="to standard output, not to a file")
    given = parser.parse_args()
    if given.version == "installed":
        found = read(importlib.import_module(given.module))
    else:
        found = record(given.version, given.python, given.wheel)
    if given.print:
        print(as_text(found))
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{found['module']}-{found['version']}.json"
    path.write_text(as_text(found))
    print(f"{path}: {len(found['classes'])} classes, {len(found['enums'])} enumerations")


if __name__ == "__main__":
    main()
