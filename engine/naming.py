"""Whose a TensorRT layer is: a layer of ours that becomes several calls them `name/part`.

    net/fc/image, net/fc/convolution, net/fc   ->   net/fc
    image/float16                              ->   none of ours: a cast of the network's input

A tensor read as int8 is TENSOR/quantized, its numbers over TENSOR/step, and TENSOR/dequantized behind it.
"""

from __future__ import annotations

from typing import Container, Optional


def owner_of(name: str, ours: Container[str]) -> Optional[str]:
    """Our layer behind a TensorRT layer: the part after the last slash goes until the name is one of ours; or None."""
    while name not in ours:
        name, slash, _ = name.rpartition("/")
        if not slash:
            return None
    return name


def quantized_name(tensor: str) -> str:
    return f"{tensor}/quantized"


def dequantized_name(tensor: str) -> str:
    return f"{tensor}/dequantized"


def step_name(tensor: str) -> str:
    """Not `scale`: a batch norm has factors of that name."""
    return f"{tensor}/step"
