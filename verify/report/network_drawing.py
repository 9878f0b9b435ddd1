"""The network drawn top to bottom: boxes and wires in pixels, each box with its rows of the comparison.

Graph + Comparison --arrange--> Layout --> Drawing(boxes, wires as SVG paths, width, height)
"""

from __future__ import annotations

from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

from spec.graph import Graph
from spec.shapes import show
from verify.compare import Comparison, Difference, LayerRow
from verify.report.network_layout import Column, Layout, arrange
from verify.report.scale import ErrorScale
from verify.report.wording import error_words, show_result

BOX_HEIGHT, MARGIN = 24.0, 12.0
CHARACTER = 6.7
"""Width of a character of 11 px monospace type."""
NAME_LENGTH = (12, 34)
"""Fewest and most characters of a name that a box has room for."""
FIGURE_LENGTH = 10
"""Characters kept free at the right of a box, for `x 1.5e-06`."""
WIRE_WIDTH, COLUMN_GAP = 22.0, 26.0
GAP, BENT_GAP = 10.0, 24.0
"""Between rows: where all wires run straight, and where one changes its column."""


class Box(NamedTuple):
    """A layer or an input. `row` is its worst row of the comparison, `position` that row's number; both may be None."""

    name: str
    label: str
    type: str
    shape: str
    reads: Tuple[str, ...]
    left: float
    top: float
    width: float
    row: Optional[LayerRow]
    position: Optional[int]


class Drawing(NamedTuple):
    """`wires` are path data of SVG."""

    boxes: Tuple[Box, ...]
    wires: Tuple[str, ...]
    width: float
    height: float


def draw(graph: Graph, comparison: Comparison) -> Drawing:
    """Draws every input and every layer of the graph, whether or not it was compared."""
    parents = _parents(graph)
    layout = arrange(parents)
    width = _box_width(parents)
    left, total_width = _columns(layout, width)
    top, total_height = _rows(layout)
    rows = _worst_rows(graph, comparison)
    boxes = []
    for name, reads in parents.items():
        tensor, column = graph.tensors[name], layout.columns[name]
        position, row = rows.get(name, (None, None))
        kind = row.type if row else _type(graph, name)
        place = (left[column], top[layout.depth[name]], width)
        boxes.append(
            Box(name, shorten(name), kind, f"{tensor.dtype} {show(tensor.shape)}", tuple(reads), *place, row, position)
        )
    return Drawing(tuple(boxes), tuple(_paths(layout, left, top, width)), total_width, total_height)


def shorten(name: str) -> str:
    """A name that fits its box, cut in the middle: both ends tell layers apart."""
    if len(name) <= NAME_LENGTH[1]:
        return name
    kept = NAME_LENGTH[1] - 1
    return f"{name[: kept // 2]}…{name[-(kept - kept // 2) :]}"


def colouring(
    difference: Optional[Difference], problem: str, scale: ErrorScale, judged: bool = True
) -> Tuple[str, float]:
    """What a box's colour says: exact, passed, failed or absent, and how far along that half of the scale, 0 to 1.

    What is not judged does not fail: beyond the tolerance it stands at the end of the passed half.
    """
    if difference is None:
        return ("failed" if problem else "absent"), 1.0
    if difference.error == 0 and not problem:
        return "exact", 0.0
    passed = (difference.passed or not judged) and not problem
    return ("passed" if passed else "failed"), round(scale.fraction(difference.error, passed), 3)


def culprit(box: Box) -> bool:
    """Whether the layer itself is wrong, not only its inputs."""
    row = box.row
    if row is None or row.problem:
        return row is not None
    return "isolated" in row.judged and (row.isolated is None or not row.isolated.passed)


def describe(box: Box) -> str:
    """All about a box, a fact a line."""
    lines = [f"{box.name}", f"{box.type}, {box.shape}"]
    if box.row is not None:
        lines += [", ".join(error_words(box.row)), show_result(box.row)]
        lines += [box.row.problem] if box.row.problem else []
        lines += [f"reference: {box.row.reference}"] if box.row.reference else []
    elif box.type != "input":
        lines += ["not compared"]
    return "\n".join(lines + ([f"reads {', '.join(box.reads)}"] if box.reads else []))


