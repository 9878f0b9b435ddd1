"""run.py of a bundle: checks what it needs before it imports anything, then builds the plan on this machine.

    manifest.json ─ sha256 ─> code.zip.xz is whole ─> packages are there ─> unpacked for this run ─> device_build.main

Python 3.6 must be able to read it, to be told that it is too old: JetPack 4 has that.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import io
import json
import lzma
import os
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CODE = HERE / "code.zip.xz"


def problem():
    """What is wrong before the bundle's own code can be trusted to say more, in one sentence, or an empty one."""
    if sys.version_info < (3, 8):
        return f"Python {sys.version.split()[0]} runs here, wanted 3.8 or newer"
    try:
        manifest = sealed_manifest((HERE / "manifest.json").read_bytes())
        wanted, packages = manifest["files"][CODE.name]["sha256"], manifest["requirements"]["packages"].items()
        found = hashlib.sha256(CODE.read_bytes()).hexdigest()
    except OSError as error:
        return f"{error.filename}: cannot be read: {error.strerror} - copy the bundle again"
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return f"{HERE / 'manifest.json'}: damaged - copy the bundle again"
    if found != wanted:
        return f"{CODE}: damaged: its sha256 is {found[:12]}..., wanted {wanted[:12]}... - copy it again"
    missing = [package for module, package in packages if importlib.util.find_spec(module) is None]
    return f"Python packages are missing: pip install {' '.join(missing)}" if missing else ""


def sealed_manifest(content):
    """The manifest; raises ValueError where it is not what its seal says. deploy.bundle_manifest.sealed wrote it."""
    manifest = json.loads(content)
    seal = manifest.pop("seal")
    if hashlib.sha256((json.dumps(manifest, indent=2) + "\n").encode()).hexdigest() != seal:
        raise ValueError("another seal")
    return manifest


def main():
    """Runs the build; returns the exit code."""
    try:
        code = checked_build()
        sys.stdout.flush()
    except BrokenPipeError:
        # whoever read our output, `head` perhaps, has seen enough; at its exit Python would flush, and fail, once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return refused("interrupted; nothing half-written stays", 130)
    return code


def checked_build():
    """Unpacks the code and runs it, where nothing is wrong; returns the exit code."""
    found = problem()
    if found:
        return refused(found)
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="trt-transplant-"))
            zipfile.ZipFile(io.BytesIO(lzma.decompress(CODE.read_bytes()))).extractall(folder)
        except OSError as error:
            return refused(f"no room for the bundle's code: {error} - set TMPDIR to a folder with 1 MB to write")
        sys.dont_write_bytecode = True
        sys.path.insert(0, folder)
        return importlib.import_module("commands.device_build").main(HERE, sys.argv[1:])


def refused(words, code=2):
    """Says what is wrong on standard error; returns the exit code."""
    print(f"error: {words}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
