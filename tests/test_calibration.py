"""engine.calibration: ranges of activations by three methods, and the file they live in."""

from __future__ import annotations

import json

import numpy as np
import pytest

from engine.calibration import METHODS, Histogram, calibrate, read_ranges, write_ranges
from spec.errors import ConfigError, UsageError

NORMAL = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)


def histogram_of(*arrays):
    histogram = Histogram()
    for array in arrays:
        histogram.add(array)
    return histogram


def test_a_histogram_widens_without_losing_counts():
    histogram = histogram_of(np.float32([0.5]), np.float32([100.0]), np.zeros(3, np.float32), -NORMAL)
    assert histogram.counts.sum() == 5 + NORMAL.size and histogram.largest == 100.0
    below = histogram.counts[: int(np.ceil(1 / histogram.width))].sum()
    assert below == pytest.approx((np.abs(NORMAL) < 1).sum() + 4, rel=0.05)


def test_min_max_is_the_largest_magnitude():
    assert METHODS["min_max"](histogram_of(NORMAL, np.float32([-7.5]))) == 7.5


def test_a_percentile_leaves_outliers_out():
    found = METHODS["percentile"](histogram_of(NORMAL, np.float32([1000.0])))
    wanted = np.quantile(np.abs(NORMAL), 0.9999)
    assert wanted <= found <= wanted + 1.0  # bins are 1000 / 2048 wide


def test_entropy_clips_a_long_tail_but_keeps_a_flat_one():
    tail = np.concatenate([NORMAL, np.float32([50.0])])
    assert np.abs(NORMAL).max() * 0.4 < METHODS["entropy"](histogram_of(tail)) < 10
    flat = np.linspace(-1, 1, 100_000, dtype=np.float32)
    assert METHODS["entropy"](histogram_of(flat)) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_of_zeros_has_a_range_that_can_be_used(method):
    assert METHODS[method](histogram_of(np.zeros(10, np.float32))) == 0.0


def test_calibration_runs_every_batch_once():
    seen = []

    def run(inputs, names):
        seen.append(inputs["x"].item())
        return {name: inputs["x"] * k for k, name in enumerate(names, 1)}

    ranges = calibrate(run, ({"x": np.float32([v])} for v in (1, -4, 2)), ["a", "b"], "min_max")
    assert seen == [1, -4, 2] and ranges == {"a": 4.0, "b": 8.0}


def test_ranges_survive_the_file_and_can_be_edited(tmp_path):
    path = tmp_path / "net.ranges.json"
    write_ranges(path, {"a": 1.5, "b": 2.0}, {"method": "min_max"})
    content = json.loads(path.read_text())
    content["ranges"]["b"] = 3
    path.write_text(json.dumps(content))
    assert read_ranges(path) == {"a": 1.5, "b": 3.0}


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "is no JSON"),
        ("[]", "holds no `ranges`"),
        ('{"ranges": {"a": -1}}', "the range of 'a' is -1; wanted a finite number from 0 on"),
        ('{"ranges": {"a": NaN}}', "the range of 'a' is nan"),
        ('{"ranges": {"a": true}}', "the range of 'a' is True"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, text, words):
    path = tmp_path / "net.ranges.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_ranges(path)


def test_a_missing_file_says_how_to_write_it(tmp_path):
    with pytest.raises(UsageError, match="run.py calibrate"):
        read_ranges(tmp_path / "none.json")
