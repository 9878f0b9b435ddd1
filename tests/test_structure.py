"""The rules of the house, read off the syntax trees: who imports whom, and how long a function may be.

    builders ─┐
    weights  ─┼─> spec        verify, deploy ─> spec, engine        run.py, commands ─> everything
    engine   ─┘
"""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Tuple

ROOT = Path(__file__).resolve().parents[1]

MAY_IMPORT = {
    "spec": {"spec"},
    "builders": {"builders", "spec"},
    "weights": {"weights", "spec"},
    "engine": {"engine", "spec"},
    "verify": {"verify", "spec", "engine"},
    "deploy": {"deploy", "spec", "engine"},
    "samples": {"samples"},
}
OURS = set(MAY_IMPORT) | {"run", "commands", "tests", "benchmarks"}

FRAMEWORKS = {"tensorflow", "tf_keras", "keras", "torch", "h5py", "pycuda", "cuda"}
"""Slow to import, or absent on a device: only inside the function that needs them."""

BINDINGS = {"engine.devices.cuda_python_device": "cuda", "engine.devices.pycuda_device": "pycuda"}
"""The one module of each GPU binding, loaded by name when a GPU is wanted, and never by an import statement."""

SKIPPED = {"build", "dist", "models", "out", "data"}


def is_ours(path: Path) -> bool:
    """Not in a hidden folder or in somebody's virtual environment, whatever its name."""
    others = path.parts[0].startswith(".") or (ROOT / path.parts[0] / "pyvenv.cfg").exists()
    return not others and not SKIPPED.intersection(path.parts)


FILES = sorted(filter(is_ours, (found.relative_to(ROOT) for found in ROOT.rglob("*.py"))))
PACKAGED = [path for path in FILES if path.parts[0] in MAY_IMPORT]
NOT_TESTS = [path for path in FILES if path.parts[0] != "tests"]
SHIPPED = [path for path in NOT_TESTS if path.parts[0] != "benchmarks"]
ON_DEVICE = [
    path
    for path in FILES
    if path.parts[0] in ("spec", "builders", "engine", "deploy")
    or path in (Path("weights/checkpoint.py"), Path("weights/safetensors_file.py"))
]
"""Runs on Python 3.8, which JetPack 5.1 has."""


@lru_cache(maxsize=None)
def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))


@lru_cache(maxsize=None)
def nodes_of(path: Path) -> List[ast.AST]:
    return list(ast.walk(tree_of(path)))


def places(found: Iterable[Tuple[Path, Any]]) -> List[str]:
    """`file:line` of nodes, for a message that can be clicked."""
    return [f"{path}:{node.lineno}" for path, node in found]


def each(paths: Iterable[Path], *kinds: type) -> Iterator[Tuple[Path, Any]]:
    """Every node of these kinds."""
    return ((path, node) for path in paths for node in nodes_of(path) if isinstance(node, kinds))


def modules(path: Path, node: ast.AST) -> List[str]:
    """The packages that an import statement names; a relative one names its own."""
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    return [path.parts[0] if node.level else (node.module or "").partition(".")[0]]


def dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts)


