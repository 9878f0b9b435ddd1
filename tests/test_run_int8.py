"""run.py calibrate and precisions, and int8 plans from the ranges they share, on the small model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest

import run
from tests.own_logging import own_logging  # noqa: F401
from tests.small_models import write_small


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_small(tmp_path)


def calibrated(small: Path, *options: str) -> Any:
    output = small.with_name("ranges.json")
    assert run.main(["calibrate", "--config", str(small), "--output", str(output), *options]) == 0
    return json.loads(output.read_text())


def messages(words: List[str], capsys: Any, code: int = 2) -> str:
    assert run.main(words) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return captured.err


def test_ranges_make_an_int8_plan_and_the_manifest_says_from_which(small, tmp_path):
    ranges = calibrated(small)
    assert set(ranges["ranges"]) == {"image"} and ranges["about"]["count"] == 8
    words = ["--config", str(small), "--int8", "--output", str(tmp_path / "out")]
    words += ["--set", f"ranges={small.with_name('ranges.json')}"]
    assert run.main(words) == 0
    manifest = json.loads((tmp_path / "out" / "small.plan.json").read_text())
    assert manifest["precision"] == "int8" and list(manifest["ranges"]) == ["ranges.json"]


def test_images_come_from_a_batch_or_a_folder(small, tmp_path):
    images = np.random.default_rng(0).standard_normal((3, 2, 7, 9)).astype(np.float32)
    np.save(tmp_path / "batch.npy", images)
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(images):
        np.save(folder / f"{number}.npy", image[np.newaxis])
    batch = calibrated(small, "--images", str(tmp_path / "batch.npy"), "--method", "min_max")
    each = calibrated(small, "--images", str(folder), "--method", "min_max")
    assert batch["ranges"] == each["ranges"] and batch["ranges"]["image"] == pytest.approx(np.abs(images).max())


def test_a_tensor_of_zeros_gives_ranges_that_can_be_used(small, tmp_path):
    np.save(tmp_path / "zeros.npy", np.zeros((1, 2, 7, 9), np.float32))
    assert calibrated(small, "--images", str(tmp_path / "zeros.npy"))["ranges"]["image"] == 0.0
    words = ["--config", str(small), "--int8", "--output", str(tmp_path / "out")]
    words += ["--set", f"ranges={small.with_name('ranges.json')}"]
    assert run.main(words) == 0


@pytest.mark.parametrize(
    "array, words",
    [
        (np.array([{}], object), "is no NumPy file"),
        (np.float32(1.0), "wanted float32"),
        (np.full((1, 2, 7, 9), math.inf, np.float32), "NaN or infinite"),
        (np.zeros((1, 2, 7, 8), np.float32), "wanted float32 1 x 2 x 7 x 9"),
    ],
    ids=["objects", "no axes", "infinite", "another size"],
)
def test_images_that_do_not_fit_are_refused(small, tmp_path, capsys, array, words):
    np.save(tmp_path / "bad.npy", array)
    code = 1 if words.startswith("NaN") else 2
    command = ["calibrate", "--config", str(small), "--images", str(tmp_path / "bad.npy")]
    assert words in messages([*command, "--output", str(tmp_path / "r.json")], capsys, code)


def test_an_output_that_cannot_be_written_is_refused_before_the_work(small, capsys):
    command = ["calibrate", "--config", str(small), "--output", f"{small}/r.json"]
    assert "cannot be written" in messages(command, capsys)


@pytest.mark.parametrize("option", ["--rtol=nan", "--atol=inf", "--rtol=-1"])
def test_a_tolerance_that_means_nothing_is_refused(small, capsys, option):
    with pytest.raises(SystemExit):
        run.main(["diff", "--config", str(small), option])
    assert "wanted a number from 0 on" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["foo", "", "fp16,,fp32"])
def test_unknown_precisions_are_refused(small, capsys, words):
    with pytest.raises(SystemExit):
        run.main(["precisions", "--config", str(small), "--precisions", words])
    assert "wanted some of fp32,tf32,fp16,int8" in capsys.readouterr().err


def test_an_unreadable_timing_cache_is_refused_before_the_work(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("engine.tensorrt_api.TensorRT.is_rtx", False)  # which is refused any
    command = ["--config", str(small), "--output", str(tmp_path / "out"), "--timing-cache", str(tmp_path)]
    assert "cannot be read" in messages(command, capsys)
