"""Does it help: a network, the same with each module, and the next larger one, trained alike with the same seeds."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch

from recalib.classification import ClassificationJob
from recalib.classification.finetune import identity_anyway
from recalib.classification.network import build_network
from recalib.cost import cost
from recalib.detection.job import DetectionJob
from recalib.errors import RecalibError
from recalib.measure.networks import deeper
from recalib.measure.statistics import ratio_interval
from recalib.models import create_model
from recalib.runs import environment, read_metrics, write_json
from recalib.runs.executor import Executor
from recalib.study.times import latencies
from recalib.surgery import checked_name, sites
from recalib.training.comparison import Comparison, Difference
from recalib.training.repeat import run_jobs
from recalib.training.table import has_ended

Job = ClassificationJob | DetectionJob
Role = Literal["baseline", "module", "larger"]
SCORES = {"classification": "top1", "detection": "AP"}
PERCENT = {"classification": 1.0, "detection": 100.0}  # what makes points of a score
RESULT = "study.json"
CIFAR_DEPTHS = (20, 32, 44, 56, 110)
GAIN = 0.4  # points; what many papers claim for a module, and what the seeds are counted for


@dataclass(frozen=True)
class Arm:
    """One network of a study.

    Attributes:
        name: its name.
        role: the baseline, a module in it, or the larger network.
        job: its training with the first seed.
    """

    name: str
    role: Role
    job: Job


@dataclass(frozen=True, kw_only=True)
class Study:
    """Networks to compare, and the way of comparing.

    Attributes:
        job: training of the baseline with the first seed; its ``out`` is the study's folder.
        attention: modules that are compared.
        identity: start every module as the identity.
        larger: name of the larger network; None for none.
        placement: compare where each module goes instead: in all stages, the last, the last two, every second block.
        seeds: their number.
        runtime: whose time counts.
        batch: images in a forward pass that is timed.
        rounds: timings of each network; 0 for none.
    """

    job: Job
    attention: tuple[str, ...]
    identity: bool = False
    larger: str | None = None
    placement: bool = False
    seeds: int = 3
    runtime: str = "eager"
    batch: int = 1
    rounds: int = 30

    def arms(self) -> list[Arm]:
        """The networks, the baseline first.

        Raises:
            RecalibError: for modules that do not exist, or the same one twice.
        """
        model = str(self.job.recipe.model)
        arms = [Arm(model, "baseline", self.job)]
        for module in self.attention:
            name = checked_name(module)
            identity = self.identity and not identity_anyway(name)
            for options in self._placements(model) if self.placement else [()]:
                job = _with(self.job, attention=name, options=options, identity=identity)
                title = " ".join([model, name, *options])
                arms.append(Arm(title, "module", _named(job, options)))
        if self.larger is not None:
            arms.append(Arm(self.larger, "larger", _with(self.job, model=self.larger)))
        names = [arm.name for arm in arms]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise RecalibError(f"{', '.join(twice)}: named twice; a study has each network once")
        return arms

    def _placements(self, model: str) -> list[tuple[str, ...]]:
        stages = 1 + max((site.stage for site in sites(create_model(model))), default=0)
        if stages < 2:
            raise RecalibError(f"{model} has no stages to choose among")
        last = {f"stages={stages}": None, f"stages={stages - 1}+{stages}": None}
        return [(), *((option,) for option in last), ("every=2",)]

    def jobs(self, arms: Sequence[Arm]) -> list[Job]:
        """All runs, seeds outermost: stopped at any moment, what is done is a fair comparison of fewer seeds."""
        first = self.job.recipe.seed
        return [_with_seed(arm.job, seed) for seed in range(first, first + self.seeds) for arm in arms]


def run_study(
    study: Study, side_by_side: int | None = None, minutes: float | None = None, executor: Executor | None = None,
    gpus: float = 0,
) -> dict[str, Any]:  # fmt: skip
    """Train what is not trained yet, measure times, and say what follows; the results stay in the study's folder.

    Args:
        study: networks and seeds.
        side_by_side: runs at a time; by default one, and on a GPU as many as its memory holds.
        minutes: stop training after so many.
        executor: place of the runs, by default this machine.
        gpus: cards of a run on a cluster, or a part of one.

    Returns:
        `results`, which are in ``study.json`` too.

    Raises:
        RecalibError: for anything wrong with the study, before training starts.
        WorkFailed: where a run fails or was stopped.
    """
    if study.seeds < 1:
        raise RecalibError(f"seeds {study.seeds}: should be at least 1")
    study = replace(study, job=study.job.resolved())
    arms = study.arms()
    for arm in arms:
        if isinstance(arm.job, ClassificationJob):
            build_network(arm.job.recipe, 10)  # names and options that do not exist are told before the first run
    left = [job for job in study.jobs(arms) if not is_finished(job)]
    try:
        seconds = float("inf") if minutes is None else 60 * minutes
        run_jobs(left, side_by_side, resume=True, seconds=seconds, executor=executor, gpus=gpus)
    finally:
        found = results(study)
        study.job.out.mkdir(parents=True, exist_ok=True)
        write_json(study.job.out / RESULT, found)
    return found


def read_study(study: Study) -> dict[str, Any]:
    """Results that `run_study` left when it ended, or was stopped."""
    found: dict[str, Any] = json.loads((study.job.out / RESULT).read_text())
    return found


def is_finished(job: Job) -> bool:
    """True for a job whose run came to its end; its checkpoint need not be there any more."""
    return has_ended(read_metrics(job.folder), job.recipe.epochs) and bool(_scored(job))


def results(study: Study) -> dict[str, Any]:
    """Everything that is known of a study: scores by seed, differences, times, and a sentence on each network."""
    arms = study.arms()
    key, unit = SCORES[study.job.task], PERCENT[study.job.task]
    runs: dict[str, dict[int, list[dict[str, Any]]]] = {arm.name: {} for arm in arms}
    for arm in arms:
        for seed in range(study.job.recipe.seed, study.job.recipe.seed + study.seeds):
            job = _with_seed(arm.job, seed)
            if is_finished(job):
                runs[arm.name][seed] = _scored(job)
    scores = {name: {seed: unit * rows[-1][key] for seed, rows in found.items()} for name, found in runs.items()}
    times = _times(study, arms) if study.rounds and study.job.task == "classification" else None
    baseline = arms[0].name
    comparison = Comparison(scores, baseline) if scores[baseline] else None
    gains = comparison.gains() if comparison and comparison.others else {}
    larger = next((arm.name for arm in arms if arm.role == "larger" and arm.name in gains), None)
    shares = shares_of(times["samples_ms"], arms, larger) if times and larger else {}
    over = comparison.over_line(shares, larger) if comparison and larger and any(n in gains for n in shares) else {}
    told = [
        _arm(arm, runs[arm.name], scores[arm.name], key, unit, gains.get(arm.name), over.get(arm.name), times, study)
        for arm in arms
    ]
    return {
        "study": study.job.preset, "model": baseline, "score": key, "seeds": study.seeds,
        "missing": {name: study.seeds - len(found) for name, found in scores.items() if len(found) < study.seeds},
        "deviation": _finite(comparison.deviation) if comparison else None,
        "detectable": _finite(comparison.detectable(comparison.seeds)) if comparison and comparison.others else None,
        "seeds_for": {"gain": GAIN, "seeds": comparison.seeds_for(GAIN) if comparison and comparison.others else None},
        "networks": told, "larger": larger, "times": times,
        "sentences": _sentences(told, comparison, larger, study.seeds),
        "recipe": study.job.config()["recipe"], "environment": environment(),
    }  # fmt: skip


def _arm(
    arm: Arm, runs: Mapping[int, list[dict[str, Any]]], scores: Mapping[int, float], key: str, unit: float,
    gain: Difference | None, over: Difference | None, times: Mapping[str, Any] | None, study: Study,
) -> dict[str, Any]:  # fmt: skip
    values = list(scores.values())
    curves = [[unit * row[key] for row in rows] for rows in runs.values()]
    started = [
        row for seed in runs for row in read_metrics(_with_seed(arm.job, seed).folder) if f"initialized_{key}" in row
    ]
    row: dict[str, Any] = {
        "name": arm.name, "role": arm.role, "attention": arm.job.recipe.attention or "baseline",
        "options": list(arm.job.recipe.options), "scores": {str(seed): score for seed, score in scores.items()},
        "mean": statistics.fmean(values) if values else None,
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "gain": gain and _told(gain), "over_line": over and _told(over),
        "curve": [list(epoch) for epoch in zip(*curves, strict=False)],
        "initialized": [unit * row[f"initialized_{key}"] for row in started],
    }  # fmt: skip
    if isinstance(arm.job, ClassificationJob):
        counted = cost(build_network(arm.job.recipe, _classes(study)), (1, 3, *_size(study)))
        row |= {"params": counted.params, "macs": counted.macs}
    if times:
        row |= {"ms": times["ms"][arm.name], "overhead": times["ratio"][arm.name]}
    return row


def _told(difference: Difference) -> dict[str, Any]:
    return {
        "points": difference.points, "low": _finite(difference.low), "high": _finite(difference.high),
        "verdict": difference.verdict,
    }  # fmt: skip


def _sentences(
    arms: Sequence[Mapping[str, Any]], comparison: Comparison | None, larger: str | None, seeds: int
) -> list[str]:
    """The conclusion on each network, a line each."""
    if comparison is None or not comparison.others:
        return ["no two networks have been trained with the same seed yet"]
    return [sentence(arm, comparison, larger) for arm in arms if arm["gain"] is not None]


def sentence(arm: Mapping[str, Any], comparison: Comparison, larger: str | None) -> str:
    """The conclusion on one network."""
    gain, n = arm["gain"], len(arm["scores"])
    seeds = f"{n} seed{'s' * (n > 1)}"
    if gain["low"] is None:
        return f"{arm['name']}: {gain['points']:+.2f} points with {seeds}, which tell nothing of chance"
    interval = f"{gain['points']:+.2f} points [{gain['low']:.2f}, {gain['high']:.2f}]"
    if gain["verdict"] == "open":
        needed = comparison.seeds_for(GAIN)
        more = f"; a gain of {GAIN} would need {needed}" if needed is not None and needed > n else ""
        said = f"no gain that {seeds} can show: {interval}{more}"
    else:
        said = f"{'gain' if gain['verdict'] == 'better' else 'loss'}: {interval}"
    over = arm["over_line"]
    if over is None or larger is None or over["low"] is None:
        return f"{arm['name']}: {said}"
    use = {
        "worse": f"{larger} is the better use of your milliseconds",
        "better": f"a better use of your milliseconds than {larger}",
        "open": f"whether {larger} is the better use of your milliseconds is open",
    }[over["verdict"]]
    return f"{arm['name']}: {said}; {use} ({over['points']:+.2f} [{over['low']:.2f}, {over['high']:.2f}])"


def _times(study: Study, arms: Sequence[Arm]) -> dict[str, Any]:
    """Milliseconds of every network, deployed and timed in turn; measured once for the same networks."""
    file = study.job.out / "times.json"
    names = [arm.name for arm in arms]
    asked = {"networks": names, "runtime": study.runtime, "batch": study.batch, "size": list(_size(study)),
             "rounds": study.rounds, "threads": torch.get_num_threads()}  # fmt: skip
    if file.exists():
        kept: dict[str, Any] = json.loads(file.read_text())
        if kept["asked"] == asked:
            return kept
    networks = []
    for arm in arms:
        assert isinstance(arm.job, ClassificationJob)
        torch.manual_seed(0)
        networks.append(build_network(replace(arm.job.recipe, weights=None), _classes(study)).eval())
    example = torch.randn(study.batch, 3, *_size(study), generator=torch.Generator().manual_seed(0))
    taken = latencies(networks, example, study.runtime, study.rounds)
    found = {
        "asked": asked,
        "ms": {name: statistics.median(taken[:, i].tolist()) for i, name in enumerate(names)},
        "ratio": {
            name: list(ratio_interval(taken[:, i].tolist(), taken[:, 0].tolist())) for i, name in enumerate(names)
        },
        "samples_ms": {name: taken[:, i].round(4).tolist() for i, name in enumerate(names)},
        "environment": environment(),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, found)
    return found


def shares_of(
    samples: Mapping[str, Sequence[float]], arms: Sequence[Arm], larger: str
) -> dict[str, tuple[float, float, float]]:
    """Share that each module takes of the time between the baseline and the larger network, from 0 to 1.

    With 95 % intervals by the bootstrap over rounds; from 0 to 1 where the larger network is not slower for certain.
    """
    pairs = np.array([samples[arm.name] for arm in arms])
    drawn = np.random.default_rng(0).integers(pairs.shape[1], size=(2000, pairs.shape[1]))
    place = {arm.name: i for i, arm in enumerate(arms)}
    found = {}
    for values in (np.median(pairs, -1), np.median(pairs[:, drawn], -1)):
        whole = values[place[larger]] - values[0]
        sure = bool(np.all(np.quantile(whole, 0.025) > 0))
        for arm in (arm for arm in arms if arm.role == "module"):
            share = ((values[place[arm.name]] - values[0]) / np.where(whole > 0, whole, np.inf)).clip(0, 1)
            if values.ndim == 1:
                found[arm.name] = (float(share), 0.0, 1.0)
            elif sure:
                low, high = np.quantile(share, [0.025, 0.975])
                found[arm.name] = (found[arm.name][0], float(low), float(high))
    return found


def larger_than(model: str) -> str | None:
    """Name of the next larger network; None where nobody says."""
    for depth, above in pairwise(CIFAR_DEPTHS):
        for prefix in ("resnet", "cifar_resnet"):
            if model == f"{prefix}{depth}":
                return f"{prefix}{above}"
    return deeper(model)


def _size(study: Study) -> tuple[int, int]:
    recipe = study.job.recipe
    side = recipe.image_size if getattr(recipe, "dataset", None) == "imagenet" else 32  # type: ignore[union-attr]
    return side, side


def _classes(study: Study) -> int:
    return {"cifar10": 10, "cifar100": 100}.get(getattr(study.job.recipe, "dataset", ""), 1000)


def _scored(job: Job) -> list[dict[str, Any]]:
    return [row for row in read_metrics(job.folder) if SCORES[job.task] in row and "epoch" in row]


def _with_seed(job: Job, seed: int) -> Job:
    return replace(_with(job, seed=seed), name=job.name and f"{job.name}-seed{seed}")


def _with(job: Job, **settings: Any) -> Job:
    """A job with other settings of its recipe."""
    return replace(job, recipe=replace(job.recipe, **settings))  # type: ignore[arg-type]


def _named(job: Job, options: Sequence[str]) -> Job:
    """A folder of its own for a network that differs in its options."""
    parts = [*job.name_parts(), *(option.replace("=", "") for option in options)]
    return replace(job, name="-".join(parts).replace(":", "-")) if options else job


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None
