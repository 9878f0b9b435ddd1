"""The recorded APIs of every TensorRT, and whether one has a capability or what a use needs.

    tests/data/tensorrt_api/<module>-<version>.json     written by tensorrt_record.py
"""

from __future__ import annotations

import copy
import json
from typing import Any, Dict, Iterable, Mapping, Optional, Tuple

from engine.tensorrt_api import CAPABILITIES, Capability
from tests import tensorrt_record
from tests.tensorrt_uses import Use
from tests.tensorrt_values import Facts

RECORDS: Dict[str, Dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(tensorrt_record.FOLDER.glob("*.json"))
}


def results(records: Iterable[Mapping[str, Any]]) -> Dict[str, Dict[str, str]]:
    """By class, the class of each attribute or of what it returns; empty where it is none of TensorRT's."""
    found: Dict[str, Dict[str, str]] = {}
    for api in records:
        for name in (*api["classes"], *api["enums"]):
            outer, _, inner = name.rpartition(".")
            found.setdefault(outer or "module", {})[inner] = f"type {name}"
        for name, members in api["enums"].items():
            found.setdefault(name, {}).update(dict.fromkeys(members, name))
        for name, attributes in api["classes"].items():
            for attribute, kind in attributes.items():
                result = kind.rpartition("-> ")[2]
                found.setdefault(name, {}).setdefault(attribute, result if result in api["classes"] else "")
    return found


def attribute_of(api: Mapping[str, Any], owner: str, attribute: str) -> Optional[str]:
    """The kind of an attribute as `tensorrt_record` words it, None where there is none."""
    if owner in api["enums"]:
        return "r" if attribute in (*api["enums"][owner], "name", "value") else None
    inside = attribute if owner == "module" else f"{owner}.{attribute}"
    if inside in api["enums"] or inside in api["classes"]:
        return "r"
    return api["classes"].get(owner, {}).get(attribute)


def has(api: Mapping[str, Any], capability: Capability) -> bool:
    """As TensorRT.has, of a recorded API."""
    owner, _, attribute = capability.attribute.rpartition(".")
    return attribute_of(api, owner or "module", attribute) is not None


def promised(api: Mapping[str, Any], capability: Capability) -> bool:
    """Whether the row's versions include this one."""
    if api["module"] == "tensorrt_rtx":
        return capability.rtx
    version = number(api["version"])
    ended = capability.last and number(capability.last) < version
    return bool(capability.first) and number(capability.first) <= version and not ended


def number(version: str) -> Tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def comes(api: Mapping[str, Any], facts: Optional[Facts]) -> bool:
    """Whether this TensorRT gets where these facts hold."""
    return facts is not None and all(has(api, CAPABILITIES[word]) == fact for word, fact in facts.items())


def fits(kind: str, use: Use) -> bool:
    """Whether a call has the arguments of one of a method's overloads."""
    return any(_fits(overload.rpartition("->")[0].strip(), use) for overload in kind.split(" | "))


def _fits(arguments: str, use: Use) -> bool:
    names = [name.rstrip("=") for name in arguments.split(", ") if name]
    required = {name for name in arguments.split(", ") if name and not name.endswith("=")}
    if use.count is None or "*args" in names:
        return "*args" in names or set(use.keywords) <= set(names)
    given = set(names[: use.count]) | set(use.keywords)
    return use.count <= len(names) and required <= given and set(use.keywords) <= set(names[use.count :])


def wrong_with(api: Mapping[str, Any], use: Use) -> str:
    """What a TensorRT lacks of a use, empty where it has it all."""
    kind = attribute_of(api, use.owner, use.attribute)
    if use.attribute == "__init__":
        kind = kind or ("" if use.owner in api["enums"] else None)
    if kind is None:
        return "is absent"
    if use.how == "set" and kind == "r":
        return "cannot be set"
    if use.how == "call" and use.attribute != "__init__" and "->" not in kind:
        return "is no method"
    if use.how in ("call", "override") and "->" in kind and not fits(kind, use):
        keywords = f" and {', '.join(use.keywords)}" if use.keywords else ""
        return f"does not take {use.count} arguments{keywords}, but: {kind}"
    return ""


def without(api: Mapping[str, Any], owner: str, attribute: str) -> Dict[str, Any]:
    """A record with one attribute, member or class less."""
    less = copy.deepcopy(dict(api))
    gone = attribute if owner == "module" else f"{owner}.{attribute}"
    for group in (less["enums"], less["classes"]):
        group.pop(gone, None)
    if attribute in less["enums"].get(owner, []):
        less["enums"][owner].remove(attribute)
    less["classes"].get(owner, {}).pop(attribute, None)
    return less
