"""A sweep: trainings of one recipe whose settings a search chooses, by any number of workers that may die."""

import copy
import fcntl
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recalib.classification import ClassificationJob, ClassificationRecipe
from recalib.classification.feeds import open_feeds
from recalib.errors import RecalibError, WorkFailed
from recalib.models import create_model
from recalib.runs import environment, read_metrics, stop_on_signals, write_json
from recalib.runs.folder import STATE
from recalib.runs.trackers import TrackerDown
from recalib.study.sweep_journal import Attempt, Journal, TakenOver, Watch, Worker, machine
from recalib.study.sweep_search import End, Past, Search
from recalib.study.sweep_space import MEASURED, Overrides, Space
from recalib.study.times import latencies
from recalib.surgery import load_checkpoint, remove_
from recalib.training.lifecycle import run

POLL = 0.2  # seconds between looks at what others do
HOLDOUT = 0.1  # of the training images, where the recipe sets none aside
ADAM_LR = 0.003  # mnikitin/channel-attention's, for a space that varies the optimizer but no learning rate
ROUNDS = 60  # of timing a network, its plain form and the reference in turn
TRIALS = 20  # where neither the command nor the file says how many, and the space is not smaller

Say = Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Space, method and folder of a search.

    Attributes:
        space: methods, metrics, parameters.
        job: what every trial is but for what the space sets: recipe, data, devices.
        out: the sweep's folder; trials are run folders in it.
        seed: of the search; the recipe's own seed is that of every trial.
        parallel: trials that may run at the same time. A search that learns chooses a trial by all but the last
            ``parallel - 1`` before it, so it is a part of the result.
        target: runtime that latencies are measured in, for metrics of that kind.
    """

    space: Space
    job: ClassificationJob
    out: Path
    seed: int = 0
    parallel: int = 4
    target: str = "eager"

    @property
    def search(self) -> Search:
        """Settings of the search."""
        return Search(self.space, self.seed, self.parallel, self.job.recipe.epochs)

    def settings(self) -> dict[str, Any]:
        """Everything that decides a trial's result, as JSON."""
        config = self.job.config()
        return {
            "space": {k: self.space.source.get(k) for k in ("method", "metric", "parameters", "early_terminate")},
            "recipe": config["recipe"],
            "seed": self.seed,
            "parallel": self.parallel,
        } | ({"target": self.target} if self.measures else {})

    @property
    def measures(self) -> bool:
        """True if a trial's network is timed."""
        return any(metric.column in MEASURED for metric in self.space.metrics)

    def trial(self, drawn: Mapping[str, Any], folder: str) -> ClassificationJob:
        """The job of a trial."""
        recipe = with_overrides(self.job.recipe, self.space.overrides(drawn))
        return replace(self.job, recipe=recipe, out=self.out / "trials", name=folder)


def with_overrides(recipe: ClassificationRecipe, overrides: Overrides) -> ClassificationRecipe:
    """A recipe with what a draw sets.

    Where the optimizer becomes one of Adam's kind and no learning rate is set, it is `ADAM_LR`: SGD's is too high.
    """
    fields = {name: value for name, value in overrides.items() if not name.startswith("options.")}
    options = [f"{name.removeprefix('options.')}={overrides[name]}" for name in overrides if name not in fields]
    if fields.get("optimizer", "sgd") != "sgd" and recipe.optimizer == "sgd" and "lr" not in fields:
        fields["lr"] = ADAM_LR
    if options:
        fields["options"] = (*recipe.options, *options)
    return replace(recipe, **fields)


