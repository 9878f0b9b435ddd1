"""Fixtures shared by the tests: the checkpoints of the four source models and a small bundle, written once.

    TRT_TRANSPLANT_SAMPLES=models pytest    keeps them in ./models between runs; else they live as long as the run
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

import pytest

from samples import SAMPLES

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell starts its background jobs so, and every child would inherit it; tests of Ctrl-C need what a person has
    signal.signal(signal.SIGINT, signal.default_int_handler)

SOURCES = Path(__file__).resolve().parents[1] / "samples"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small bundle, written once; nobody changes it."""
    from tests.bundles import write_small_bundle
    from tests.own_logging import restored

    with restored():
        return write_small_bundle(tmp_path_factory.mktemp("small"))


@pytest.fixture
def bundle_copy(bundle: Path, tmp_path: Path) -> Path:
    """A bundle to damage and to build in."""
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def sample_directory(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`sample_directory("model1")` is the directory with that model's checkpoint, written with seed 0."""
    root = samples_root(tmp_path_factory)
    root.mkdir(parents=True, exist_ok=True)

    def directory_of(name: str) -> Path:
        with locked(root / f"{name}.lock"):
            write_unless_there(name, root / name)
        return root / name

    return directory_of


def samples_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache that the environment names, else a directory of this run; pytest-xdist's workers share the parent."""
    cache = os.environ.get("TRT_TRANSPLANT_SAMPLES")
    if cache:
        return Path(cache).resolve()
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "samples"


def write_unless_there(name: str, directory: Path) -> None:
    """Write one model; a stamp, made last, says from which source, so that neither half nor stale files are used."""
    stamp, digest = directory / "source.sha256", source_digest(name)
    if stamp.is_file() and stamp.read_text() == digest:
        return
    if importlib.util.find_spec(SAMPLES[name].framework) is None:
        pytest.skip(f"{name} is written with {SAMPLES[name].framework}, which is not installed")
    stamp.unlink(missing_ok=True)
    write_in_fresh_process(name, directory)
    stamp.write_text(digest)


def write_in_fresh_process(name: str, directory: Path) -> None:
    """The framework's memory goes back, and no session of another test has set TensorFlow's number of threads."""
    command = [sys.executable, "-m", SAMPLES[name].module, "--output", str(directory)]
    done = subprocess.run(command, cwd=SOURCES.parent, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}"


def source_digest(name: str) -> str:
    """sha256 of the sources that decide what is written."""
    sources = [SOURCES / "seeded.py", SOURCES / f"{name}.py"]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; the kernel lets go of it even when the process is killed."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
