"""run.py of a bundle: whatever is wrong before its own code runs is one sentence, on any Python 3 and in any pipe."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import resource
import signal
import subprocess
import sys

import pytest

from deploy import bundle_launcher
from deploy.bundle_manifest import MANIFEST
from tests.bundles import WEIGHTS, resealed

INTERRUPTED = "error: interrupted; nothing half-written stays\n"


def launched(folder, *words, **options):
    """The finished process, of which no traceback is ever seen."""
    command = [sys.executable, folder / "run.py", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def launcher(bundle_copy):
    """The module of a bundle's launcher."""
    spec = importlib.util.spec_from_file_location("launcher", bundle_copy / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name, words",
    [("code.zip.xz", "damaged: its sha256 is"), (MANIFEST, "damaged"), (WEIGHTS, "damaged: its sha256 is")],
)
def test_a_damaged_file_is_named(bundle_copy, name, words):
    content = bytearray((bundle_copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle_copy / name).write_bytes(content)
    done = launched(bundle_copy)
    assert done.returncode == 2 and f"{bundle_copy / name}: {words}" in done.stderr


def test_any_flipped_bit_of_the_manifest_is_damage(bundle_copy, launcher):
    """Not a package of another name that is missing, nor one that importlib cannot even look for."""
    whole = (bundle_copy / MANIFEST).read_bytes()
    assert launcher.problem() == ""
    for position in range(0, len(whole), 3):
        for bit in (0, 6):
            changed = bytearray(whole)
            changed[position] ^= 1 << bit
            (bundle_copy / MANIFEST).write_bytes(changed)
            assert launcher.problem() == f"{bundle_copy / MANIFEST}: damaged - copy the bundle again"


def test_a_missing_file_is_named(bundle_copy, launcher):
    (bundle_copy / "code.zip.xz").unlink()
    assert re.match(f"{bundle_copy}/code.zip.xz: cannot be read: No such file .* - copy", launcher.problem())


def test_a_missing_package_is_named(bundle_copy):
    missing = {"python": ">=3.8", "packages": {"no_such_module": "no-such-package"}, "gpu": "none"}
    resealed(bundle_copy, "README.txt", lambda content: content, requirements=missing)
    done = launched(bundle_copy)
    assert (done.returncode, done.stderr) == (2, "error: Python packages are missing: pip install no-such-package\n")


def test_an_older_python_can_read_that_it_is_too_old(launcher, monkeypatch):
    """JetPack 4 has 3.6, which does not know `from __future__ import annotations`."""
    source = (bundle_launcher.HERE / "bundle_launcher.py").read_text()
    tree = ast.parse(source, feature_version=(3, 6))
    assert [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "__future__"] == []
    monkeypatch.setattr(sys, "version_info", (3, 6, 9))
    assert re.fullmatch(r"Python 3\.\S+ runs here, wanted 3.8 or newer", launcher.problem())


def test_a_disk_too_full_for_the_code_is_one_sentence(bundle_copy):
    most = (4096, 4096)
    done = launched(bundle_copy, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, most))
    assert done.returncode == 2 and done.stderr.startswith("error: no room for the bundle's code: ")
    assert done.stderr.endswith("File too large - set TMPDIR to a folder with 1 MB to write\n")


def test_a_reader_that_has_seen_enough_ends_it_quietly(bundle_copy):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        done = subprocess.run([sys.executable, bundle_copy / "run.py"], stdout=output, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("line", ["bundle", "machine", "network", "layers"])
def test_an_interruption_at_any_stage_leaves_nothing(bundle_copy, tmp_path, line):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, bundle_copy / "run.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )  # fmt: skip
    assert any(text.startswith(line) for text in process.stdout)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    if process.returncode != 0:  # it may have been done before
        assert "Traceback" not in errors and list((bundle_copy / "out").glob("*")) == []
    assert list(scratch.iterdir()) == []


def test_an_interruption_before_the_build_is_said_plainly(launcher, monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(launcher, "checked_build", interrupted)
    assert launcher.main() == 130 and capsys.readouterr().err == INTERRUPTED


def test_a_folder_of_any_name_will_do(bundle_copy, tmp_path):
    folder = bundle_copy.rename(tmp_path / "-a b ü \U0001f600 '")
    shell = ["sh", f"./{folder.name}/build.sh", "--output", "to here"]
    done = subprocess.run(shell, cwd=tmp_path, env={**os.environ, "PYTHON": sys.executable}, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "to here" / "small.plan").is_file()


@pytest.mark.parametrize("name", ["run.py", "build.sh"])
@pytest.mark.parametrize("where", [0.02, 0.3, 0.45, 0.6, 0.75, 0.9])
def test_a_damaged_launcher_is_refused_before_python_reads_it(bundle_copy, tmp_path, name, where):
    path = bundle_copy / name
    content = bytearray(path.read_bytes())
    content[int(len(content) * where)] ^= 1
    path.write_bytes(content)
    shell = ["sh", str(bundle_copy / "build.sh"), "--output", str(tmp_path / "out")]
    done = subprocess.run(shell, env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True)
    assert done.returncode and str(bundle_copy) in done.stderr and "Traceback" not in done.stderr
    assert name in done.stderr and not list((tmp_path / "out").glob("*.plan"))
