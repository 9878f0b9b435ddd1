"""Where the layers of a network stand on paper: rows by longest path, columns so that no wire crosses a box.

depth 0   ┌ a ┐
depth 1   ┌ b ┐─┐ ┌ c ┐      a chain of layers keeps its column; a wire that passes rows has a column of its
depth 2   ┌ d ┐ │   │        own, or goes on in the column of the chain that ended
depth 3   ┌ e ┐─┘───┘        columns change only between rows
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, NamedTuple, Sequence, Tuple

Parents = Mapping[str, Sequence[str]]
"""Node -> the nodes it reads; every node stands behind those it reads."""

Column = Tuple[str, int]
"""("box" or "wire", number from the left among its kind)."""

Rows = Tuple[int, int]
"""First and last row that something occupies, both included."""


class Wire(NamedTuple):
    """From one node to another, straight down `column` in the rows between theirs."""

    source: str
    target: str
    column: Column


class Layout(NamedTuple):
    """Row and column of every node, and every wire."""

    depth: Dict[str, int]
    columns: Dict[str, Column]
    wires: Tuple[Wire, ...]


def arrange(parents: Parents) -> Layout:
    """Places nodes given in an order in which each stands behind those it reads."""
    depth = depths(parents)
    chains = chains_of(parents, depth)
    straight = {pair for chain in chains for pair in zip(chain, chain[1:])}
    edges = [(source, node) for node in parents for source in parents[node]]
    passing = {edge for edge in edges if edge not in straight and depth[edge[1]] > depth[edge[0]] + 1}
    ends = {chain[-1] for chain in chains}
    box_column = _box_columns(chains, sorted(edge for edge in passing if edge[0] in ends), depth)
    wire_column = _wire_columns(sorted(edge for edge in passing if edge[0] not in ends), depth)
    columns = {node: box_column[node] for node in parents}
    wires = [
        Wire(*edge, wire_column.get(edge[0], columns[edge[0]]) if edge in passing else columns[edge[1]])
        for edge in edges
    ]
    return Layout(depth, columns, tuple(wires))


def depths(parents: Parents) -> Dict[str, int]:
    """Longest path to each node; one that reads nothing stands just above the first that reads it."""
    depth: Dict[str, int] = {}
    for node, sources in parents.items():
        depth[node] = max((depth[source] + 1 for source in sources), default=0)
    readers = readers_of(parents)
    for node, sources in parents.items():
        if not sources and readers[node]:
            depth[node] = max(min(depth[reader] for reader in readers[node]) - 1, 0)
    return depth


def readers_of(parents: Parents) -> Dict[str, List[str]]:
    """Node -> the nodes that read it."""
    readers: Dict[str, List[str]] = {node: [] for node in parents}
    for node, sources in parents.items():
        for source in sources:
            readers[source].append(node)
    return readers


def chains_of(parents: Parents, depth: Mapping[str, int]) -> List[List[str]]:
    """Every node in one chain: a chain goes on where a node's deepest source prefers it, the longest way to the end."""
    readers = readers_of(parents)
    height: Dict[str, int] = {}
    for node in reversed(list(parents)):
        height[node] = max((height[reader] + 1 for reader in readers[node]), default=0)
    chains: List[List[str]] = []
    chain_ending: Dict[str, List[str]] = {}
    for node, sources in parents.items():
        source = max(sources, key=lambda name: depth[name], default=None)
        if source is not None and max(readers[source], key=lambda name: height[name]) == node:
            chain = chain_ending.pop(source)
        else:
            chain = []
            chains.append(chain)
        chain.append(node)
        chain_ending[node] = chain
    return chains


def pack(occupied: Sequence[Rows]) -> List[int]:
    """A column for each, the leftmost that is free in all its rows."""
    columns: List[List[Rows]] = []
    result = []
    for first, last in occupied:
        free = (
            number
            for number, taken in enumerate(columns)
            if all(last < other_first or other_last < first for other_first, other_last in taken)
        )
        number = next(free, len(columns))
        if number == len(columns):
            columns.append([])
        columns[number].append((first, last))
        result.append(number)
    return result


def _box_columns(
    chains: Sequence[Sequence[str]], passing: Iterable[Tuple[str, str]], depth: Mapping[str, int]
) -> Dict[str, Column]:
    """The longest chain leftmost; a chain whose end is read further down keeps its column until there."""
    last = {chain[-1]: depth[chain[-1]] for chain in chains}
    for source, node in passing:
        last[source] = max(last[source], depth[node] - 1)
    longest = max(chains, key=len)
    order = [longest] + sorted((chain for chain in chains if chain is not longest), key=lambda chain: depth[chain[0]])
    packed = pack([(depth[chain[0]], last[chain[-1]]) for chain in order])
    return {node: ("box", number) for chain, number in zip(order, packed) for node in chain}


def _wire_columns(edges: Sequence[Tuple[str, str]], depth: Mapping[str, int]) -> Dict[str, Column]:
    """One column for all long wires of a node."""
    last: Dict[str, int] = {}
    for source, node in edges:
        last[source] = max(last.get(source, 0), depth[node] - 1)
    sources = sorted(last, key=lambda name: depth[name])
    packed = pack([(depth[source] + 1, last[source]) for source in sources])
    return {source: ("wire", number) for source, number in zip(sources, packed)}
