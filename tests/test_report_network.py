"""verify.report's drawing: no wire through a box, no box on another, every layer there, colours that say its error."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import pytest

from builders import ARCHITECTURES, expand
from spec.graph import Graph, build_graph
from spec.load import load_model
from tests.small_comparison import compared
from tests.small_models import graph_of
from verify.compare import Comparison, Tolerance
from verify.report.network_drawing import BOX_HEIGHT, NAME_LENGTH, Box, colouring, culprit, describe, draw, shorten
from verify.report.network_layout import arrange, depths, pack
from verify.report.scale import error_scale

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("model*.yaml"))

NETS: Dict[str, Dict[str, Sequence[str]]] = {
    "chain": {"a": [], "b": ["a"], "c": ["b"]},
    "residual": {"a": [], "b": ["a"], "c": ["b"], "d": ["c", "a"], "e": ["d"]},
    "nested": {"a": [], "b": ["a"], "c": ["b"], "d": ["c"], "e": ["d", "b"], "f": ["e"], "g": ["f", "a"]},
    "dense": {"a": [], "b": ["a"], "c": ["b", "a"], "d": ["c", "b", "a"], "e": ["d", "c", "b", "a"]},
    "two outputs": {"a": [], "b": ["a"], "head": ["a"], "c": ["b"], "d": ["c"], "e": ["d"]},
    "late source": {"a": [], "b": ["a"], "c": ["b"], "constant": [], "d": ["c", "constant"]},
    "wide": {"a": [], **{f"b{i}": ["a"] for i in range(5)}, "c": [f"b{i}" for i in range(5)]},
    "end read twice": {"a": [], "b": ["a"], "s": ["a"], "c": ["b"], "d": ["c", "s"], "e": ["d"], "f": ["e", "s"]},
    "end passes a branch": {
        "a": [],
        "b": ["a"],
        "s": ["a"],
        "c": ["b"],
        "t": ["b"],
        "d": ["c", "t"],
        "e": ["d"],
        "f": ["e", "s"],
    },
    "alone": {"a": []},
}


def graph_of_config(path: Path) -> Graph:
    model = load_model(path, ARCHITECTURES)
    return build_graph(model, expand(model))


def nothing_compared(graph: Graph) -> Comparison:
    return Comparison(graph.name, "", "", "", Tolerance(), ())


@pytest.mark.parametrize("parents", NETS.values(), ids=NETS)
def test_a_wire_has_its_column_to_itself_in_the_rows_it_passes(parents):
    layout = arrange(parents)
    taken = {(layout.depth[node], layout.columns[node]): node for node in parents}
    assert len(taken) == len(parents), "two nodes in one place"
    for wire in layout.wires:
        passed = range(layout.depth[wire.source] + 1, layout.depth[wire.target])
        assert not [taken[row, wire.column] for row in passed if (row, wire.column) in taken]
    for one, other in itertools.combinations(layout.wires, 2):
        rows = [set(range(layout.depth[each.source] + 1, layout.depth[each.target])) for each in (one, other)]
        if one.column == other.column and rows[0] & rows[1]:
            assert one.source == other.source, "only wires of one source share a line"


@pytest.mark.parametrize("parents", NETS.values(), ids=NETS)
def test_every_edge_is_a_wire_that_goes_down(parents):
    layout = arrange(parents)
    edges = [(source, node) for node, sources in parents.items() for source in sources]
    assert sorted((wire.source, wire.target) for wire in layout.wires) == sorted(edges)
    assert all(layout.depth[source] < layout.depth[node] for source, node in edges)


def test_depth_is_the_longest_path_and_a_late_source_stands_above_its_reader():
    assert depths(NETS["dense"]) == {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}
    assert depths(NETS["late source"])["constant"] == 2


def test_the_longest_way_is_the_leftmost_column():
    layout = arrange(NETS["nested"])
    assert {layout.columns[node] for node in NETS["nested"]} == {("box", 0)}


@pytest.mark.parametrize(
    "occupied, columns",
    [
        ([(0, 2), (1, 3), (3, 4)], [0, 1, 0]),
        ([(0, 5), (0, 5), (0, 5)], [0, 1, 2]),
        ([(2, 2), (2, 2)], [0, 1]),
        ([], []),
    ],
)
def test_pack_takes_the_leftmost_free_column(occupied, columns):
    assert pack(occupied) == columns


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_models_are_drawn_whole_and_without_collisions(path):
    graph = graph_of_config(path)
    drawing = draw(graph, nothing_compared(graph))
    assert {box.name for box in drawing.boxes} == {*graph.inputs, *(layer.name for layer in graph.layers)}
    for one, other in itertools.combinations(drawing.boxes, 2):
        apart = abs(one.left - other.left) >= one.width or abs(one.top - other.top) >= BOX_HEIGHT
        assert apart, (one.name, other.name)
    for box in drawing.boxes:
        assert 0 <= box.left and box.left + box.width <= drawing.width
        assert 0 <= box.top and box.top + BOX_HEIGHT <= drawing.height
    for wire in verticals(drawing.wires):
        assert [box.name for box in drawing.boxes if crosses(wire, box)] == []


def crosses(wire: Tuple[float, float, float], box: Box) -> bool:
    """Whether a straight piece of wire (x, top, bottom) goes through the inside of a box."""
    x, top, bottom = wire
    return box.left < x < box.left + box.width and top < box.top + BOX_HEIGHT and box.top < bottom


def verticals(paths: Sequence[str]) -> List[Tuple[float, float, float]]:
    """x, top and bottom of every straight piece of SVG paths."""
    pieces = []
    for path in paths:
        x = y = 0.0
        for command, numbers in re.findall(r"([MVC])([^MVC]*)", path):
            values = [float(number) for number in numbers.split()]
            if command == "V":
                pieces.append((x, y, values[0]))
                y = values[0]
            else:
                x, y = values[-2:]
    return pieces


def test_two_tensors_of_one_layer_are_one_box_with_its_worse_row():
    graph = graph_of([("top_k", {"name": "top", "k": 2, "axis": "c"})], {"image": (1, 5)}, ["top"])
    names = graph.layers[0].tensor_names
    base = compared().comparison.rows[0]
    bad = compared(1e-2).comparison.rows[1]
    rows = (base._replace(layer=names[0]), bad._replace(layer=names[1]))
    drawing = draw(graph, nothing_compared(graph)._replace(rows=rows))
    box = next(box for box in drawing.boxes if box.name == "top")
    assert len(names) == 2 and (box.position, box.row) == (1, rows[1])


def test_colours_follow_the_error_on_both_sides_of_the_tolerance():
    case = compared(1e-2)
    scale = error_scale(case.comparison)
    found = [row.worst for row in case.comparison.rows]
    kinds = [colouring(each, "", scale) for each in found]
    for (kind, place), each in zip(kinds, found):
        assert kind == ("passed" if each.passed else "failed") and 0 < place < 1
    order = sorted(zip(found, kinds), key=lambda pair: pair[0].error)
    failed = [place for _, (kind, place) in order if kind == "failed"]
    assert len(failed) == 4 and failed == sorted(failed)
    assert colouring(None, "", scale) == ("absent", 1.0)
    assert colouring(None, "NaN", scale) == ("failed", 1.0)
    assert colouring(found[0], "NaN", scale)[0] == "failed"


def test_an_exact_layer_is_its_own_colour():
    row = compared().comparison.rows[2]
    exact = row.isolated._replace(max_abs=0.0)
    assert colouring(exact, "", error_scale(compared().comparison)) == ("exact", 0.0)


def test_only_the_layer_that_is_wrong_itself_is_a_culprit():
    case = compared(1e-2)
    boxes = {box.name: box for box in draw(case.graph, case.comparison).boxes}
    assert [name for name, box in boxes.items() if culprit(box)] == ["bn"]
    assert "FAILED, inherited" in describe(boxes["relu"]) and "reads bn" in describe(boxes["relu"])
    assert describe(boxes["image"]) == "image\ninput, float32 1 x 3 x 5 x 7"


def test_a_layer_that_was_not_compared_says_so():
    graph = compared().graph
    box: Box = draw(graph, nothing_compared(graph)).boxes[1]
    assert box.row is None and "not compared" in describe(box)


def test_long_names_keep_both_ends():
    name = "resnet50/conv5_block3/bottleneck/residual/projection_bn"
    short = shorten(name)
    assert len(short) == NAME_LENGTH[1] and short.startswith("resnet50/") and short.endswith("projection_bn")
    assert shorten("conv") == "conv"


# The scale -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [1e-3, 1e-2, 10.0])
def test_the_scale_holds_every_error_with_room_at_both_ends(epsilon):
    comparison = compared(epsilon).comparison
    scale = error_scale(comparison)
    errors = [each.error for row in comparison.rows for each in (row.isolated, row.accumulated) if each.error]
    assert scale.floor * 9.99 <= min(errors) and max(errors) <= scale.ceiling
    assert scale.floor < scale.tolerance == 1e-5 < scale.ceiling
    assert scale.height(0.0) == scale.floor and scale.height(float("inf")) == scale.ceiling


def test_the_scale_with_an_atol_reaches_the_loosest_limit():
    comparison = compared(tolerance=Tolerance(atol=1e-3, rtol=1e-5)).comparison
    smallest = min(row.worst.magnitude for row in comparison.rows)
    assert error_scale(comparison).tolerance == pytest.approx(1e-5 + 1e-3 / smallest)


@pytest.mark.parametrize("tolerance", [Tolerance(rtol=0.0), Tolerance(atol=0.0, rtol=1e-5)])
def test_a_scale_of_nothing_is_still_a_scale(tolerance):
    scale = error_scale(compared().comparison._replace(rows=(), tolerance=tolerance))
    assert 0 < scale.floor <= scale.tolerance < scale.ceiling
