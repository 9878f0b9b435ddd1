"""What our code uses of TensorRT, read off its syntax trees: class, attribute, arguments, and behind which questions.

    files --walk--> Use(place, "INetworkDefinition", "add_cast", call of 2, {"cast layer": True})

A capability that was asked for (`has`, `require`, a row of SETTINGS) is a fact for the code behind it, and for a
function if it is one wherever the function is mentioned. Which class an object has: tensorrt_values.py.
"""

from __future__ import annotations

import ast
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from tests.tensorrt_values import Facts, Names, Value, Values, Vocabulary, asked, both, words

LEAVES = (ast.Return, ast.Raise, ast.Continue, ast.Break)


class Use(NamedTuple):
    """An attribute of a TensorRT class at one place: `get`, `set`, `override` or `call`.

    Attributes:
        count: positional arguments of a call, None where it cannot be told.
        keywords: names of its other arguments.
    """

    place: str
    owner: str
    attribute: str
    how: str
    facts: Facts
    count: Optional[int] = None
    keywords: Tuple[str, ...] = ()


class Forward(NamedTuple):
    """A function that hands a word it is given on to `getattr` of a class: which of its parameters that is."""

    position: int
    parameters: int
    owner: str


class Collection:
    """All that a walk over the files found.

    Attributes:
        entry: facts at the beginning of a function, from the walk before.
        forwards: functions by name, from the walk before.
        unknown: attributes of objects whose class is not known: place, attribute.
        dynamic: `getattr` with a word that cannot be told: place, class.
    """

    def __init__(self, entry: Mapping[str, Facts], forwards: Dict[str, Forward]) -> None:
        self.entry, self.forwards = entry, forwards
        self.uses: List[Use] = []
        self.unknown: List[Tuple[str, str]] = []
        self.dynamic: List[Tuple[str, str]] = []
        self.mentions: Dict[str, List[Facts]] = {}

    def facts_of_functions(self) -> Dict[str, Facts]:
        """What holds wherever a name is mentioned."""
        return {
            name: dict(set.intersection(*(set(facts.items()) for facts in places)))
            for name, places in self.mentions.items()
        }


def collect(trees: Mapping[str, ast.Module], vocabulary: Vocabulary) -> Collection:
    """Walks three times: what a function is told by its callers is known only after their walk."""
    found = Collection({}, {})
    for _ in range(3):
        found = Collection(found.facts_of_functions(), found.forwards)
        for path, tree in trees.items():
            Walk(path, Values(path, tree, vocabulary), found).block(tree.body, {}, {})
    return found


