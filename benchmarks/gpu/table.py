"""The raw GPU results as the Markdown tables of benchmarks/README.md.

    python -m benchmarks.gpu.table benchmarks/results/gpu
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any, Dict, Iterator, List, Sequence

from benchmarks.gpu.floors import floor_of
from commands.configs import load_graph


def lines_of(path: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(str(cell) for cell in row)} |"
    yield ""


def error_rows(folder: Path) -> Iterator[List[str]]:
    for row in lines_of(folder / "errors.jsonl"):
        worst = "{1:.1e} ({0})".format(*row["worst"]) if "worst" in row else ""
        shipped = ", ".join(f"{value:.1e}" for value in row.get("shipped", {}).values())
        if worst or shipped:
            yield [row["model"], row["precision"], row["batch"], worst, shipped]


def medians(folder: Path) -> Dict[Any, Dict[str, float]]:
    """Median ms of the loads' medians by (model, road, precision, batch, dtype)."""
    found: Dict[Any, Dict[str, List[float]]] = {}
    for row in lines_of(folder / "latency.jsonl"):
        if "compute" in row:
            key = (row["model"], row["road"], row["precision"], row["batch"], row["dtype"])
            for part in ("compute", "end_to_end"):
                found.setdefault(key, {}).setdefault(part, []).append(row[part]["median"])
    return {key: {part: median(values) for part, values in parts.items()} for key, parts in found.items()}


def latency_rows(folder: Path) -> Iterator[List[str]]:
    """Ours, the ONNX road's on the same kind of input, their ratio, and our fraction of the floors."""
    found = medians(folder)
    for (model, road, word, batch, dtype), ours in sorted(found.items()):
        if road != "ours":
            continue
        onnx = found.get((model, "onnx", word, batch, dtype))
        floor = floor_of(_graph(model, batch), word)
        yield [model, word, batch, dtype or "config's", f"{ours['compute']:.3f}", f"{ours['end_to_end']:.3f}",
               f"{onnx['compute']:.3f}" if onnx else "", f"{ours['compute'] / onnx['compute']:.3f}" if onnx else "",
               f"{floor.arithmetic_ms:.3f} ({floor.arithmetic_ms / ours['compute']:.0%})",
               f"{floor.bytes_ms:.3f} ({floor.bytes_ms / ours['compute']:.0%})"]  # fmt: skip


def _graph(model: str, batch: int) -> Any:
    _, graph = load_graph(model, [])
    shapes = [f"inputs.{name}.shape={[batch, *spec.shape[1:]]}" for name, spec in graph.inputs.items()]
    return load_graph(model, shapes)[1]


def variant_rows(folder: Path) -> Iterator[List[str]]:
    for row in json.loads((folder / "resnet50_int8.json").read_text())["variants"]:
        yield [row["variant"], row["batch"], f"{row['images_per_second']:,}"]


def agreement_rows(folder: Path) -> Iterator[List[str]]:
    for row in lines_of(folder / "agreement.jsonl"):
        agreed = f"{row['agreed']} of {row['count']}"
        yield [row["model"], row["precision"], agreed, row["different_answers"], f"{row['relative_l2']:.1e}"]


SECTIONS = {
    # columns: rows
    ("model", "precision", "batch", "worst layer", "shipped output"): error_rows,
    ("model", "precision", "batch", "input", "ours", "with copies", "ONNX", "ours / ONNX", "arithmetic floor",
     "bytes floor"): latency_rows,
    ("variant", "batch", "images/s"): variant_rows,
    ("model", "precision", "agreed", "different answers", "relative L2"): agreement_rows,
}  # fmt: skip


def main() -> None:
    for head, rows_of in SECTIONS.items():
        print("\n".join(markdown(head, list(rows_of(Path(sys.argv[1]))))))


if __name__ == "__main__":
    main()
