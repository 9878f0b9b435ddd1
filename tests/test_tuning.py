"""verify.tuning: the search on error functions whose answer is known, without a network."""

from __future__ import annotations

import itertools
import math

import pytest

from verify.tuning import Search

NAMES = tuple("abcdefgh")
EVERY = frozenset(NAMES)


def summed(**errors):
    """Each low candidate adds its error: the error function of independent layers."""
    return lambda kept: sum(error for name, error in errors.items() if name not in kept)


def needs(*sets):
    """Infinite unless one of the sets is kept whole, as where a tensor overflows between a maker and its readers."""
    return lambda kept: 0.0 if any(set(each) <= kept for each in sets) else math.inf


def cancelling(kept):
    """Not monotonic: the errors of a and b have opposite signs, so that keeping one of them alone makes it worse."""
    signed = {"a": 5.0, "b": -4.9, "c": 1.0}
    return abs(sum(error for name, error in signed.items() if name not in kept))


def smallest(error, tolerance):
    """By trying every set."""
    sizes = range(len(NAMES) + 1)
    return next(n for n in sizes if any(error(frozenset(s)) <= tolerance for s in itertools.combinations(NAMES, n)))


@pytest.mark.parametrize(
    "error, tolerance, kept",
    [
        (summed(a=0.1, b=0.1), 1.0, ""),
        (summed(c=5.0, d=0.4, e=0.3), 1.0, "c"),
        (summed(a=1.0, b=2.0, c=3.0, d=4.0), 3.0, "cd"),
        (summed(**dict.fromkeys(NAMES, 1.0)), 0.0, "abcdefgh"),
        (needs("bf"), 1.0, "bf"),
        (cancelling, 0.05, "abc"),
    ],
    ids=["none", "one", "several", "all", "interacting", "cancelling"],
)
def test_the_smallest_set_is_found_and_was_really_tried(error, tolerance, kept):
    search = Search(NAMES, error, tolerance)
    best = search.run()
    assert best in search.trials and best.error == error(best.kept) <= tolerance
    assert best.kept == frozenset(kept) and len(kept) == smallest(error, tolerance)
    assert not search.exhausted


@pytest.mark.parametrize(
    "error, least", [(lambda kept: 2.0 + len(EVERY - kept), 2.0), (lambda kept: math.nan, math.inf)]
)
def test_what_cannot_be_reached_is_told_after_two_trials(error, least):
    search = Search(NAMES, error, 1.0)
    assert search.run() is None and [trial.step for trial in search.trials] == ["none kept", "all kept"]
    assert min(trial.error for trial in search.trials) == least


def test_no_set_is_tried_twice_and_every_trial_is_told():
    tried, told = [], []

    def error(kept):
        tried.append(kept)
        return summed(a=1.0, b=2.0, c=3.0, d=4.0)(kept)

    search = Search(NAMES, error, 3.0, told=lambda trial, within: told.append((trial, within)))
    search.run()
    assert len(set(tried)) == len(tried) == len(search.trials)
    assert told == [(trial, trial.error <= 3.0) for trial in search.trials]


def test_no_single_member_of_the_result_can_be_given_back():
    """Of any error function: these numbers follow no rule."""
    for seed in range(40):
        error = lambda kept, seed=seed: hash((seed, kept)) % 1000 * len(EVERY - kept)  # noqa: E731
        search = Search(NAMES, error, 900.0)
        best = search.run()
        known = {trial.kept: trial.error for trial in search.trials}
        assert all(known[best.kept - {member}] > 900.0 for member in best.kept)


@pytest.mark.parametrize("error, tolerance, better", [(needs("abc", "h"), 1.0, "h"), (cancelling, 0.2, "c")])
def test_another_set_may_be_smaller(error, tolerance, better):
    """What only pays together, or only by luck, no ranking sees; the result is still within and cannot shrink."""
    best = Search(NAMES, error, tolerance).run()
    assert best.kept == frozenset("abc") and error(frozenset(better)) <= tolerance
    assert all(error(best.kept - {member}) > tolerance for member in best.kept)


@pytest.mark.parametrize("dearest, kept", [("a", "bd"), ("b", "ad")])
def test_the_dearest_is_given_back_first(dearest, kept):
    """The shortest prefix of the ranking is abd, and either a or b can go."""
    ranked = {"sensitivity": lambda name: -"abdcefgh".index(name), "costs": {dearest: 9.0}}
    search = Search(NAMES, needs("ad", "bd"), 1.0, **ranked)
    assert search.run().kept == frozenset(kept)


def test_pruning_is_bounded_and_says_so():
    error = needs("ah", "abcdefgh"[1:7])
    search = Search(NAMES, error, 1.0, sensitivity=lambda name: "hgfedcba".index(name), pruning=1)
    assert search.run() is not None and search.exhausted
    assert [trial.step for trial in search.trials].count("prune") == 1


def test_a_ranking_from_elsewhere_costs_no_trials():
    search = Search(NAMES, needs("c"), 1.0, sensitivity=lambda name: float(name == "c"))
    assert search.run().kept == {"c"}
    assert [trial.step for trial in search.trials] == ["none kept", "all kept", "bisect", "bisect", "bisect"]


def test_after_an_interrupt_the_best_so_far_is_there():
    count = itertools.count()

    def error(kept):
        if next(count) == len(NAMES) + 4:
            raise KeyboardInterrupt
        return summed(**dict.fromkeys(NAMES, 1.0))(kept)

    search = Search(NAMES, error, 5.0)
    with pytest.raises(KeyboardInterrupt):
        search.run()
    assert len(search.best.kept) == 4 and search.best.error == 4.0
