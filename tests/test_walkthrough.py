"""docs/deploy.md is true: its commands are run as they stand, in a copy of this repository; not those of a device."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from engine.plan_check import read_manifest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("builders", "commands", "configs", "deploy", "engine", "samples", "spec", "verify", "weights")
FENCE = re.compile(r"(<!-- needs a device -->\n)?```bash\n(.*?)```", re.DOTALL)


def blocks():
    """(command lines, whether they need a device) of each fenced block."""
    found = FENCE.findall((ROOT / "docs" / "deploy.md").read_text())
    return [(text, bool(marked)) for marked, text in found]


def clone(directory, sample):
    """What `git clone` would give, with the sample checkpoint where its script would write it."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run.py", directory)
    (directory / "models").mkdir()
    (directory / "models" / "model1").symlink_to(sample)
    return directory


def test_the_walk_through_works_word_by_word(tmp_path, sample_directory):
    """`python` and `python3` are this one, whose TensorRT-RTX stands for the device's."""
    directory = clone(tmp_path, sample_directory("model1"))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    here = [text for text, device in blocks() if not device]
    for text in here:
        done = subprocess.run(
            ["bash", "-ec", text], cwd=directory, env={**os.environ, "PATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        if "bundle --config" not in text:
            assert "PASSED | " in done.stdout and "22 layers as TensorFlow" in done.stdout
    assert len(here) == 3 and len(blocks()) == 5
    plans = [read_manifest(directory / place / "model1.plan") for place in ("model1-bundle/out", "model1-again")]
    assert plans[0]["plan"] == plans[1]["plan"]
    total = sum(path.stat().st_size for path in (directory / "model1-bundle").iterdir() if path.is_file())
    assert total <= 1.05 * (directory / "model1-bundle" / "weights.safetensors").stat().st_size


def test_what_the_page_says_of_tolerances_and_files_is_in_the_code():
    from deploy.bundle import MOST, device_files
    from deploy.bundle_samples import COUNTS
    from deploy.device_memory import WORKSPACE
    from deploy.device_proof import LAYER_RTOL
    from engine.tolerance import OUTPUT_TOLERANCES

    text = (ROOT / "docs" / "deploy.md").read_text()
    assert (LAYER_RTOL, MOST, WORKSPACE >> 20, COUNTS[-1], COUNTS[0]) == (1e-5, 1.05, 512, 256, 4096)
    rtols = {word: tolerance.rtol for word, tolerance in OUTPUT_TOLERANCES.items()}
    assert rtols == {"fp32": 1e-5, "tf32": 5e-3, "fp16": 5e-3, "int8": 1e-1}
    assert "1e-5 (fp32), 5e-3 (tf32, fp16) or 0.1" in text
    assert all(f"`{name}`" in text for name in device_files())
