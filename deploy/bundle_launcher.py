"""run.py of a bundle: checks what it needs before it imports anything, then builds the plan on this machine.

    manifest.json ─ sha256 ─> code.zip.xz is whole ─> packages are there ─> unpacked for this run ─> device_build.main
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import json
import lzma
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CODE = HERE / "code.zip.xz"


def problems():
    """One sentence for each thing that is wrong before the bundle's own code can be trusted to say more."""
    if sys.version_info < (3, 8):
        return [f"Python {sys.version.split()[0]} runs here, wanted 3.8 or newer"]
    try:
        manifest = json.loads((HERE / "manifest.json").read_bytes())
        wanted, packages = manifest["files"][CODE.name]["sha256"], manifest["requirements"]["packages"].items()
        found = hashlib.sha256(CODE.read_bytes()).hexdigest()
    except OSError as error:
        return [f"{error.filename}: cannot be read: {error.strerror} - copy the bundle again"]
    except (ValueError, LookupError, TypeError, AttributeError):
        return [f"{HERE / 'manifest.json'}: damaged - copy the bundle again"]
    if found != wanted:
        return [f"{CODE}: damaged: its sha256 is {found[:12]}..., wanted {wanted[:12]}... - copy it again"]
    missing = [package for module, package in packages if importlib.util.find_spec(module) is None]
    return [f"Python packages are missing: pip install {' '.join(missing)}"] if missing else []


def main():
    """Runs the build; returns the exit code."""
    found = problems()
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    if found:
        return 2
    with tempfile.TemporaryDirectory(prefix="trt-transplant-") as folder:
        zipfile.ZipFile(io.BytesIO(lzma.decompress(CODE.read_bytes()))).extractall(folder)
        sys.dont_write_bytecode = True
        sys.path.insert(0, folder)
        return importlib.import_module("commands.device_build").main(HERE, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
