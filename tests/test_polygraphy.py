"""The script for Polygraphy, run by Polygraphy itself: it builds the same plan as run.py."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import run
from commands import polygraphy_network
from deploy.polygraphy_script import script_text
from spec.errors import UsageError
from tests.own_logging import own_logging  # noqa: F401
from tests.small_models import write_small

ROOT = Path(__file__).resolve().parents[1]
RTX = importlib.util.find_spec("tensorrt_rtx") is not None
POLYGRAPHY = Path(sys.executable).with_name("polygraphy")

needs_polygraphy = pytest.mark.skipif(
    not (RTX and POLYGRAPHY.is_file()), reason="runs Polygraphy on TensorRT-RTX, whose plans are the same on each build"
)

DYNAMIC = "batch={min: 1, opt: 2, max: 8}"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The directory of the small model."""
    directory = tmp_path_factory.mktemp("small")
    write_small(directory)
    return directory


def polygraphy(directory: Path, *words: str) -> str:
    environment = {**os.environ, "POLYGRAPHY_USE_TENSORRT_RTX": "1"}
    command = [str(POLYGRAPHY), *words]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, cwd=directory, env=environment, text=True, **streams)
    assert done.returncode == 0, done.stdout
    return done.stdout


@needs_polygraphy
@pytest.mark.parametrize("options", [(), ("--fp16", "--set", DYNAMIC)], ids=["fp32", "fp16, dynamic batch"])
def test_polygraphy_builds_the_same_plan(small, tmp_path, options, capsys):
    words = ["--config", str(small / "small.yaml"), *options]
    assert run.main(["-q", *words, "--backend", "tensorrt_rtx", "--target", "sm89", "--output", str(tmp_path)]) == 0
    script = tmp_path / "script.py"
    assert run.main(["polygraphy", *words, "--target", "sm89", "--output", str(script)]) == 0
    assert f"polygraphy run {script} --model-type=trt-network-script" in capsys.readouterr().out
    words = ["convert", "script.py", "--model-type=trt-network-script", "--convert-to=trt", "-o", "theirs.plan"]
    polygraphy(tmp_path, *words, "--trt-config-script=script.py")
    ours, theirs = ((tmp_path / name).read_bytes() for name in ("small.plan", "theirs.plan"))
    assert hashlib.sha256(theirs).hexdigest() == hashlib.sha256(ours).hexdigest()


@needs_polygraphy
def test_the_network_alone_is_enough_and_the_environment_may_name_the_clone(small, tmp_path, monkeypatch):
    """Without our builder configuration Polygraphy makes its own."""
    script = tmp_path / "script.py"
    script.write_text(script_text("small", script, tmp_path / "nowhere", small / "small.yaml", [], {}))
    monkeypatch.setenv("TRT_TRANSPLANT", str(ROOT))
    words = ["convert", script.name, "--model-type=trt-network-script", "--convert-to=trt", "-o", "theirs.plan"]
    assert "Finished engine building" in polygraphy(tmp_path, *words)
    assert (tmp_path / "theirs.plan").stat().st_size > 1000


def test_the_script_is_small_and_relative(small, tmp_path):
    text = script_text("small", tmp_path / "a" / "b.py", tmp_path, tmp_path / "c.yaml", ["x='1'"], {"refit": True})
    assert str(tmp_path) not in text and len(text.splitlines()) < 40
    assert 'os.path.join(HERE, "../c.yaml")' in text and """OVERRIDES = ["x='1'"]""" in text
    assert "OPTIONS = {'refit': True}" in text
    compile(text, "b.py", "exec")


def test_paths_of_any_letters_come_through(tmp_path):
    """JSON's escapes of what lies beyond 16 bits would be two characters in Python."""
    folder = tmp_path / "a b \U0001f600 \"'"
    text = script_text("small", tmp_path / "the script.py", folder, folder / "c.yaml", ["name='\U0001f600'"], {})
    found = {}
    exec(text.partition("sys.path.insert")[0], {"__file__": str(tmp_path / "the script.py")}, found)
    assert found["CLONE"] == str(folder) and found["CONFIG"] == str(folder / "c.yaml")
    assert found["OVERRIDES"] == ["name='\U0001f600'"] and "polygraphy run 'the script.py' --model-type" in text


@pytest.mark.parametrize("cache", ["t.cache", "auto"])
def test_a_timing_cache_is_polygraphys_to_keep(small, tmp_path, capsys, cache):
    script = tmp_path / "script.py"
    words = ["polygraphy", "--config", str(small / "small.yaml"), "--output", str(script), "--timing-cache", cache]
    assert run.main(words) == 2 and not script.exists()
    assert "error: --timing-cache: the script keeps none; `polygraphy run` does, with --save" in capsys.readouterr().err


def test_a_script_needs_pythons_suffix(small, tmp_path, capsys):
    words = ["polygraphy", "--config", str(small / "small.yaml"), "--output", str(tmp_path / "script.txt")]
    assert run.main(words) == 2
    assert "script.txt: Polygraphy takes scripts that end in .py only" in capsys.readouterr().err


def test_a_network_of_somebody_else_has_no_configuration():
    with pytest.raises(UsageError, match="not a network of load_network; give Polygraphy the same script for both"):
        polygraphy_network.load_config(object())