def sweep(
    asked: Sweep,
    *,
    trials: int | None = None,
    join: bool = False,
    heartbeat: float = 60.0,
    say: Say = print,
    begun: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Work at a sweep until its trials have ended, together with whoever else does.

    Args:
        asked: the sweep.
        trials: how many; by default as many as the file's ``run_cap``, or all of a space of at most `TRIALS`, or
            `TRIALS`. Not a part of the study: more may be asked for later.
        join: go on with a study that is there, beside its other workers.
        heartbeat: seconds without a sign of life after which another machine's worker is taken for dead.
        say: takes lines for the user.
        begun: called when the study is there, so that others can join it.

    Returns:
        ``best``, ``trials``, ``stopped`` and more, as JSON; ``sweep.json`` in the folder is the same.

    Raises:
        RecalibError: for data that cannot be read, and a study that is there already, or is another.
        TrackerDown: for a tracker that does not answer; trials that have ended are kept.
        WorkFailed: for a disk that is full; they are kept too.
    """
    job = asked.job.resolved()
    # what is wrong with the data is wrong with every trial; how many images a step takes may be each trial's own
    varied = {parameter.field for parameter in asked.space.parameters}
    tried = replace(job.recipe, batch=1) if "batch" in varied else job.recipe
    open_feeds(job.data, tried, torch.device("cpu"))
    directions = [metric.goal for metric in asked.space.metrics]
    try:
        journal = Journal(asked.out, asked.settings(), directions, join=join)
        begun()
        if journal.threads != torch.get_num_threads():
            say(
                f"{torch.get_num_threads()} threads, the sweep was begun with {journal.threads}: last digits may differ"
            )
        with Worker(asked.out, heartbeat) as worker, stop_on_signals() as stop:
            at = _At(asked, journal, worker.name, Watch(asked.out, heartbeat), trials or _usual(asked.space), say)
            stopped = at.work(lambda: bool(stop))
        results = summary(asked, journal.attempts()) | {"stopped": stopped, "environment": environment()}
        write_json(asked.out / "sweep.json", results)
    except OSError as error:
        raise WorkFailed(f"{asked.out} could not be written: {error}; trials that have ended are kept") from error
    return results


def _usual(space: Space) -> int:
    everything = space.combinations
    if everything is not None and space.method == "grid":
        return space.trials or len(everything)
    return space.trials or min(TRIALS, len(everything or range(TRIALS)))


class _At:
    """A worker at a sweep."""

    def __init__(self, asked: Sweep, journal: Journal, worker: str, watch: Watch, trials: int, say: Say) -> None:
        self.asked, self.journal, self.worker, self.watch, self.say = asked, journal, worker, watch, say
        self.trials, self.search = trials, asked.search

    def work(self, stops: Callable[[], bool]) -> str | None:
        """Take one trial after another; what stopped it before the end, where something did."""
        waiting = False
        while not stops():
            claimed = self._claim()
            if claimed is None:
                return None
            if isinstance(claimed, str):
                if not waiting:
                    self.say(claimed)
                waiting = True
                time.sleep(POLL)
                continue
            waiting = False
            try:
                stopped = self._run(claimed)
            except TakenOver:
                self.say(f"trial {claimed.index} was taken over by another worker")
                continue
            except BaseException:
                self.journal.give_up(claimed)
                raise
            if stopped:
                self.journal.give_up(claimed)
                break
        return "stopped; the same command with --join goes on"

    def _claim(self) -> Attempt | str | None:
        """An attempt to make; what there is to wait for; or None where all is done."""
        with self.journal.locked():
            attempts = self.journal.attempts()
            for attempt in attempts:
                if attempt.past.end is None and not attempt.given_up and not self.watch.alive(attempt.worker):
                    self.say(f"worker {attempt.worker} is gone: trial {attempt.index} goes on from its checkpoint")
                    self.journal.give_up(attempt)
            attempts = self.journal.attempts()
            for attempt in attempts[: self.trials]:
                if attempt.given_up:
                    return self._begin(attempt.index, attempt.past.drawn, attempt.count + 1)
            past = [attempt.past for attempt in attempts]
            index = len(attempts)
            open_ones = [a for a in attempts[: self.trials] if a.past.end is None]
            if index < self.trials:
                holding = [a for a in attempts[: self.search.known(index)] if a.past.end is None]
                if holding:
                    return _waits(holding)
                drawn = self.search.draw(index, past)
                if drawn is not None:
                    return self._begin(index, drawn, 1)
            return _waits(open_ones) if open_ones else None

    def _begin(self, index: int, drawn: Mapping[str, Any], count: int) -> Attempt:
        space = {p.name: p.distribution for p in self.asked.space.parameters}
        return self.journal.begin(index, drawn, space, self.worker, count)

    def _run(self, attempt: Attempt) -> bool:
        """Train a trial to its end, or as far as it is allowed; True where the user stopped it."""
        asked, began = self.asked, time.monotonic()
        folder = asked.out / "trials" / attempt.folder
        _go_on(asked.out / "trials", attempt, folder)
        self.say(f"trial {attempt.index}: {_told(attempt.past.drawn)}")
        try:
            job = asked.trial(attempt.past.drawn, attempt.folder)
            judge = _Judge(self.search, self.journal, attempt, [a.past for a in self.journal.attempts()], asked.space)
            if judge.looks_back(read_metrics(folder)):
                outcome = run(job, resume=True, goes_on=judge.goes_on)
                if outcome.stopped and not judge.given_up:
                    return True
        except WorkFailed as error:
            if isinstance(error.__cause__, OSError):
                raise  # a disk's failure is not the trial's
            return self._failed(attempt, error, began)
        except TrackerDown:
            raise  # nor is a tracker's
        except RecalibError as error:
            return self._failed(attempt, error, began)
        row = read_metrics(folder)[-1]
        facts: dict[str, Any] = {"seconds": time.monotonic() - began}
        if asked.measures:
            facts["latency"] = self._latency(job, folder)
            row |= {name: facts["latency"][name] for name in MEASURED}
        values = [float(row[metric.column]) for metric in asked.space.metrics]
        end: End = "pruned" if judge.given_up else "complete"
        self.journal.finish(attempt, end, values if end == "complete" else (), facts | {"metrics": row})
        told = ", ".join(f"{m.name} {v:.4g}" for m, v in zip(asked.space.metrics, values, strict=True))
        early = f", given up after epoch {row['epoch']}" if judge.given_up else ""
        self.say(f"trial {attempt.index}: {told}{early}")
        return False

    def _latency(self, job: ClassificationJob, folder: Path) -> dict[str, Any]:
        """Time of a trial's network, deployed; a network is timed once a study, and one at a time on a machine.

        Other workers train on the same machine meanwhile, so the fastest tenth of the calls counts; and a machine is
        faster at one time than at another, so a network is timed in turn with the study's reference, the network of its
        recipe without attention: its latency is the ratio times what that took at first.
        """
        recipe, target = job.recipe, self.asked.target
        about = {"model": recipe.model, "attention": recipe.attention, "options": list(recipe.options)}
        network = load_checkpoint(folder / "last.safetensors")
        reference = create_model(self.asked.job.recipe.model or "")
        plain = copy.deepcopy(network)
        if recipe.attention is not None:
            remove_(plain)
        with (self.asked.out / f"latency-{machine()}.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            known = [attempt.facts["latency"] for attempt in self.journal.attempts() if "latency" in attempt.facts]
            for found in known:
                if found["of"] == about:
                    return dict(found)
            example = self._example(job)
            forms = [form.to(example.device).eval() for form in (network, plain, reference)]
            taken = latencies(forms, example, target, ROUNDS)
        own, without, base = np.quantile(taken, 0.1, axis=0).tolist()
        reference_ms = known[0]["reference_ms"] if known else base
        overhead = 100 * (own / without - 1) if recipe.attention else 0.0
        return {
            "of": about,
            "target": target,
            "reference_ms": reference_ms,
            "latency_ms": own / base * reference_ms,
            "latency_overhead": overhead,
            "samples": taken.tolist(),
        }

    def _example(self, job: ClassificationJob) -> Tensor:
        side = job.recipe.image_size if job.resolved().recipe.dataset == "imagenet" else 32
        gpu = job.accelerator in ("auto", "cuda") and torch.cuda.is_available()
        return torch.randn(1, 3, side, side, device="cuda" if gpu else "cpu")

    def _failed(self, attempt: Attempt, error: RecalibError, began: float) -> bool:
        self.journal.finish(attempt, "failed", (), {"error": str(error), "seconds": time.monotonic() - began})
        self.say(f"trial {attempt.index} failed: {error}")
        return False


class _Judge:
    """True if a trial goes on, after each of its epochs."""

    def __init__(self, search: Search, journal: Journal, attempt: Attempt, past: Sequence[Past], space: Space) -> None:
        self.search, self.journal, self.attempt, self.past = search, journal, attempt, past
        self.column = space.followed.column if space.followed else ""
        self.curve: dict[int, float] = {}
        self.given_up = False

    def looks_back(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Take notice of the epochs before a resumption; whether there is anything left to train."""
        return all(self.goes_on(row) for row in rows)

    def goes_on(self, row: Mapping[str, Any]) -> bool:
        """Note an epoch's metrics; epochs that are not evaluated tell none."""
        if self.column not in row:
            return True
        epoch = int(row["epoch"]) + 1
        self.curve[epoch] = float(row[self.column])
        self.journal.report(self.attempt, epoch, self.curve[epoch])
        self.given_up = self.search.gives_up(self.attempt.index, self.past, self.curve)
        return not self.given_up


def _go_on(trials: Path, attempt: Attempt, folder: Path) -> None:
    """The folder of the last attempt that left a checkpoint as that of this one.

    The old folders go: should the worker of one wake up, it finds nothing to write in.
    """
    before = [trials / replace(attempt, count=count).folder for count in range(1, attempt.count)]
    for old in reversed(before):
        if (old / STATE).exists() and not folder.exists():
            fresh = folder.with_name(f".{folder.name}.copy")
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.copytree(old, fresh)
            fresh.rename(folder)
    for old in before:
        shutil.rmtree(old, ignore_errors=True)


def _waits(attempts: Sequence[Attempt]) -> str:
    told = ", ".join(f"{a.index} ({a.worker})" for a in attempts)
    return f"waiting for trial{'s' if len(attempts) > 1 else ''} {told}"


def _told(drawn: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in drawn.items())


def summary(asked: Sweep, attempts: Sequence[Attempt]) -> dict[str, Any]:
    """A study's results as JSON: ``best``, and every trial in order; with several metrics the Pareto front too."""
    space = asked.space
    trials = [_row(space, attempt) for attempt in attempts]
    complete = [t for t in trials if t["state"] == "complete"]

    def rank(trial: Mapping[str, Any]) -> list[float]:
        return [*(m.better(trial["values"][m.name]) for m in space.metrics), trial["index"]]

    best = min(complete, key=rank, default=None)
    results = {
        "best": best,
        "trials": trials,
        "goals": {m.name: m.goal for m in space.metrics},
        "curve": space.followed.name if space.followed else None,
        "importances": asked.search.importances([attempt.past for attempt in attempts]),
        "settings": asked.settings(),
    }
    if len(space.metrics) > 1:
        results["pareto"] = [t["index"] for t in complete if not any(_beats(space, o, t) for o in complete)]
    return results


def _beats(space: Space, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """True if a trial is at least as good in every metric and better in one."""
    pairs = [(m.better(one["values"][m.name]), m.better(other["values"][m.name])) for m in space.metrics]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _row(space: Space, attempt: Attempt) -> dict[str, Any]:
    past = attempt.past
    state = past.end or ("waiting" if attempt.given_up else "running")
    return {
        "index": attempt.index,
        "state": state,
        "params": dict(past.drawn),
        "recipe": {name: str(v) if isinstance(v, Path) else v for name, v in space.overrides(past.drawn).items()},
        "values": dict(zip([m.name for m in space.metrics], past.values, strict=False)),
        "curve": {str(epoch): value for epoch, value in sorted(past.curve.items())},
        "run": f"trials/{attempt.folder}",
        "attempts": attempt.count,
        "worker": attempt.worker,
        **attempt.facts,
    }
