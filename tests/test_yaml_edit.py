"""spec.yaml_edit: one value exchanged in a config's text, every other byte as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from spec.errors import ConfigError
from spec.yaml_edit import with_value, written

PATH = Path("net.yaml")
NEW = {"default": "fp16", "fp32": ["fc", "prob"]}
ROW = "{default: fp16, fp32: [fc, prob]}"

CASES = {
    "a word": ("a: 1\nprecision: fp32   # why\nb: 2\n", f"a: 1\nprecision: {ROW}   # why\nb: 2\n"),
    "flow": ("precision: {default: int8, fp16: [x]} # why\n", f"precision: {ROW} # why\n"),
    "flow of lines": ("precision: {default: int8,\n  fp16: [x]}\nb: 1", f"precision: {ROW}\nb: 1"),
    "block": ("precision:  # why\n  default: fp16\n  fp32:\n    - x\n\n# next\nb: 1\n",
              f"precision:  # why\n  {ROW}\n\n# next\nb: 1\n"),
    "block at the end": ("precision:\n  default: fp16\n  fp32: x", f"precision:\n  {ROW}"),
    "null": ("precision:\nb: 1\n", f"precision: {ROW}\nb: 1\n"),
    "quoted": ("'precision': \"fp32\"\n", f"'precision': {ROW}\n"),
    "deeper keys": ("x: {precision: fp32}\nprecision: tf32\n", f"x: {{precision: fp32}}\nprecision: {ROW}\n"),
    "windows": ("a: 1\r\nprecision: fp32\r\nb: 2\r\n", f"a: 1\r\nprecision: {ROW}\r\nb: 2\r\n"),
    "absent": ("a: [1,\n 2]  # why\n# end\n", f"a: [1,\n 2]  # why\nprecision: {ROW}\n# end\n"),
    "absent, no newline": ("a:\n- 1\n- b: 2", f"a:\n- 1\n- b: 2\nprecision: {ROW}\n"),
    "absent, windows": ("a: 1\r\nb: x", f"a: 1\r\nb: x\r\nprecision: {ROW}\r\n"),
    "absent, block text": ("a: |\n  one\n  two\n# end\n", f"a: |\n  one\n  two\nprecision: {ROW}\n# end\n"),
    "absent, document marks": ("---\na: 1\n...\n", f"---\na: 1\nprecision: {ROW}\n...\n"),
    "byte order mark": ("\ufeffa: 1\nprecision: fp32\n", f"\ufeffa: 1\nprecision: {ROW}\n"),
    "not latin": ("# größe\nname: ü\nprecision: fp32 # ä\n", f"# größe\nname: ü\nprecision: {ROW} # ä\n"),
    "alias elsewhere": ("a: &x fp32\nb: *x\nprecision: tf32\n", f"a: &x fp32\nb: *x\nprecision: {ROW}\n"),
    "absent behind an alias": ("a: &x fp32\nb: *x\n", f"a: &x fp32\nb: *x\nprecision: {ROW}\n"),
}  # fmt: skip


@pytest.mark.parametrize("before, after", CASES.values(), ids=CASES)
def test_only_the_value_changes(before, after):
    assert with_value(PATH, before, "precision", NEW) == after
    assert yaml.safe_load(after)["precision"] == NEW


@pytest.mark.parametrize(
    "text, line",
    [
        ("{a: 1, b: 2}\n", 1),
        ("a: &x fp32\nprecision: *x\n", 2),
        ("a: 1\nprecision: &x fp32\nb: *x\n", 2),
        ("b: &x {c: 1}\nlist:\n  - *x\n  - *x\n", 1),
    ],
    ids=["one flow mapping", "alias", "anchor used elsewhere", "absent behind aliases in a list"],
)
def test_what_cannot_be_edited_is_refused_with_the_line_to_write(text, line):
    with pytest.raises(ConfigError) as refused:
        with_value(PATH, text, "precision", NEW)
    assert all(words in str(refused.value) for words in (f"net.yaml:{line}:", f"write there: precision: {ROW}"))


def test_long_values_go_on_in_indented_lines_and_odd_names_are_quoted():
    names = [f"layer{k}.conv" for k in range(40)] + ["a, b", "yes", "x: y", "[*]"]
    text = written({"default": "fp16", "fp32": names})
    lines = text.splitlines()
    assert len(lines) > 3 and max(map(len, lines)) <= 120 and all(line.startswith("  ") for line in lines[1:])
    assert yaml.safe_load(f"precision: {text}\nb: 1\n") == {"precision": {"default": "fp16", "fp32": names}, "b": 1}
    assert written("fp32") == "fp32"
