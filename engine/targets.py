"""Targets: the devices that plans are for, with the TensorRT each has; the rows are targets.yaml.

    find_target("orin@5.1") --> Target(title, compute_capability, dla_cores, ...), its release JetPack 5.1
    target.lacks(...)       --> "Jetson AGX Orin with JetPack 5.1 has TensorRT 8.5.2: no optimization level (...)"
"""

from __future__ import annotations

import platform
import re
from functools import lru_cache
from pkgutil import get_data
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Tuple

from engine.cuda_driver import compute_capability
from engine.tensorrt_api import CAPABILITIES, TensorRT
from spec.errors import UsageError, did_you_mean

RTX = "rtx"
"""The word for every PC at once."""

Version = Tuple[int, ...]


class Release(NamedTuple):
    """A JetPack: the TensorRT and the Python it has."""

    jetpack: str
    tensorrt: str
    python: str


class Target(NamedTuple):
    """A device, or a family of PCs.

    Attributes:
        name: the word of `--target`.
        compute_capability: of its GPU, `sm87`.
        precisions: what its GPU computes in.
        releases: of JetPack, oldest first; a PC has none.
        memory: GB of each module that is sold.
        dla_cores: how many DLAs it has.
        dla_generation: `xavier` or `orin`, empty without one.
        dla_precisions: what they compute in.
        pools: MiB by field of PlanOptions, what a build on it takes unless told otherwise.
    """

    name: str
    title: str
    compute_capability: str
    precisions: Tuple[str, ...]
    releases: Tuple[Release, ...] = ()
    memory: Tuple[int, ...] = ()
    dla_cores: int = 0
    dla_generation: str = ""
    dla_precisions: Tuple[str, ...] = ()
    pools: Mapping[str, int] = {}
    aliases: Tuple[str, ...] = ()

    @property
    def is_jetson(self) -> bool:
        return bool(self.releases)

    def lacks(self, wanted: Iterable[Tuple[str, str]]) -> List[str]:
        """What the TensorRTs of its releases lack of what is wanted, a sentence for each release and thing.

        Args:
            wanted: (capability, what wants it) pairs, for example ("optimization level", "--builder-...").
        """
        return [
            f"{self.title} with JetPack {release.jetpack} has TensorRT {release.tensorrt}: no {capability} "
            f"({CAPABILITIES[capability].versions}), which {wanted_by} needs"
            for release in self.releases
            for capability, wanted_by in wanted
            if not version_has(capability, version_of(release.tensorrt))
        ]

    def lacks_precision(self, words: Iterable[str]) -> List[str]:
        """Precisions that its GPU does not have."""
        known = ", ".join(self.precisions)
        return [f"{self.title} has no {word}; it has {known}" for word in words if word not in self.precisions]


def version_of(text: str) -> Version:
    """`8.5.3.1` as numbers that compare."""
    return tuple(int(number) for number in re.findall(r"\d+", text))


def version_has(capability: str, version: Version) -> bool:
    """Whether a TensorRT that is not here has a row of CAPABILITIES."""
    row = CAPABILITIES[capability]
    last = version_of(row.last)
    return bool(row.first) and version >= version_of(row.first) and (not last or version[: len(last)] <= last)


def no_dla_because(version: Version) -> str:
    """Why a TensorRT drives no DLA; empty where it does.

    TensorRT 11.4.1 documentation, Working with DLA: 10.7 was the last 10.x with it, 11.0 to 11.3 had none, 11.4.0 none
    on Linux, 11.4.1 has it again on AGX Orin.
    """
    if (10, 8) <= version < (11, 4, 1):
        return f"TensorRT {'.'.join(map(str, version))} has no DLA: 10.7 had it and 11.4.1 has it again"
    return ""


@lru_cache(maxsize=None)
def targets() -> Dict[str, Target]:
    """Every row, by name."""
    import yaml  # here: a build needs none of it unless a device is named

    try:
        rows = yaml.safe_load(get_data("engine", "targets.yaml") or b"")
    except OSError:  # the code of a bundle comes without
        raise UsageError("no device is known by name here; on the device itself leave --target out") from None
    return {name: _read(name, row) for name, row in rows.items()}


def _read(name: str, row: Dict[str, Any]) -> Target:
    row = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    releases = tuple(Release(**release) for release in row.pop("releases", ()))
    return Target(name=name, releases=releases, **row)


def find_target(word: str) -> Target:
    """A target by name or alias; `orin@5.1` has the one release.

    Raises:
        UsageError: no such target, or it never had that JetPack; names the nearest.
    """
    name, _, jetpack = word.lower().partition("@")
    by_word = {each: target for target in targets().values() for each in (target.name, *target.aliases)}
    if name not in by_word:
        hint = did_you_mean(name, by_word) or f"; known: smNN, {RTX}, {', '.join(targets())}"
        raise UsageError(f"no target '{name}'{hint}")
    target = by_word[name]
    if not jetpack:
        return target
    releases = tuple(release for release in target.releases if release.jetpack == jetpack)
    if not releases:
        known = ", ".join(release.jetpack for release in target.releases)
        wanted = f"it has JetPack {known}" if known else f"it has none; say {target.name}"
        raise UsageError(f"no JetPack '{jetpack}' for {target.title}; {wanted}")
    return target._replace(releases=releases)


def capability_word(word: str) -> str:
    """`sm87` of `sm87`, `sm_87` or the name of a device."""
    bare = word.replace("_", "")
    return bare if re.fullmatch(r"sm\d+", bare) else find_target(word).compute_capability


def resolve_targets(words: Iterable[str]) -> Tuple[str, ...]:
    """`smNN` words of PCs, by name or as they are; the name of a Jetson, which stands alone.

    Raises:
        UsageError: an unknown name, or a Jetson beside anything else.
    """
    resolved: List[str] = []
    words = [word.lower() for word in words]
    for word in words:
        if word == RTX:
            resolved += [target.compute_capability for target in targets().values() if not target.is_jetson]
        elif re.fullmatch(r"sm_?\d+", word) or not find_target(word).is_jetson:
            resolved.append(capability_word(word))
        elif len(words) > 1:
            raise UsageError(f"{word} stands alone: a plan for a {find_target(word).title} runs on nothing else")
        else:
            resolved.append(word)
    return tuple(resolved)


def is_this_machine(target: Target, tensorrt: TensorRT) -> bool:
    """Whether this TensorRT builds for the target: it is on an ARM board with that GPU."""
    if tensorrt.is_rtx or platform.machine() != "aarch64":
        return False
    found = compute_capability()
    return found is not None and "sm{}{}".format(*found) == target.compute_capability
