"""The check of the versions finds mistakes: small pieces of code with one each, and our own with a question less."""

from __future__ import annotations

import re
from typing import Dict, Tuple

import pytest

from tests.tensorrt_apis import RECORDS
from tests.tensorrt_code import collected, our_sources, problems

NONE: Tuple[str, ...] = ()
EVERY = ("tensorrt",)
TYPED = ("tensorrt-11.", "tensorrt_rtx-")

SNIPPETS: Dict[str, Tuple[str, Tuple[str, ...]]] = {
    # a mistake, or none: its code, and where it is found, by what the records' names begin with
    "a layer that 8.5 lacks": ("network.add_cast(a, b)", ("tensorrt-8.5",)),
    "the same behind the question": ("if tensorrt.has('cast layer'):\n    network.add_cast(a, b)", NONE),
    "behind an early return": ("if not tensorrt.has('cast layer'):\n    raise x\nnetwork.add_cast(a, b)", NONE),
    "behind a refusal": ("tensorrt.require('cast layer', 'x')\nnetwork.add_cast(a, b)", NONE),
    "behind two questions": (
        "if other and tensorrt.has('cast layer'):\n    network.add_cast(a, b)",
        NONE,
    ),
    "behind either question": (
        "if other or tensorrt.has('cast layer'):\n    network.add_cast(a, b)",
        ("tensorrt-8.5",),
    ),
    "behind the wrong answer": (
        "if tensorrt.has('cast layer'):\n    pass\nelse:\n    network.add_cast(a, b)",
        ("tensorrt-8.5",),
    ),
    "behind another question": (
        "if tensorrt.has('fp16 flag'):\n    network.add_cast(a, b)",
        ("tensorrt-8.5",),
    ),
    "behind a question in the same condition": ("x = tensorrt.has('cast layer') and network.add_cast(a, b)", NONE),
    "behind an answer that was noted": ("new = tensorrt.has('cast layer')\nif new:\n    network.add_cast(a, b)", NONE),
    "too few arguments": ("network.add_quantize(a, b)", TYPED),
    "too many arguments": ("network.add_quantize(a, b, c)", ("tensorrt-8.",)),
    "as many as each takes": (
        "more = [c] if tensorrt.has('quantize with a type') else []\nnetwork.add_quantize(a, b, *more)",
        NONE,
    ),
    "a misspelt keyword": ("network.add_softmax(inputs=a)", EVERY),
    "a misspelt member": ("getattr(trt.ScaleMode, 'CHANNELS')", EVERY),
    "a property that became read-only": (
        "tensor = network.add_input(a, b, c)\ntensor.dtype = x",
        TYPED,
    ),
    "a setting of another layer": ("emission.setting(network.add_softmax(a), axis=1)", EVERY),
    "a method that is overridden in vain": (
        "class Mine(trt.ILogger):\n    def logs(self, severity, text): ...",
        EVERY,
    ),
    "a function called behind the question": (
        "def _mine(network):\n    network.add_cast(a, b)\nif tensorrt.has('cast layer'):\n    _mine(network)",
        NONE,
    ),
    "a function called once without": (
        "def _mine(network):\n    network.add_cast(a, b)\n"
        "if tensorrt.has('cast layer'):\n    _mine(network)\n_mine(network)",
        ("tensorrt-8.5",),
    ),
    "a row of settings with its capability": (
        "def _flag(name):\n    return lambda config: config.set_flag(getattr(trt.BuilderFlag, name))\n"
        "row = Setting('--x', 'version compatibility', _flag('VERSION_COMPATIBLE'))",
        NONE,
    ),
    "a row of settings without": (
        "def _flag(name):\n    return lambda config: config.set_flag(getattr(trt.BuilderFlag, name))\n"
        "row = Setting('--x', '', _flag('VERSION_COMPATIBLE'))",
        ("tensorrt-8.5",),
    ),
}


@pytest.mark.parametrize("name", SNIPPETS)
def test_the_check_sees_mistakes_and_only_those(name):
    source, wanted = SNIPPETS[name]
    uses = collected({"engine/snippet.py": source}).uses
    found = [version for version, api in RECORDS.items() if problems(api, uses)]
    assert uses and found == [version for version in RECORDS if version.startswith(wanted)]


QUESTION = re.compile(r'(?<=\bhas\()"[^"]+"|(?<=\brequire\()"[^"]+"|(?<=", )"[^"]+"(?=, (_\w+|timing_cache)\b)')
"""A capability where it is asked for: `has("...")`, `require("...", ...)`, or the second word of a row of SETTINGS."""

ASKING = (
    "engine/build_options.py",
    "engine/emission.py",
    "engine/emitters/activation.py",
    "engine/emitters/arithmetic.py",
    "engine/network.py",
    "engine/plan.py",
)
QUESTIONS = [(path, found.span()) for path in ASKING for found in QUESTION.finditer(our_sources()[path])]


@pytest.mark.parametrize("path, span", QUESTIONS)
def test_a_question_that_our_code_forgets_is_missed(path, span):
    source = our_sources()[path]
    forgetful = source[: span[0]] + "unknown" + source[span[1] :]
    before, after = collected({path: source}).uses, collected({path: forgetful}).uses
    assert not any(problems(api, before) for api in RECORDS.values())
    assert any(problems(api, after) for api in RECORDS.values())


def test_our_code_asks():
    assert {path for path, _ in QUESTIONS} == {*ASKING} and len(QUESTIONS) > 10
