"""The command line that the four samples share: write the checkpoint, run one random image, print both."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType
from typing import List, Optional

import numpy as np


def main(sample: ModuleType, arguments: Optional[List[str]] = None) -> None:
    """`python -m samples.modelN --output DIRECTORY [--seed N]` for the module of one sample."""
    parser = argparse.ArgumentParser(description=sample.__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="directory for the checkpoint files")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the image (default 0)")
    options = parser.parse_args(arguments)
    for path in sample.write(options.output, options.seed):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    show(sample.run(options.output, sample.random_image(options.seed)))


def show(output: np.ndarray) -> None:
    """Print the shape of the output [n, classes] and the five best classes of the first image."""
    print(f"output {list(output.shape)} {output.dtype}, top 5 of the first image:")
    for index in np.argsort(output[0])[::-1][:5]:
        print(f"  class {index:4d}  {output[0, index]:.6f}")
