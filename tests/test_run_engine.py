"""run.py diff --engine, precisions and calibrate: what is refused before the work, and what runs on the CPU alike."""

from __future__ import annotations

import argparse
import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List

import numpy as np
import pytest

import run
from commands import build, engines
from commands.console import Console
from commands.stages import in_precision, prepare, read_config, tensor_names
from engine.tensorrt_api import gpu_count
from spec.errors import TensorRTError
from tests.backends import rtx
from tests.own_logging import own_logging  # noqa: F401
from tests.small_models import SMALL, write_small

WITHOUT_GPU = pytest.mark.skipif(gpu_count() > 0, reason="a GPU answers")
WITH_GPU = pytest.mark.skipif(not gpu_count(), reason="no GPU answers")
WITHOUT_CUBLAS = "--tactic-sources=-CUBLAS,-CUBLAS_LT,-CUDNN"
"""On a GPU: these libraries are not part of TensorRT, so they may be missing."""
DYNAMIC = "batch={min: 1, opt: 2, max: 3}"


@pytest.fixture
def small(tmp_path: Path) -> str:
    return str(write_small(tmp_path))


def refused(words: List[str], capsys: Any) -> str:
    """The one message of a command that ends with 2."""
    assert run.main(words) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    [message] = captured.err.splitlines()
    return message


@WITHOUT_GPU
@pytest.mark.parametrize(
    "words, option",
    [
        (["diff", "--engine"], "--engine"),
        (["precisions", "--on", "gpu"], "--on gpu"),
        (["calibrate", "--on", "gpu"], "--on gpu"),
    ],
)
def test_a_gpu_that_does_not_answer_is_said_at_once(small, capsys, words, option):
    message = refused([*words, "--config", small], capsys)
    assert message == f"error: {option}: no GPU answers here; without it the network definition is run on the CPU"


@pytest.mark.parametrize(
    "words, message",
    [
        (["diff", "--int8"], "--precision: nothing is built without --engine"),
        (["diff", "--tactic-sources=-CUBLAS", "--builder-optimization-level", "3"],
         "--builder-optimization-level, --tactic-sources: nothing is built without --engine"),
        (["diff", "--agreement", "5"], "--agreement: is about engines; add --engine"),
        (["diff", "--per-layer", "marked", "--reference-run", "interpreter"],
         "--per-layer, --reference-run: is about engines; add --engine"),
        (["calibrate", "--fp16", "--on", "cpu"], "--precision fp16: ranges are those of the fp32 network"),
        (["calibrate", "--workspace", "9", "--on", "cpu"], "--workspace: nothing is built on the CPU"),
        (["precisions", "--sparsity", "--on", "cpu"], "--sparsity: nothing is built on the CPU"),
        (["precisions", "--precision", "fp16"], "--precision fp16: say --precisions, which may be several"),
        (["precisions", "--precisions", "fp32,tf32", "--on", "cpu"], "--precisions tf32: only a GPU rounds so"),
        (["diff"], "names no `reference` to compare with"),
    ],
)  # fmt: skip
def test_what_would_be_ignored_is_refused(small, capsys, words, message):
    assert message in refused([*words, "--config", small], capsys)


@pytest.mark.parametrize("count", ["0", "-1", "many", "1.5"])
def test_an_agreement_counts_images(small, capsys, count):
    with pytest.raises(SystemExit):
        run.main(["precisions", "--config", small, f"--agreement={count}"])
    assert f"wanted a number of images from 1 on, found '{count}'" in capsys.readouterr().err


def precisions(small: str, *words: str) -> Any:
    output = Path(small).with_name("precisions.json")
    assert run.main(["precisions", "--config", small, "--json", str(output), *words]) == 0
    return json.loads(output.read_text())


def test_precisions_need_no_framework_and_say_so(small, capsys):
    found = precisions(small, "--on", "cpu", "--agreement", "3")
    out = capsys.readouterr().out
    assert "reference not the source framework: " in out and "this proves the engine, not the model" in out
    assert found["reference"].endswith("this proves the engine, not the model")
    assert found["input"] == "structured images of seed 0"
    assert "int8      left out" in out and list(found["relative_l2"]) == ["fp32", "fp16"]
    errors = found["relative_l2"]
    assert set(errors["fp32"]) == {"conv", "bn", "relu", "flat", "fc"}
    assert 0 < errors["fp32"]["fc"] < 1e-6 < 1e-4 < errors["fp16"]["fc"] < 1e-2
    assert found["agreement"]["fp32"]["count"] == 3 and found["agreement"]["fp32"]["share"] == 1.0
    assert out.count("top-1 of fc agrees on 3 of 3 structured images") >= 1


