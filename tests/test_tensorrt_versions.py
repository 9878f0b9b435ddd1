"""Every TensorRT's API: what our code uses of each version is there, and CAPABILITIES says the truth about it.

    engine/*.py --tensorrt_uses--> uses, and what was asked before each ─┐
    tests/data/tensorrt_api/*.json  (written by tensorrt_record.py)   ───┴─> what is missing: file:line, class, version

A version comes to a use unless something asked for before it (`has`, `require`, a row of SETTINGS) is false there.
"""

from __future__ import annotations

import importlib
from typing import Any, Iterable

import pytest

from engine.interpreter.readback import ABSENT_BEFORE, FIELDS
from engine.tensorrt_api import _DTYPES, CAPABILITIES, Capability, TensorRT
from tests import tensorrt_record
from tests.tensorrt_apis import RECORDS, attribute_of, comes, has, promised, without, wrong_with
from tests.tensorrt_code import DYNAMIC, KNOWN, collected, is_of, our_sources, problems
from tests.tensorrt_uses import Collection

VERSIONS = {"8.5", "8.6", "10.0", "10.3", "10.7", "10.13", "10.16", "11.4"}
"""Jetsons have 8.5 (JetPack 5.1), 8.6 (6.0) and 10.3 (6.1 and 6.2); 10.7 is the last 10.x with DLA."""

NOT_TENSORRTS = {"keep_dims"}
"""Attributes of our own objects that also TensorRT has; all others with a `_` in their name are TensorRT's."""


@pytest.fixture(scope="module")
def found() -> Collection:
    return collected(our_sources())


def test_records_are_of_the_versions_that_people_have():
    titles = {(api["module"], ".".join(api["version"].split(".")[:2])) for api in RECORDS.values()}
    assert titles >= {("tensorrt", version) for version in VERSIONS} | {("tensorrt_rtx", "1.7")}


@pytest.mark.parametrize("word", CAPABILITIES)
def test_a_capability_is_exactly_where_its_row_says(word):
    wrong = [name for name, api in RECORDS.items() if has(api, CAPABILITIES[word]) != promised(api, CAPABILITIES[word])]
    assert wrong == [], f"{CAPABILITIES[word].attribute}: not as in '{CAPABILITIES[word].versions}'"


def test_the_versions_of_a_capability_read_like_a_sentence():
    assert Capability("X", first="8.6").versions == "TensorRT 8.6 and newer or TensorRT-RTX"
    assert Capability("X", first="8.5", last="10.16", rtx=False).versions == "TensorRT 8.5 to 10.16"
    assert Capability("X").versions == "TensorRT-RTX"


@pytest.mark.parametrize("version", RECORDS)
def test_all_that_the_code_uses_is_there(version, found):
    wrong = problems(RECORDS[version], found.uses)
    assert wrong == [], "\n".join(wrong)


def test_the_walk_finds_what_the_code_uses(found):
    """Some of each kind, so that an empty walk cannot pass."""
    used = {(f"{use.owner}.{use.attribute}", use.how) for use in found.uses}
    assert len(used) > 150
    assert used >= {
        ("INetworkDefinition.add_convolution_nd", "call"),
        ("IConvolutionLayer.stride_nd", "set"),
        ("ISliceLayer.set_input", "call"),
        ("SampleMode.STRICT_BOUNDS", "get"),
        ("ActivationType.LEAKY_RELU", "get"),
        ("BuilderFlag.SPARSE_WEIGHTS", "get"),
        ("IExecutionContext.execute_async_v3", "call"),
        ("IProgressMonitor.step_complete", "override"),
        ("ITimingCache.combine", "call"),
    }


def test_no_attribute_of_tensorrt_is_read_off_an_unknown_object(found):
    """Else the walk would not see it: the object's name belongs into RECEIVERS."""
    theirs = {name for api in RECORDS.values() for attributes in api["classes"].values() for name in attributes}
    words = {name for name in theirs if "_" in name.strip("_")} - NOT_TENSORRTS
    wrong = [
        f"{place}: .{attribute}"
        for place, attribute in found.unknown
        if attribute in words and place.startswith(("engine/", "deploy/")) and "/interpreter/" not in place
    ]
    assert wrong == []


