"""What an expression of our code can be, which class of TensorRT it has, and what a condition says of the TensorRT.

    added      --its name, what it was assigned--> network.add_softmax(x) --result type of the API--> ISoftMaxLayer
    typed      --what it was assigned-->           tensorrt.has("quantize with a type")  --> a fact where it is true
"""

from __future__ import annotations

import ast
from typing import Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

Facts = Mapping[str, bool]
"""Whether a TensorRT that comes here has a capability."""


class Value(NamedTuple):
    """One thing that an expression can be, TensorRT's class of it (empty: none that is known), and when it is that.

    The class of a class is `type X`; the module is an object of the class `module`.
    """

    node: ast.expr
    owner: str
    facts: Facts


Names = Dict[str, List[Value]]


class Vocabulary(NamedTuple):
    """What has to be known beforehand.

    Attributes:
        results: by TensorRT class, the class that each attribute returns or is.
        receivers: by path prefix, the class of an object by the last words of its spelling; the longest prefix wins.
        returns: the class of what a function of ours returns, by the last two words of its spelling.
        conditions: facts where an attribute of ours is true.
    """

    results: Mapping[str, Mapping[str, str]]
    receivers: Mapping[str, Mapping[str, str]]
    returns: Mapping[str, str]
    conditions: Mapping[str, Facts]


def both(first: Facts, second: Facts) -> Optional[Facts]:
    """All facts together; None if they contradict each other, so that nothing ever comes here."""
    contradiction = any(first.get(name, value) != value for name, value in second.items())
    return None if contradiction else {**first, **second}


def words(node: ast.expr) -> List[str]:
    """`a.b.c` as a list; behind anything but names, what follows it."""
    if isinstance(node, ast.Attribute):
        return words(node.value) + [node.attr]
    return [node.id] if isinstance(node, ast.Name) else []


def asked(node: ast.AST, method: str) -> str:
    """The capability of `tensorrt.has("...")` or `.require("...", ...)`, else nothing."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method and node.args:
        word = node.args[0]
        return word.value if isinstance(word, ast.Constant) and isinstance(word.value, str) else ""
    return ""


class Values:
    """The values of one file's expressions."""

    def __init__(self, path: str, tree: ast.Module, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.receivers: Dict[str, str] = {}
        for prefix in sorted(filter(path.startswith, vocabulary.receivers), key=len):
            self.receivers.update(vocabulary.receivers[prefix])
        self.tables = dict(_tables(tree))

    def of(self, node: ast.expr, names: Names, facts: Facts) -> List[Value]:
        """Everything that an expression can be, where its name was assigned, chosen by `if` or read from a table."""
        if isinstance(node, ast.Name) and node.id in names:
            known = ((each, both(facts, each.facts)) for each in names[node.id])
            owner = self._receiver(node)
            return [Value(each.node, each.owner or owner, more) for each, more in known if more is not None]
        if isinstance(node, ast.IfExp):
            parts = zip(self.truth(node.test, names), (node.body, node.orelse))
            known = ((part, both(facts, condition)) for condition, part in parts)
            return [each for part, more in known if more is not None for each in self.of(part, names, more)]
        if isinstance(node, ast.Subscript):
            table = self.tables.get(node.value.id) if isinstance(node.value, ast.Name) else node.value
            if isinstance(table, ast.Dict):
                return [each for value in table.values for each in self.of(value, names, facts)]
        return [Value(node, self._owner(node, names, facts), facts)]

    def items(self, values: Iterable[Value], position: int, names: Names) -> List[Value]:
        """What number `position` of tuples can be."""
        tuples = [value for value in values if _is_list(value.node) and position < len(value.node.elts)]
        return [each for value in tuples for each in self.of(value.node.elts[position], names, value.facts)]

    def counts(
        self, arguments: Sequence[ast.expr], names: Names, facts: Facts
    ) -> List[Tuple[Optional[int], Facts]]:
        """How many positional arguments there are, and when; None where a starred one has no length that is written."""
        counts: List[Tuple[Optional[int], Facts]] = [(0, facts)]
        for argument in arguments:
            lengths: List[Tuple[Optional[int], Facts]] = [(1, facts)]
            if isinstance(argument, ast.Starred):
                values = self.of(argument.value, names, facts)
                lengths = [(len(each.node.elts) if _is_list(each.node) else None, each.facts) for each in values]
            sums = [(_sum(count, more), both(known, then)) for count, known in counts for more, then in lengths]
            counts = [(count, known) for count, known in sums if known is not None]
        return counts

    def truth(self, node: ast.expr, names: Names) -> Tuple[Facts, Facts]:
        """Facts where a condition is true, and where it is false."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yes, no = self.truth(node.operand, names)
            return no, yes
        if isinstance(node, ast.BoolOp):
            side = 0 if isinstance(node.op, ast.And) else 1
            together: Facts = {}
            for part in node.values:
                together = {**together, **self.truth(part, names)[side]}
            return (together, {}) if side == 0 else ({}, together)
        if isinstance(node, ast.Name) and len(names.get(node.id, [])) == 1:
            return self.truth(names[node.id][0].node, {})
        capability = asked(node, "has")
        if capability:
            return {capability: True}, {capability: False}
        return self.vocabulary.conditions.get("".join(words(node)[-1:]), {}), {}

    def _owner(self, node: ast.expr, names: Names, facts: Facts) -> str:
        if isinstance(node, ast.Attribute):
            owners = [value.owner for value in self.of(node.value, names, facts) if value.owner]
            if owners:
                return self.vocabulary.results.get(owners[0].replace("type ", ""), {}).get(node.attr, "")
        if isinstance(node, ast.Call):
            spelling = words(node.func)
            if spelling[-1:] == ["setting"]:  # gives back the layer that it was given
                return self.of(node.args[0], names, facts)[0].owner
            made = self._owner(node.func, names, facts)
            return made.replace("type ", "") or self.vocabulary.returns.get(".".join(spelling[-2:]), "")
        return self._receiver(node)

    def _receiver(self, node: ast.expr) -> str:
        """The class that a spelling stands for; its last two words go before the last alone."""
        spelling = words(node)[-2:]
        return self.receivers.get(".".join(spelling), self.receivers.get("".join(spelling[-1:]), ""))


def _tables(tree: ast.Module) -> Iterator[Tuple[str, ast.expr]]:
    """The literal tables of a module by name."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(getattr(node, "value", None), ast.Dict):
                yield target.id, node.value  # type: ignore[attr-defined]


def _is_list(node: ast.expr) -> bool:
    return isinstance(node, (ast.List, ast.Tuple)) and not any(isinstance(each, ast.Starred) for each in node.elts)


def _sum(count: Optional[int], more: Optional[int]) -> Optional[int]:
    return None if count is None or more is None else count + more