@pytest.mark.parametrize("words, images", [("fp32", "random numbers"), ("fp32,fp16", "structured images")])
def test_images_with_structure_wherever_numbers_are_rounded(small, words, images):
    assert precisions(small, "--on", "cpu", "--precisions", words)["input"] == f"{images} of seed 0"


def test_int8_without_ranges_is_refused_where_it_was_asked_for(small, capsys):
    message = refused(["precisions", "--config", small, "--precisions", "fp16,int8", "--on", "cpu"], capsys)
    assert "--precisions int8: the config names no `ranges`; write them with `run.py calibrate`" in message


def test_the_source_framework_alone_is_refused_where_it_is_not(small, capsys):
    message = refused(["precisions", "--config", small, "--reference-run", "source", "--on", "cpu"], capsys)
    assert "names no `reference` to compare with" in message


# Calibration


def ranges(small: str, *words: str) -> Any:
    output = Path(small).with_name("ranges.json")
    assert run.main(["calibrate", "--config", small, "--output", str(output), *words]) == 0
    return json.loads(output.read_text())


@pytest.mark.parametrize("where", ["cpu", pytest.param("gpu", marks=WITH_GPU)])
@pytest.mark.parametrize("method", ["min_max", "percentile", "entropy"])
def test_the_batch_changes_no_range(small, tmp_path, where, method):
    np.save(tmp_path / "images.npy", np.random.default_rng(0).standard_normal((7, 2, 7, 9)).astype(np.float32))
    words = ["--images", str(tmp_path / "images.npy"), "--method", method]
    one = ranges(small, *words, "--on", "cpu")
    more = [WITHOUT_CUBLAS] if where == "gpu" else []
    several = ranges(small, *words, "--on", where, "--set", DYNAMIC, *more)
    assert one["about"]["count"] == several["about"]["count"] == 7
    assert several["about"]["run_on"] == where
    assert several["ranges"] == pytest.approx(one["ranges"], rel=1e-5)


def test_images_of_a_folder_are_put_together_for_a_dynamic_batch(small, tmp_path, monkeypatch):
    from engine.interpreter import Interpreter

    images = np.random.default_rng(0).standard_normal((5, 2, 7, 9)).astype(np.float32)
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(images):
        np.save(folder / f"{number}.npy", image[np.newaxis])
    sizes, whole = [], Interpreter.run

    def noting(self: Interpreter, feeds: Any, fetch: Any = None) -> Any:
        sizes.append(len(feeds["image"]))
        return whole(self, feeds, fetch)

    monkeypatch.setattr(Interpreter, "run", noting)
    found = ranges(small, "--images", str(folder), "--method", "min_max", "--set", DYNAMIC, "--on", "cpu")
    assert sizes == [3, 2] and found["about"]["count"] == 5
    assert found["ranges"]["image"] == pytest.approx(np.abs(images).max())


def test_images_beyond_whole_batches_are_not_dropped_in_silence(tmp_path, capsys):
    config = write_small(tmp_path, SMALL.replace("[1, 2, 7, 9]", "[2, 2, 7, 9]"))
    np.save(tmp_path / "images.npy", np.zeros((5, 2, 7, 9), np.float32))
    words = ["calibrate", "--config", str(config), "--output", str(tmp_path / "r.json"), "--on", "cpu"]
    message = refused([*words, "--images", str(tmp_path / "images.npy")], capsys)
    assert message.endswith("holds 5 images, 1 more than whole batches of 2")


def test_a_constant_has_one_range_whatever_the_batch(tmp_path):
    more = "  - constant: {name: half, shape: [1, 3, 1, 1], value: 0.5}\n"
    more += "  - elementwise: {name: sum, inputs: [bn, half], function: sum}\n"
    text = SMALL.replace("[1, 2, 7, 9]", "[2, 2, 7, 9]")
    text = text.replace("  - activation: {name: relu,", f"{more}  - activation: {{name: relu, input: sum,")
    found = ranges(str(write_small(tmp_path, text)), "--images", "structured:2", "--method", "min_max", "--on", "cpu")
    assert found["ranges"] == {"image": 2.0, "half": 0.5}


def test_structured_images_calibrate(small):
    found = ranges(small, "--images", "structured:3", "--method", "min_max", "--on", "cpu")
    assert found["about"]["count"] == 3 and found["ranges"] == {"image": 2.0}


