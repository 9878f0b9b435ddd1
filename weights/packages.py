"""Import a third-party package only when a format needs it, and say which one is missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from spec.errors import CheckpointError

# import name -> (name to install, what needs it)
PACKAGES = {
    "google.protobuf": ("protobuf", "TensorFlow's checkpoints and graphs"),
    "google_crc32c": ("google-crc32c", "the checksums of TensorFlow's checkpoints"),
    "h5py": ("h5py", "Keras' HDF5 files"),
    "ml_dtypes": ("ml_dtypes", "bfloat16 tensors"),
}


def import_package(name: str) -> ModuleType:
    """The package `name`, a key of PACKAGES.

    Raises:
        CheckpointError: it is not installed, or does not import here.
    """
    installable, purpose = PACKAGES[name]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        message = f"{purpose} need the package '{installable}', which does not import here ({error})"
        raise CheckpointError(f"{message} - run: pip install {installable}") from error