def module_level(tree: ast.Module) -> Iterator[ast.AST]:
    """Statements that run when the module is imported: all but functions' bodies and `if TYPE_CHECKING:`."""
    waiting: List[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def length(function: Any) -> int:
    return function.end_lineno - function.lineno + 1


IMPORTS = (ast.Import, ast.ImportFrom)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def test_there_is_something_to_check():
    assert {"spec", "builders", "weights", "engine"} <= {path.parts[0] for path in FILES}
    assert len(FILES) > 40 and len(list(each(FILES, *FUNCTIONS))) > 200


def test_packages_import_only_what_they_may():
    wrong = [
        (path, node)
        for path, node in each(PACKAGED, *IMPORTS)
        if OURS.intersection(modules(path, node)) - MAY_IMPORT[path.parts[0]]
    ]
    assert places(wrong) == []


def test_only_engine_imports_tensorrt():
    outside = [path for path in SHIPPED if path.parts[0] != "engine"]
    wrong = [
        (path, node) for path, node in each(outside, *IMPORTS) if {"tensorrt", "tensorrt_rtx"} & {*modules(path, node)}
    ]
    assert places(wrong) == []


def test_frameworks_are_imported_inside_functions():
    wrong = [
        (path, node)
        for path in FILES
        for node in module_level(tree_of(path))
        if isinstance(node, IMPORTS) and FRAMEWORKS.intersection(modules(path, node)) - {BINDINGS.get(dotted(path))}
    ]
    assert places(wrong) == []


def test_bindings_of_the_gpu_are_loaded_by_name_only():
    froms = [(path, node) for path, node in each(NOT_TESTS, ast.ImportFrom) if node.module]
    wrong = [
        (path, node)
        for path, node in froms
        if BINDINGS.keys() & {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    ]
    for path, node in each(NOT_TESTS, ast.Import):
        if BINDINGS.keys() & {alias.name for alias in node.names}:
            wrong.append((path, node))
    assert len(froms) > 100 and places(wrong) == []


def is_broad(kind: Any) -> bool:
    """Whether an `except` catches all: bare, Exception or BaseException."""
    if isinstance(kind, ast.Tuple):
        return any(is_broad(item) for item in kind.elts)
    return kind is None or isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException")


def test_only_named_exceptions_are_caught():
    """But around the code of a user's own PyTorch model, in one place."""
    broad = [(path, node) for path, node in each(FILES, ast.ExceptHandler) if is_broad(node.type)]
    assert [str(path) for path, _ in broad] == ["verify/torch_reference.py"], places(broad)


def test_no_function_is_long():
    assert places((path, node) for path, node in each(FILES, *FUNCTIONS) if length(node) > 60) == []


def test_functions_are_short_as_a_rule():
    lengths = sorted(length(node) for _, node in each(PACKAGED, *FUNCTIONS))
    assert lengths[len(lengths) // 2] <= 10
    assert lengths[int(len(lengths) * 0.95)] <= 25


def test_no_file_is_a_drawer():
    drawers = {"utils", "util", "common", "helpers", "helper", "base", "misc"}
    assert [str(path) for path in FILES if path.stem in drawers] == []


def test_every_module_says_what_it_is():
    assert [str(path) for path in FILES if tree_of(path).body and not ast.get_docstring(tree_of(path))] == []


def test_annotations_are_not_evaluated():
    """All but pydantic's are comments that way, also on the oldest Python."""
    annotated = {path for path, node in each(NOT_TESTS, *FUNCTIONS) if node.returns is not None}
    future = {path for path, node in each(NOT_TESTS, ast.ImportFrom) if node.module == "__future__"}
    assert sorted(map(str, annotated - future)) == []


def test_the_grammar_on_the_device_is_python_3_8s():
    for path in ON_DEVICE:
        ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path), feature_version=(3, 8))
    newer = [(path, node) for path, node in each(ON_DEVICE, ast.AST) if type(node).__name__ in ("Match", "TryStar")]
    assert places(newer) == []


def test_no_annotation_on_the_device_is_a_union_by_bar():
    """pydantic evaluates the annotations of its classes, and Python 3.8 has no `X | Y`; one spelling everywhere."""
    annotations = [
        (path, getattr(node, name))
        for path, node in each(ON_DEVICE, ast.AST)
        for name in ("annotation", "returns")
        if getattr(node, name, None) is not None
    ]
    unions = [
        (path, node)
        for path, annotation in annotations
        for node in ast.walk(annotation)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)
    ]
    assert len(annotations) > 500 and places(unions) == []


def test_no_builtin_type_on_the_device_has_brackets():
    """`list[int]` is Python 3.9's where it is evaluated: in an alias, a base class, a field."""
    builtins = {"list", "dict", "tuple", "set", "frozenset", "type"}
    subscripts = each(ON_DEVICE, ast.Subscript)
    assert places((path, node) for path, node in subscripts if getattr(node.value, "id", None) in builtins) == []


def test_no_shared_type_holds_a_field():
    """Up to pydantic 2.10 a default given to one key gets into every key of the type, required ones too."""
    wrong = [
        (path, call)
        for path, node in each(ON_DEVICE, ast.Subscript)
        if getattr(node.value, "id", None) == "Annotated"
        for call in ast.walk(node.slice)
        if isinstance(call, ast.Call) and getattr(call.func, "id", None) == "Field"
    ]
    assert places(wrong) == []


def test_nothing_on_the_device_is_newer_than_python_3_8():
    methods = {"removeprefix", "removesuffix", "is_relative_to", "with_stem", "readlink", "hardlink_to"}
    wrong = [(path, node) for path, node in each(ON_DEVICE, ast.Attribute) if node.attr in methods]
    for path, call in each(ON_DEVICE, ast.Call):
        if getattr(call.func, "id", None) == "zip" and any(key.arg == "strict" for key in call.keywords):
            wrong.append((path, call))
    assert places(wrong) == []


def test_tests_that_run_the_command_line_give_pytest_its_logging_back():
    """Else a later test of the same process writes to a stream that is closed, and says so."""
    sources = {path.name: path.read_text() for path in (ROOT / "tests").glob("test_*.py")}
    runs = [name for name, text in sources.items() if "\nimport run\n" in text or "\nfrom run import " in text]
    assert len(runs) > 20 and [name for name in runs if "import own_logging" not in sources[name]] == []
