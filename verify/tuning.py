"""The search for the fewest candidates that must be kept in higher precision; it knows nothing of networks.

    error(nothing kept) > tolerance >= error(all kept)
    rank     every candidate by the error it makes alone            one trial each
    bisect   the shortest sufficient prefix of the ranking          log2(candidates) trials
    prune    give members back, the dearest first, until no single one can be    bounded

Errors are not monotonic (rounding errors cancel), so whatever is claimed has had its own trial. What is found is a
minimum in the sense that no single member can be given back; another set may be smaller.
"""

from __future__ import annotations

import math
from typing import Callable, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence

Kept = FrozenSet[str]


class Trial(NamedTuple):
    """One run: what was kept in higher precision, why it was tried, and the error."""

    step: str
    kept: Kept
    error: float


class Search:
    """One search; after `run`, or after an interrupt of it, `best` and `trials` hold what is known.

    Args:
        candidates: what can be kept.
        error: the error with these kept and all others low; NaN counts as infinite.
        tolerance: the largest error that will do.
        told: called with each trial and whether it is within the tolerance.
        sensitivity: ranks a candidate, high first; where left out, the error of a trial with it alone low.
        costs: what keeping each costs; the dearest are given back first.
        pruning: trials of the last step at most.

    Attributes:
        trials: every trial in order, none twice.
        exhausted: whether the last step ended because `pruning` trials were spent.
    """

    def __init__(
        self,
        candidates: Sequence[str],
        error: Callable[[Kept], float],
        tolerance: float,
        told: Callable[[Trial, bool], None] = lambda trial, within: None,
        sensitivity: Optional[Callable[[str], float]] = None,
        costs: Optional[Mapping[str, float]] = None,
        pruning: int = 100,
    ) -> None:
        self.candidates, self.tolerance, self.pruning = tuple(candidates), tolerance, pruning
        self.exhausted = False
        self._error, self._told, self._costs = error, told, dict(costs or {})
        self._sensitivity = sensitivity or self._alone
        self._known: Dict[Kept, Trial] = {}

    @property
    def trials(self) -> List[Trial]:
        return list(self._known.values())

    @property
    def best(self) -> Optional[Trial]:
        """The trial within the tolerance that keeps the fewest, of those the cheapest; None where there is none."""
        within = [trial for trial in self.trials if trial.error <= self.tolerance]
        return min(within, key=lambda trial: (len(trial.kept), self._cost(trial.kept)), default=None)

    def run(self) -> Optional[Trial]:
        """Searches; returns `best`, which is None where even all kept do not reach the tolerance."""
        if self._within("none kept", frozenset()) or not self._within("all kept", frozenset(self.candidates)):
            return self.best
        self._bisect(self._ranked())
        self._prune()
        return self.best

    def _within(self, step: str, kept: Kept) -> bool:
        """Whether a trial stays within the tolerance; one that was made before is not made again."""
        known = self._known.get(kept)
        if known is None:
            error = self._error(kept)
            known = self._known[kept] = Trial(step, kept, math.inf if math.isnan(error) else error)
            self._told(known, known.error <= self.tolerance)
        return known.error <= self.tolerance

    def _alone(self, candidate: str) -> float:
        kept = frozenset(self.candidates) - {candidate}
        self._within("rank", kept)
        return self._known[kept].error

    def _ranked(self) -> List[str]:
        errors = {candidate: self._sensitivity(candidate) for candidate in self.candidates}
        return sorted(self.candidates, key=lambda candidate: (-errors[candidate], self._costs.get(candidate, 1.0)))

    def _bisect(self, ranking: Sequence[str]) -> None:
        """Prefixes of length `failing` and `passing` are known to fail and to pass; they meet."""
        failing, passing = 0, len(ranking)
        while passing - failing > 1:
            middle = (failing + passing) // 2
            if self._within("bisect", frozenset(ranking[:middle])):
                passing = middle
            else:
                failing = middle

    def _prune(self) -> None:
        """Starts over after a round that gave something back: what could not go beside others now may."""
        spent, kept = 0, None
        while self.best is not None and kept != self.best.kept:
            kept = self.best.kept
            for member in sorted(kept, key=lambda each: (-self._costs.get(each, 1.0), self.candidates.index(each))):
                smaller = self.best.kept - {member}
                if spent == self.pruning and smaller not in self._known:
                    self.exhausted = True
                    return
                spent += smaller not in self._known
                self._within("prune", smaller)

    def _cost(self, kept: Kept) -> float:
        return sum(self._costs.get(candidate, 1.0) for candidate in kept)