# Engines


def prepared_of(small: str, *overrides: str) -> Any:
    """What the stages make of a config, by TensorRT-RTX."""
    rtx()
    parser = argparse.ArgumentParser()
    build.add_arguments(parser)
    pairs = [word for each in overrides for word in ("--set", each)]
    options = parser.parse_args(["--config", small, "--backend", "tensorrt_rtx", *pairs])
    return prepare(options, Console(), *read_config(options, Console()))


@pytest.mark.parametrize("word", ["fp32", "fp16"])
def test_an_engine_to_compare_with_is_the_main_jobs(small, word):
    """The names of its weights too, which a refit sets them by."""
    prepared = prepared_of(small, f"precision={word}")
    ours, main_jobs = engines.defined(prepared, prepared.model), in_precision(prepared)
    assert list(ours.named) == list(main_jobs.named) and list(ours.named)[0].startswith("conv.weight")
    assert ours.precision == main_jobs.precision
    assert set(tensor_names(prepared.weights).values()) >= {"conv.weight", "fc.weight"}


def failing(at: str) -> Any:
    """engines.opened where TensorRT refuses to build, or the engine to run."""

    def refused(inputs: Any) -> Any:
        raise TensorRTError("the inference failed: no memory")

    @contextmanager
    def opened(*arguments: Any) -> Iterator[Any]:
        if at == "build":
            raise TensorRTError("TensorRT could not build 'small': All of the candidates were removed")
        yield refused

    return opened


@pytest.fixture
def int8(small: str) -> Any:
    ranges(small, "--images", "structured:1", "--method", "min_max", "--on", "cpu")
    return prepared_of(small, "precision=int8", f"ranges={Path(small).with_name('ranges.json')}")


def inside(prepared: Any, way: str = "marked") -> Any:
    image = {"image": np.ones((1, 2, 7, 9), np.float32)}
    return engines._inside(argparse.Namespace(), Console(), prepared, prepared.model, image, way, None)


def test_an_int8_engine_that_cannot_be_looked_into_is_told_in_tensorrts_words(int8, monkeypatch, capsys):
    monkeypatch.setattr(engines, "opened", failing("build"))
    arrays, instead = inside(int8)
    assert set(arrays) == {"conv", "bn", "relu", "flat", "fc"}
    assert "the definition run on the CPU" in instead and "All of the candidates were removed" in instead
    assert "All of the candidates were removed" in capsys.readouterr().err


def test_an_int8_engine_that_does_not_run_is_an_error(int8, monkeypatch):
    monkeypatch.setattr(engines, "opened", failing("run"))
    with pytest.raises(TensorRTError, match="the inference failed: no memory"):
        inside(int8)


@pytest.mark.parametrize("word, way", [("fp16", "marked"), ("int8", "debug")])
def test_other_engines_that_do_not_build_are_an_error(small, int8, monkeypatch, word, way):
    monkeypatch.setattr(engines, "opened", failing("build"))
    with pytest.raises(TensorRTError, match="All of the candidates were removed"):
        inside(int8 if word == "int8" else prepared_of(small, "precision=fp16"), way)


# On a GPU


@WITH_GPU
@pytest.mark.parametrize("word", ["fp32", "fp16"])
def test_an_engine_agrees_with_our_definition(small, tmp_path, capsys, word):
    words = ["diff", "--engine", "--config", small, "--precision", word, "--agreement", "4", "--per-layer", "marked"]
    assert run.main([*words, WITHOUT_CUBLAS, "--json", str(tmp_path / "diff.json")]) == 0
    plain = json.loads((tmp_path / "diff.json").read_text())
    rows = {row["layer"]: row for row in plain["rows"]}
    assert set(rows) == {"conv", "bn", "relu", "flat", "fc"} and rows["fc"]["shipped"]["passed"]
    assert rows["conv"]["judged"] == (["accumulated"] if word == "fp32" else [])
    assert plain["agreement"]["count"] == 4
    assert "marking changes" in capsys.readouterr().out


@WITH_GPU
def test_precisions_of_engines_have_the_shipped_outputs_beside_them(small):
    found = precisions(small, "--on", "gpu", WITHOUT_CUBLAS, "--precisions", "fp32,tf32,fp16")
    assert {word: set(errors) for word, errors in found["shipped_relative_l2"].items()} == dict.fromkeys(
        ["fp32", "tf32", "fp16"], {"fc"}
    )
    assert found["relative_l2"]["fp32"]["fc"] < 1e-6
