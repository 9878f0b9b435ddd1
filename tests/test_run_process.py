"""run.py as its own process: how fast --help is, what it imports, and how it ends when somebody ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest

from commands import VERBS
from tests.small_models import SMALL, torch_arrays, write_small

ROOT = Path(__file__).resolve().parents[1]
RUN = [sys.executable, str(ROOT / "run.py")]
HEAVY = ["numpy", "pydantic", "yaml", "rich", "h5py", "tensorrt", "tensorrt_rtx", "tensorflow", "keras", "torch"]


def seconds_of(command: List[str]) -> float:
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - start


def test_help_answers_at_once():
    """At most 0.2 s above Python's own start; the fastest of several, since a busy machine only adds."""
    pairs = [(seconds_of([*RUN, "--help"]), seconds_of([sys.executable, "-c", "pass"])) for _ in range(7)]
    helps, starts = zip(*pairs)
    assert min(helps) < min(starts) + 0.2


@pytest.mark.parametrize("words", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_imports_nothing_heavy(words):
    code = (
        f"import sys, run\ntry: run.main({words})\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n" and done.stdout.startswith("usage: run.py")


def slow_model(directory: Path) -> List[str]:
    """The small model with 120 convolutions more, so that its build can be interrupted."""
    arrays, layers = torch_arrays(), []
    rng = np.random.default_rng(0)
    for number in range(120):
        layers.append(f"  - convolution: {{name: c{number}, filters: 64, kernel: 3, padding: same, bias: false}}")
        shape = (64, 64 if number else 2, 3, 3)
        arrays[f"c{number}.weight"] = rng.standard_normal(shape).astype(np.float32)
    arrays["conv.weight"] = rng.standard_normal((3, 64, 3, 3)).astype(np.float32)
    text = SMALL.replace("layers:\n", "layers:\n" + "\n".join(layers) + "\n")
    return [*RUN, "--config", str(write_small(directory, text, arrays)), "--output", str(directory / "out")]


def started(command: List[str], until: str) -> Any:
    """The process, when it has printed a line that starts with this word."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    for line in process.stdout:
        if line.startswith(until):
            return process
    raise AssertionError(f"no line '{until}': {process.stderr.read()}")


ENDS = [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM")]


@pytest.mark.parametrize("seconds", [0.0, 0.15])
@pytest.mark.parametrize("number, code, words", ENDS)
def test_a_signal_in_a_build_leaves_the_old_plan(tmp_path, seconds, number, code, words):
    command = slow_model(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "small.plan").write_bytes(b"old plan")
    process = started(command, "define")
    time.sleep(seconds)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err == f"error: {words}; nothing half-written stays\n"
    assert out.splitlines()[-1].startswith("FAILED | Runtime: ")
    assert (tmp_path / "out" / "small.plan").read_bytes() == b"old plan"
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {"ledger.json", "small.plan"}


HALF = """
import pathlib, signal, sys, time
from commands.console import Console
from commands.job import run_job
from engine.atomic_file import staged, write
def job():
    with staged(pathlib.Path(sys.argv[1])) as target:
        try:
            write(target, bytes(1_000_000))
            print("half", flush=True)
            time.sleep(60)
        finally:
            print("cleaning", flush=True)
            time.sleep(0.5)
sys.exit(run_job(job, Console(), "x"))
"""


@pytest.mark.parametrize("deaf", [False, True], ids=["in front", "a shell's background job, deaf to Ctrl-C"])
def test_a_sigterm_leaves_no_staged_file(tmp_path, deaf):
    """Two, as `timeout` sends: the second comes while the first is cleaned up after."""
    (tmp_path / "file").write_bytes(b"old")
    command = [sys.executable, "-c", HALF, str(tmp_path / "file")]
    if deaf:
        command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *command]
    process = started(command, "half")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "cleaning\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (143, "error: ended by SIGTERM; nothing half-written stays\n")
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_bytes() == b"old"


def test_a_kill_in_a_build_leaves_the_old_plan(tmp_path):
    command = slow_model(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "small.plan").write_bytes(b"old plan")
    process = started(command, "define")
    process.kill()
    process.communicate()
    assert (tmp_path / "out" / "small.plan").read_bytes() == b"old plan"


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    write_small(tmp_path)
    command = [*RUN, "inspect", str(tmp_path / "small.safetensors")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141


def test_the_job_runs_from_any_directory_and_ends_with_its_code(tmp_path):
    write_small(tmp_path)
    command = [*RUN, "--config", "small.yaml", "--output", "out", "--dry-run"]
    good = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert good.returncode == 0 and good.stdout.splitlines()[-1].startswith("DEFINED") and good.stderr == ""
    bad = subprocess.run([*command, "--set", "weights.path=none.ckpt"], cwd=tmp_path, capture_output=True, text=True)
    assert bad.returncode == 2 and "no such file" in bad.stderr and "Traceback" not in bad.stderr


def test_without_its_packages_it_says_what_to_install(tmp_path):
    command = [sys.executable, "-S", str(ROOT / "run.py"), "--config", "model1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("error: the Python package '") and "pip install -e '.[all]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