def test_every_word_that_cannot_be_read_off_the_code_is_known(found):
    dynamic = {(place.partition(":")[0], owner) for place, owner in found.dynamic}
    assert dynamic == set(DYNAMIC), sorted(found.dynamic)


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: f"{row.path}-{row.uses[0]}")
def test_every_exception_is_needed(row, found):
    """One that excuses nothing any more hides the next mistake."""
    for name in row.uses:
        uses = [use for use in found.uses if is_of(use, row._replace(uses=(name,)))]
        assert any(problems(api, uses, known=[]) for api in RECORDS.values()), f"{row.path}: {name}"


@pytest.mark.parametrize("version", RECORDS)
def test_fields_that_the_interpreter_reads_are_there(version):
    api = RECORDS[version]
    for kind, (owner, names) in FIELDS.items():
        assert (kind in api["enums"]["LayerType"]) == (owner in api["classes"])
        for name in names if owner in api["classes"] else ():
            assert attribute_of(api, owner, name) or (kind, name) in ABSENT_BEFORE, f"{owner}.{name}"


def test_every_tensorrt_has_our_types():
    words = {word for _, word in _DTYPES}
    assert words and [name for name, api in RECORDS.items() if not words <= {*api["enums"]["DataType"]}] == []


def is_proof(owner: str, attribute: str, proofs: Iterable[str]) -> bool:
    """Whether a capability, or an exception, stands and falls with an attribute, or with one inside it."""
    path = attribute if owner == "module" else f"{owner}.{attribute}"
    return any(f"{proof}.".startswith(f"{path}.") or proof == f"module.{path}" for proof in proofs)


@pytest.mark.parametrize("version", ["tensorrt-8.5.3.1", "tensorrt-11.4.0.106"])
def test_whatever_is_taken_from_a_record_is_missed(version, found):
    """Each attribute that the code comes to, one after the other; without a capability's proof it comes nowhere."""
    api = RECORDS[version]
    reached = {(use.owner, use.attribute) for use in found.uses if comes(api, use.facts) and not wrong_with(api, use)}
    proofs = {row.attribute for row in CAPABILITIES.values()} | {name for row in KNOWN for name in row.uses}
    missed = [
        f"{owner}.{attribute}"
        for owner, attribute in sorted(reached)
        if attribute not in ("name", "value", "__init__") and not is_proof(owner, attribute, proofs)
        if not problems(without(api, owner, attribute), found.uses)
    ]
    assert len(reached) > 100 and missed == []


@pytest.mark.parametrize("word", CAPABILITIES)
def test_a_row_that_lies_is_found(word):
    """One whose attribute is gone from a version that should have it."""
    row = CAPABILITIES[word]
    owner, _, attribute = row.attribute.rpartition(".")
    lying = without(next(api for api in RECORDS.values() if has(api, row)), owner or "module", attribute)
    assert promised(lying, row) and not has(lying, row)


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def live(request) -> Any:
    """Each TensorRT that is installed."""
    try:
        return importlib.import_module(request.param)
    except ImportError:
        pytest.skip(f"{request.param} is not installed")


def test_a_record_is_what_its_module_has_now(live):
    path = tensorrt_record.FOLDER / f"{live.__name__}-{live.__version__}.json"
    if not path.is_file():
        pytest.skip(f"{path.stem} is not recorded; run tests/tensorrt_record.py")
    assert tensorrt_record.as_text(tensorrt_record.read(live)) == path.read_text()


def test_a_module_answers_as_its_record(live):
    recorded = tensorrt_record.read(live)
    answers = {word: TensorRT(live).has(word) for word in CAPABILITIES}
    assert answers == {word: has(recorded, row) for word, row in CAPABILITIES.items()}
