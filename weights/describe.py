"""What a file that is no readable checkpoint looks like, in words, with the next step."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Optional

from spec.errors import did_you_mean

from .mapped_file import map_file
from .tf_graph import is_meta_graph, is_saved_model
from .tf_paths import checkpoint_prefix, index_file

_HEAD_SIZE = 4096

# Start of the file, as a pattern -> what it is - what to do. The first that matches counts.
STARTS: Dict[bytes, str] = {
    rb"version https://git-lfs": "a git-LFS pointer, not the file it stands for - run: git lfs pull",
    rb"\s*<(!doctype|html|head|body|\?xml)": (
        "an HTML page, probably of a download that asked to sign in - download the file itself"
    ),
    rb"PK\x05\x06": "an empty zip archive",
    rb"PK\x03\x04": "a zip archive of neither PyTorch nor Keras - unpack it and name the checkpoint inside",
    rb"\x1f\x8b": "a gzip archive - unpack it first",
    rb"BZh": "a bzip2 archive - unpack it first",
    rb"\xfd7zXZ": "an xz archive - unpack it first",
    # POSIX tar has its magic behind the first member's header fields.
    rb".{257}ustar": "a tar archive, also PyTorch's format before 0.2 - unpack it, or save it with a newer PyTorch",
    rb"\x93NUMPY": "a NumPy array, without the names a checkpoint has",
    rb".{4}TFL3": "a TensorFlow Lite model - name the checkpoint it was converted from",
    rb".trt": "a TensorRT engine - name the checkpoint its weights come from",
    rb"%PDF": "a PDF document",
    rb"\x89PNG|\xff\xd8\xff": "an image",
    rb"GGUF": "a GGUF file of llama.cpp",
    # ModelProto: ir_version (field 1, above 2 since 2017), then producer_name, opset_import or graph.
    rb"\x08[\x03-\x1f][\x12\x1a\x22\x3a\x42]": "an ONNX model - name the checkpoint it was exported from",
    rb"\x80[\x02-\x05]": (
        "a bare Python pickle, not read because it can run code - torch.save(model.state_dict(), path) instead"
    ),
    rb"[\x20-\x7e\s]*\Z": "a text file",
}


def describe(path: Path) -> str:
    """One phrase on what `path` is, and the next step where there is one."""
    if path.is_dir():
        return "a directory with neither a `checkpoint` file, one .index file nor a SavedModel with variables"
    if not path.exists():
        return f"no such file{_nearest_sibling(path)}"
    data = map_file(path)
    if not data:
        return "an empty file - copy it again"
    head = bytes(data[:_HEAD_SIZE])
    start = next((words for start, words in STARTS.items() if re.match(start, head, re.DOTALL | re.IGNORECASE)), None)
    return _part_of_tensorflow(path, data) or start or f"unknown: it starts with {head[:8].hex(' ')}"


def _nearest_sibling(path: Path) -> str:
    if not path.parent.is_dir():
        return f": there is no directory {path.parent}"
    return did_you_mean(path.name, [sibling.name for sibling in path.parent.iterdir()])


def _part_of_tensorflow(path: Path, data: memoryview) -> Optional[str]:
    prefix = checkpoint_prefix(path)
    if is_saved_model(data):
        return f"a SavedModel graph without its variables - copy {index_file(prefix).parent.name}/ beside it"
    if is_meta_graph(data):
        return f"the graph of a checkpoint without its tensors - copy {prefix.name}.index and .data-* beside it"
    if re.search(r"\.data-\d{5}-of-\d{5}$", path.name):
        return f"the data of a TensorFlow checkpoint whose {prefix.name}.index is missing - copy it beside this file"
    if path.suffix == ".index":
        return "named like the index of a TensorFlow checkpoint, but cut short or damaged - copy it again"
    if path.with_name(path.name + ".meta").is_file():
        return "beside a .meta file, but cut short or no TensorFlow V1 checkpoint - copy it again"
    return None
