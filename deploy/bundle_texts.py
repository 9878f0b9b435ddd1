"""The two files of a bundle that are for people and for the shell: README.txt and build.sh."""

from __future__ import annotations

from typing import Dict

REQUIREMENTS: Dict[str, str] = {
    # module: package. Newest with wheels for Python 3.8 on aarch64: numpy 1.24.4, PyYAML 6.0.3, pydantic 2.10.6,
    # pydantic_core 2.27.2, annotated_types 0.7.0, typing_extensions 4.13.2
    "numpy": "numpy",
    "yaml": "pyyaml",
    "pydantic": "pydantic",
    "annotated_types": "annotated-types",
    "typing_extensions": "typing_extensions",
}
"""What Python must have beside TensorRT; with a GPU also cuda-python (12 or newer on JetPack 6) or pycuda."""

README = """\
A network and its proof, to be built into a TensorRT plan on this machine.

  sh build.sh                  checks itself, run.py and whether TensorRT is here, then runs the next line
  python3 run.py               checks every byte, builds, compares with the source framework, writes out/
  python3 run.py --help        workspace, precision, timing cache, where the plan goes

Needs Python 3.8 or newer, TensorRT 8.5 or newer (JetPack's own, or tensorrt-rtx), cuda-python or pycuda, and
  pip install numpy pyyaml pydantic annotated-types typing_extensions
model.yaml is the network, weights.safetensors its parameters, samples.safetensors what the source framework computed
of one input, manifest.json what all of it was made from. Nothing here needs TensorFlow, Keras or PyTorch.
"""

BUILD_SH = """\
#!/bin/sh
# Builds and proves the plan on this machine; takes the options of run.py.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
python=${PYTHON:-python3}
command -v sha256sum >/dev/null && for file in build.sh run.py; do
    grep -q "$(sha256sum <"$here/$file" | cut -c -64)" "$here/manifest.json" && continue
    echo "error: $here/$file: damaged: it is not as manifest.json has it - copy the bundle again" >&2
    exit 2
done
command -v "$python" >/dev/null || { echo "error: no $python; install Python 3.8 or newer" >&2; exit 2; }
"$python" -c 'import tensorrt' 2>/dev/null || "$python" -c 'import tensorrt_rtx' 2>/dev/null || {
    echo "error: $python has no TensorRT: JetPack brings it (in a virtual environment: --system-site-packages)" >&2
    exit 2
}
exec "$python" "$here/run.py" "$@"
"""
"""Checks itself and run.py, which checks all else: a damaged Python file cannot say so itself."""