def _parents(graph: Graph) -> Dict[str, List[str]]:
    """Every input and layer -> the inputs and layers it reads, each once."""
    made_by = {name: name for name in graph.inputs}
    made_by.update({tensor: layer.name for layer in graph.layers for tensor in layer.tensor_names})
    parents: Dict[str, List[str]] = {name: [] for name in graph.inputs}
    for layer in graph.layers:
        parents[layer.name] = list(dict.fromkeys(made_by[name] for name in layer.inputs))
    return parents


def _type(graph: Graph, name: str) -> str:
    return "input" if name in graph.inputs else next(layer.type for layer in graph.layers if layer.name == name)


def _worst_rows(graph: Graph, comparison: Comparison) -> Dict[str, Tuple[int, LayerRow]]:
    """Layer -> number and row of its worst tensor."""
    made_by = {tensor: layer.name for layer in graph.layers for tensor in layer.tensor_names}
    found: Dict[str, Tuple[int, LayerRow]] = {}
    for position, row in enumerate(comparison.rows):
        layer = made_by.get(row.layer, row.layer)
        if layer not in found or _badness(row) > _badness(found[layer][1]):
            found[layer] = (position, row)
    return found


def _badness(row: LayerRow) -> Tuple[bool, float]:
    return not row.passed, row.worst_error


def _box_width(names: Iterable[str]) -> float:
    fewest, most = NAME_LENGTH
    longest = min(max([fewest, *map(len, names)]), most)
    return round((longest + FIGURE_LENGTH) * CHARACTER + 12)


def _columns(layout: Layout, box_width: float) -> Tuple[Dict[Column, float], float]:
    """Left edge of every column and the width of all; wires run between the first column of boxes and the others."""
    used = sorted({*layout.columns.values(), *(wire.column for wire in layout.wires)})
    order = sorted(used, key=lambda column: (column != ("box", 0), column[0] == "box", column[1]))
    left, x, right = {}, MARGIN, MARGIN
    for column in order:
        width = box_width if column[0] == "box" else WIRE_WIDTH
        left[column], right = x, x + width
        x = right + (COLUMN_GAP if column[0] == "box" else 0)
    return left, right + MARGIN


def _rows(layout: Layout) -> Tuple[List[float], float]:
    """Top edge of every row and the height of all; a gap in which a wire changes its column is wider."""
    bent = set()
    for wire in layout.wires:
        if layout.columns[wire.source] != wire.column:
            bent.add(layout.depth[wire.source])
        if layout.columns[wire.target] != wire.column:
            bent.add(layout.depth[wire.target] - 1)
    top, y = [], MARGIN
    for depth in range(max(layout.depth.values()) + 1):
        top.append(y)
        y += BOX_HEIGHT + (BENT_GAP if depth in bent else GAP)
    return top, top[-1] + BOX_HEIGHT + MARGIN


def _paths(layout: Layout, left: Dict[Column, float], top: List[float], box_width: float) -> List[str]:
    def middle(column: Column) -> float:
        return left[column] + (box_width if column[0] == "box" else WIRE_WIDTH) / 2

    paths = []
    for wire in layout.wires:
        start, end = layout.depth[wire.source], layout.depth[wire.target]
        x = [middle(each) for each in (layout.columns[wire.source], wire.column, layout.columns[wire.target])]
        points = [(x[0], top[start] + BOX_HEIGHT), (x[2], top[end])]
        if end > start + 1:
            points[1:1] = [(x[1], top[start + 1]), (x[1], top[end - 1] + BOX_HEIGHT)]
        paths.append(path_data(points))
    return paths


def path_data(points: List[Tuple[float, float]]) -> str:
    """SVG path through points: straight down where x stays, an S-curve where it changes."""
    (x, y), parts = points[0], [f"M{points[0][0]:g} {points[0][1]:g}"]
    for next_x, next_y in points[1:]:
        half = (y + next_y) / 2
        parts.append(f"V{next_y:g}" if x == next_x else f"C{x:g} {half:g} {next_x:g} {half:g} {next_x:g} {next_y:g}")
        x, y = next_x, next_y
    return "".join(parts)
