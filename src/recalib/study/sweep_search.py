"""Searches of a sweep, as functions of its past.

What trial ``n`` tries, and whether it is given up early, follows from the seed and the results of the trials up to
``n - parallel``. So it is the same whoever runs it, in whatever order trials end, and whatever was killed.
"""

import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from recalib.data import seed_for
from recalib.study.sweep_space import Space

End = Literal["complete", "pruned", "failed"]
_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Past:
    """Facts about an earlier trial.

    Attributes:
        drawn: what it tries.
        end: how it ended, None for one under way.
        values: of the metrics, where it is complete.
        curve: the metric after each epoch, counted from 1.
    """

    drawn: Mapping[str, Any]
    end: End | None = None
    values: tuple[float, ...] = ()
    curve: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Search:
    """A search of a space.

    Attributes:
        space: method, metrics, parameters, early termination.
        seed: of every draw.
        parallel: trials that may run at the same time: trial n knows nothing of the ``parallel - 1`` before it.
        epochs: of a trial that is not given up.
    """

    space: Space
    seed: int
    parallel: int
    epochs: int

    @property
    def learns(self) -> bool:
        """True if a trial depends on the results of others."""
        return self.space.method == "bayes" or self.space.early is not None

    def known(self, index: int) -> int:
        """So many trials, from the first on, have to have ended before one begins."""
        return max(0, index - self.parallel + 1) if self.learns else 0

    def draw(self, index: int, past: Sequence[Past]) -> dict[str, Any] | None:
        """Settings of a trial; None where everything has been tried.

        Args:
            index: of the trial, counted from 0.
            past: the trials before it; results of more than the first `known` ones are not looked at.
        """
        everything = self.space.combinations
        if self.space.method == "grid":
            assert everything is not None
            return everything[index] if index < len(everything) else None
        tried = [dict(trial.drawn) for trial in past]
        for attempt in range(20):
            seed = seed_for(self.seed, index, attempt) % 2**32
            sampler = TPESampler(seed=seed) if self.space.method == "bayes" else RandomSampler(seed=seed)
            study = self._study(index, past, sampler)
            drawn = study.ask({p.name: p.distribution for p in self.space.parameters}).params
            if everything is None or drawn not in tried:
                return drawn
        left = [combination for combination in everything or () if combination not in tried]
        return random.Random(seed_for(self.seed, index)).choice(left) if left else None

    def gives_up(self, index: int, past: Sequence[Past], curve: Mapping[int, float]) -> bool:
        """True if a trial should end after the last epoch of its curve, judged by those before it.

        Args:
            index: of the trial.
            past: as in `draw`.
            curve: the metric after each of its epochs so far, counted from 1.
        """
        if self.space.early is None or max(curve) >= self.epochs:
            return False
        study = self._study(index, past, RandomSampler(seed=0))
        trial = study.ask()
        verdict = False
        for epoch, value in sorted(curve.items()):
            trial.report(value, epoch)
            verdict = trial.should_prune()
        return verdict

    def importances(self, past: Sequence[Past]) -> dict[str, float]:
        """Share of the first metric's variation that each parameter explains, by PED-ANOVA; the sum is 1.

        Empty where there is too little to tell: fewer than four complete trials, or all as good as each other.
        """
        complete = [trial for trial in past if trial.end == "complete"]
        varied = [p.name for p in self.space.parameters if p.drawn is None or len(p.drawn) > 1]
        if len(complete) < 4 or len({trial.values[0] for trial in complete}) < 2 or not varied:
            return {}
        study = optuna.create_study(direction=self.space.metrics[0].goal)
        space = {p.name: p.distribution for p in self.space.parameters}
        for trial in complete:
            params = dict(trial.drawn)
            study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=trial.values[0]))
        return optuna.importance.get_param_importances(study, params=varied)

    def _study(self, index: int, past: Sequence[Past], sampler: BaseSampler) -> optuna.Study:
        """The past that a trial may know, as an Optuna study in memory: trials under their own numbers."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            pruner = self._pruner()
        directions = [metric.goal for metric in self.space.metrics]
        study = optuna.create_study(study_name="sweep", directions=directions, sampler=sampler, pruner=pruner)
        space = {p.name: p.distribution for p in self.space.parameters}
        for number, trial in enumerate(past[:index]):
            study.enqueue_trial(dict(trial.drawn))
            asked = study.ask(space)
            if number >= self.known(index):
                continue  # under way, as far as this trial knows
            for epoch, value in sorted(trial.curve.items()) if len(self.space.metrics) == 1 else ():
                asked.report(value, epoch)
                asked.should_prune()  # notes how far it came
            assert trial.end is not None
            study.tell(asked, list(trial.values) or None, state=_STATES[trial.end])
        return study

    def _pruner(self) -> optuna.pruners.BasePruner:
        early = self.space.early
        if early is None:
            return optuna.pruners.NopPruner()
        if early["type"] == "median":
            warm = early["min_iter"] - 1
            return optuna.pruners.MedianPruner(n_startup_trials=early["min_trials"], n_warmup_steps=warm)
        first = early["min_iter"] or max(1, early["max_iter"] // early["eta"] ** early["s"])
        return optuna.pruners.HyperbandPruner(first, early["max_iter"] or self.epochs, early["eta"])