class Walk:
    """One file, statement by statement, with what each name can be and what is known of the TensorRT."""

    def __init__(self, path: str, values: Values, found: Collection) -> None:
        self.path, self.values, self.found = path, values, found
        self.functions: List[Tuple[str, List[str]]] = []

    def block(self, statements: Sequence[ast.stmt], names: Names, facts: Facts) -> None:
        for statement in statements:
            facts = self.statement(statement, names, facts)

    def statement(self, node: Any, names: Names, facts: Facts) -> Facts:
        """Walks one; returns the facts behind it."""
        if isinstance(node, ast.If):
            return self.branch(node, names, facts)
        if isinstance(node, ast.ClassDef):
            self.subclass(node, names, facts)
            return facts
        self.expressions(node, names, facts)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self.function(node, node.name, node.body, names, facts)
            return facts
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            self.assign(node, names, facts)
        for part in (node, *getattr(node, "handlers", [])):
            for name in ("body", "orelse", "finalbody"):
                self.block(getattr(part, name, []), names, facts)
        required = asked(node.value, "require") if isinstance(node, ast.Expr) else ""
        return {**facts, required: True} if required else facts

    def branch(self, node: ast.If, names: Names, facts: Facts) -> Facts:
        """Both sides of an `if`; where the first one leaves, the rest of the block is its second."""
        self.expression(node.test, names, facts)
        ends = []
        for condition, statements in zip(self.values.truth(node.test, names), (node.body, node.orelse)):
            inside, known = dict(names), both(facts, condition)
            if known is not None:
                self.block(statements, inside, known)
            ends.append(inside)
        if isinstance(node.body[-1], LEAVES):
            names.update(ends[1])
            return both(facts, self.values.truth(node.test, names)[1]) or facts
        for name in {**ends[0], **ends[1]}:
            either = ends[0].get(name, []) + ends[1].get(name, [])
            names[name] = [value for k, value in enumerate(either) if value not in either[:k]]
        return facts

    def subclass(self, node: ast.ClassDef, names: Names, facts: Facts) -> None:
        """A class of ours; what it overrides of TensorRT's must be there to be overridden."""
        methods = [each for each in node.body if isinstance(each, ast.FunctionDef) and not each.name.startswith("_")]
        for base in node.bases:
            self.expression(base, names, facts)
            for value in self.values.of(base, names, facts):
                for method in methods:
                    self.use(method, value, method.name, "override", len(method.args.args) - 1)
        self.block(node.body, dict(names), facts)

    def function(self, node: Any, name: str, body: Sequence[ast.stmt], names: Names, facts: Facts) -> None:
        parameters = [argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)]
        known = both(facts, self.found.entry.get(name, {}))
        if known is not None:
            self.functions.append((name, [each for each in parameters if each != "self"]))
            self.block(body, {key: value for key, value in names.items() if key not in parameters}, known)
            self.functions.pop()

    def assign(self, node: Any, names: Names, facts: Facts) -> None:
        values = self.values.of(node.value, names, facts)
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name):
                names[target.id] = values
            for position, part in enumerate(target.elts if isinstance(target, ast.Tuple) else []):
                if isinstance(part, ast.Name):
                    names[part.id] = self.values.items(values, position, names)

    def expressions(self, node: ast.AST, names: Names, facts: Facts) -> None:
        """The expressions right inside a node; statements inside are walked by themselves."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.expression(child, names, facts)
            elif not isinstance(child, (ast.stmt, ast.ExceptHandler)):
                self.expressions(child, names, facts)

    def expression(self, node: Any, names: Names, facts: Facts) -> None:
        if isinstance(node, ast.IfExp):
            self.expression(node.test, names, facts)
            for condition, part in zip(self.values.truth(node.test, names), (node.body, node.orelse)):
                self.expression(part, names, both(facts, condition) or facts)
            return
        if isinstance(node, ast.BoolOp):
            for part in node.values:  # each is reached only as the one before it allows
                self.expression(part, names, facts)
                facts = both(facts, self.values.truth(part, names)[isinstance(node.op, ast.Or)]) or facts
            return
        if isinstance(node, ast.Lambda):
            self.function(node, "", [ast.copy_location(ast.Return(node.body), node)], names, facts)
            return
        if isinstance(node, ast.Call):
            facts = {**facts, **_row_of_settings(node)}
            self.call(node, names, facts)
        elif isinstance(node, ast.Attribute):
            self.attribute(node, names, facts)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            self.found.mentions.setdefault(node.id, []).append(facts)
        self.expressions(node, names, facts)

    def attribute(self, node: ast.Attribute, names: Names, facts: Facts) -> None:
        self.found.mentions.setdefault(node.attr, []).append(facts)
        values = self.values.of(node.value, names, facts)
        for value in [] if node.attr.startswith("__") else values:  # Python's own
            self.use(node, value, node.attr, "set" if isinstance(node.ctx, ast.Store) else "get")
        if not any(value.owner for value in values):
            self.found.unknown.append((self.place(node), node.attr))

    def call(self, node: ast.Call, names: Names, facts: Facts) -> None:
        name = "".join(words(node.func)[-1:])
        if name == "getattr" and len(node.args) == 2:  # with a default it asks, and may find nothing
            self.getattr(node, names, facts)
        if name == "setting":
            for value in self.values.of(node.args[0], names, facts):
                for keyword in node.keywords:
                    self.use(node, value, keyword.arg or "", "set")
        if name in self.found.forwards:
            self.forward(node, self.found.forwards[name], names, facts)
        keywords = tuple(keyword.arg for keyword in node.keywords if keyword.arg)
        for count, known in self.values.counts(node.args, names, facts):
            for value in self.values.of(node.func, names, known):
                if value.owner.startswith("type "):
                    self.use(node, value, "__init__", "call", count, keywords)
                elif isinstance(value.node, ast.Attribute) and not value.node.attr.startswith("__"):
                    for owner in self.values.of(value.node.value, names, value.facts):
                        self.use(node, owner, value.node.attr, "call", count, keywords)

    def getattr(self, node: ast.Call, names: Names, facts: Facts) -> None:
        """A use for each word, or a function to be watched if the word is what it was given."""
        word = node.args[1]
        for value in self.values.of(node.args[0], names, facts):
            given = [each for each in self.functions if isinstance(word, ast.Name) and word.id in each[1]]
            if value.owner and given and word.id not in names:  # type: ignore[attr-defined]
                name, parameters = given[-1]
                position = parameters.index(word.id)  # type: ignore[attr-defined]
                self.found.forwards[name] = Forward(position, len(parameters), value.owner)
            elif value.owner:
                self.members(word, value.owner, names, value.facts)

    def forward(self, node: ast.Call, forward: Forward, names: Names, facts: Facts) -> None:
        """The word that a call hands to such a function; behind a starred argument it is counted from the end."""
        starred = any(isinstance(argument, ast.Starred) for argument in node.args[: forward.position])
        start = forward.position - forward.parameters * starred
        for argument in node.args[start:][:1]:
            self.members(argument, forward.owner, names, facts)

    def members(self, node: ast.expr, owner: str, names: Names, facts: Facts) -> None:
        """A use for each word that an expression can be; of a row of a table, its first."""
        for value in self.values.of(node, names, facts):
            word = value.node.elts[0] if isinstance(value.node, ast.Tuple) and value.node.elts else value.node
            if isinstance(word, ast.Constant) and isinstance(word.value, str):
                self.use(node, Value(node, owner, value.facts), word.value, "get")
            else:
                self.found.dynamic.append((self.place(node), owner.replace("type ", "")))

    def use(
        self, node: Any, value: Value, name: str, how: str, count: Optional[int] = None, keywords: Tuple[str, ...] = ()
    ) -> None:
        """Notes a use of a value's attribute, if the value is TensorRT's."""
        if value.owner and name:
            owner = value.owner.replace("type ", "")
            self.found.uses.append(Use(self.place(node), owner, name, how, value.facts, count, keywords))

    def place(self, node: Any) -> str:
        return f"{self.path}:{node.lineno}"


def _row_of_settings(node: ast.Call) -> Facts:
    """`Setting(option, capability, function)`: the function is called only where the capability is."""
    if words(node.func) == ["Setting"] and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
        return {str(node.args[1].value): True} if node.args[1].value else {}
    return {}
