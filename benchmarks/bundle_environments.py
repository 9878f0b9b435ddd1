"""The bundles of all four models built and compared in environments with only the packages that docs/deploy.md names.

    python -m benchmarks.bundle_environments --python py38/bin/python --python py310/bin/python --output FILE

Each run is a process of its own in which TensorFlow, Keras, PyTorch and h5py cannot be imported. Peak memory is the
child's, wall time its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("model1", "model2", "model3", "model4")
BLOCKER = '''
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "torch", "keras", "tf_keras", "h5py", "onnx"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
'''
"""Written as sitecustomize.py, which Python imports at its start."""


def built(python: str, bundle: Path, scratch: Path) -> Dict[str, Any]:
    """One device-side build: what its last lines say, seconds, and peak memory."""
    command = [python, str(bundle / "run.py"), "--output", str(scratch / "out")]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=scratch, env={**os.environ, "PYTHONPATH": str(scratch)}, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    output = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    layers = [line for line in output.splitlines() if line.startswith("layers")]
    return {"model": bundle.name, "passed": os.waitstatus_to_exitcode(status) == 0, "said": layers or output[-500:],
            "seconds": round(time.perf_counter() - start, 2), "peak_mb": round(usage.ru_maxrss / 1e3, 1)}  # fmt: skip


def packages_of(python: str) -> List[str]:
    command = [python, "-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", action="append", required=True, help="an interpreter; may be given several times")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    environments = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for name in MODELS:
            bundle = ["bundle", "--config", name, "--output", str(scratch / name)]
            subprocess.run([sys.executable, str(ROOT / "run.py"), *bundle], cwd=ROOT, check=True)
        (scratch / "sitecustomize.py").write_text(BLOCKER)
        for python in options.python:
            version = subprocess.run([python, "--version"], check=True, capture_output=True, text=True).stdout.strip()
            rows = [built(python, scratch / name, scratch) for name in MODELS]
            environments.append({"python": version, "packages": packages_of(python), "runs": rows})
            print(version, *(f"{row['model']} {row['passed']} {row['seconds']} s {row['peak_mb']} MB" for row in rows))
    options.output.write_text(json.dumps(environments, indent=1) + "\n")


if __name__ == "__main__":
    main()
