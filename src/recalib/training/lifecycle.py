"""A run from its folder to its result: started, checkpointed, stopped, resumed, rolled back."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from recalib.data import seed_for
from recalib.errors import WorkFailed
from recalib.runs.folder import RunFolder
from recalib.runs.lock import STALE
from recalib.runs.progress import Progress
from recalib.runs.signals import StopRequest, stop_on_signals
from recalib.runs.trackers import check_trackers, open_trackers, read_metrics
from recalib.training.job import MAY_DIFFER, Job, plain, upgraded
from recalib.training.processes import from_first, launched, naming_the_dead, under_torchrun
from recalib.training.reservations import reservations
from recalib.training.trainer import NotFiniteError, Trainer

CHECK_EVERY = 10  # steps between looks at the loss and at the other processes' signals: both wait for the device

GoesOn = Callable[[Mapping[str, Any]], bool]  # an epoch's metrics -> whether there shall be another


@dataclass(frozen=True)
class Outcome:
    """End of a run.

    Attributes:
        folder: its folder.
        metrics: its last epoch's and, where training images were set aside, ``best_epoch``, the one that is best on
            them, with its score; empty in all processes but the first, and where no epoch was finished.
        stopped: for a run that was asked to stop before its end: the place, and the command that goes on.
        first: true in the process that speaks for all.
    """

    folder: Path
    metrics: dict[str, Any]
    stopped: str | None
    first: bool


def run(job: Job, *, resume: bool = False, goes_on: GoesOn | None = None) -> Outcome:
    """Train as a job of any task says, to its end or until asked to stop.

    Args:
        job: recipe, data, folder, devices: a `ClassificationJob`, `DetectionJob` or `SegmentationJob`.
        resume: go on from the run's last checkpoint, where it has one.
        goes_on: asked after each epoch with its metrics; where it says no, the run is stopped there.

    Raises:
        RecalibError: for anything wrong with the job, its data or its folder, before training starts.
        WorkFailed: where the loss is not finite or the disk is full; the last good checkpoint stays.
    """
    check_trackers(job.track)
    job = job.resolved()
    fabric = launched(job.accelerator, job.devices, job.recipe.precision)
    torch.manual_seed(seed_for(job.recipe.seed))
    trainer = Trainer(fabric, job.open(fabric), job.recipe)
    folder = RunFolder(job.folder)
    try:
        with naming_the_dead(fabric, f"go on with: {_onwards(job)}"):
            patience = 2 * STALE if under_torchrun() else 0.0  # the processes before may not have ended yet
            begin = partial(folder.begin, job.config(), resume=resume, may_differ=MAY_DIFFER, today=upgraded)
            begun = from_first(fabric, lambda: begin(patience=patience))
            if begun:
                trainer.restore(folder.load())
            return _Run(job, trainer, folder, trainer.steps_done if begun else None, goes_on).go()
    finally:
        folder.end()


def _onwards(job: Job) -> str:
    return f"recalib {job.command} --config {job.folder / 'config.json'} --resume"


class _Run:
    """A trainer in its folder.

    Args:
        job: recipe, data and devices.
        trainer: the network and its progress.
        folder: where.
        resumed: the step it goes on from, None for one that begins.
        goes_on: asked after each epoch, in the first process.
    """

    def __init__(
        self, job: Job, trainer: Trainer, folder: RunFolder, resumed: int | None, goes_on: GoesOn | None = None
    ) -> None:
        self.job, self.trainer, self.task, self.folder = job, trainer, trainer.task, folder
        self.resumed, self.goes_on = resumed, goes_on
        self.first = trainer.fabric.is_global_zero  # the process that writes and speaks
        # an epoch's row has the step of its last one: where that epoch is still to be finished, the row is made again
        known = None if resumed is None else resumed - (trainer.step == trainer.steps_in_epoch)
        self.trackers = open_trackers(job.track, folder.path, job.config(), known) if self.first else []

    def go(self) -> Outcome:
        """Run to the end, or until asked to stop."""
        recipe, trainer = self.job.recipe, self.trainer
        epoch = recipe.batch * trainer.steps_in_epoch
        progress = Progress(recipe.epochs * epoch, trainer.steps_done * recipe.batch, shown=self.first, epoch=epoch)
        began, over = time.perf_counter(), trainer.epoch >= recipe.epochs
        try:
            with stop_on_signals() as stop, progress:
                self._introduce(progress)
                if self.resumed is None:
                    self._begin(progress)
                    self._save()  # so that there is something to go back to
                finished = self._rolling_back(stop, progress)
                if finished:
                    self._conclude(progress, None if over else time.perf_counter() - began)
        finally:
            for tracker in self.trackers:
                tracker.close()
        return self._outcome(finished, stop)

    def _introduce(self, progress: Progress) -> None:
        """Say and write down what is trained on what, where, and from where on."""
        job, trainer, fabric, facts = self.job, self.trainer, self.trainer.fabric, self.task.facts()
        recipe, parameters = job.recipe, [*trainer.network.parameters()]
        name = torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else str(fabric.device)
        counted = {
            "parameters": sum(p.numel() for p in parameters),
            "trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        }
        self.facts = {"task": job.task, **facts, **counted, "device": name, "processes": fabric.world_size}
        if self.first:
            self.folder.note(self.facts)
        progress.say(f"device: {name}, {fabric.world_size} process{'es' * (fabric.world_size > 1)}, {recipe.precision}")
        train, test = (
            f"{facts[f'{part}_images']:,} {text} images{_of(facts, part)}"
            for part, text in (("train", "training"), ("test", "test"))
        )
        aside = f", {facts['aside_images']:,} set aside" if facts.get("aside_images") else ""
        progress.say(f"data: {facts['dataset']} in {job.data}: {train}{aside}, {test}, {facts['classes']:,} classes")
        attention = recipe.attention or "no attention"
        trained = counted["trained_parameters"]
        some = f", {trained:,} of them trained" if trained < counted["parameters"] else ""
        progress.say(f"network: {recipe.model} with {attention}, {counted['parameters']:,} parameters{some}")
        progress.say(f"recipe: {job.preset}{_departures(job)}")
        progress.say(f"folder: {self.folder.path}, seed {recipe.seed}")
        if self.resumed is not None and trainer.epoch < recipe.epochs:
            progress.say(f"going on from epoch {trainer.epoch} of {recipe.epochs}, step {trainer.step}")
        if recipe.compile:
            progress.say("compiling: the first step of training and of evaluation takes minutes")

    def _conclude(self, progress: Progress, seconds: float | None) -> None:
        """Say what came of it, and what to do next."""
        if not self.first:
            return
        rows, score = read_metrics(self.folder.path), self.task.score
        tested = [row for row in rows if "train_loss" in row and "images" in row]
        last = tested[-1] if tested else {}
        figure = self.task.said(last[score]) if score in last else f"no {score}: nothing of the kind in the data"
        on = f" on {last['images']:,} images" if "images" in last else ""
        how = "was finished before" if seconds is None else f"finished in {_duration(seconds)}"
        progress.say(f"{how}, {self.job.recipe.epochs} epochs: {figure}{on}; {self.folder.path}")
        for reservation in reservations(self.job.config(), self.facts, last):
            progress.say(f"note: {reservation}")
        progress.say(f"next: {self.job.next_command()}")

    def _begin(self, progress: Progress) -> None:
        """Say what there is to know, and evaluate what was loaded."""
        for line in self.task.notes():
            progress.say(line)
        if self.task.evaluates_weights and self.job.recipe.weights is not None:
            metrics = {f"initialized_{name}": value for name, value in self.trainer.evaluate().items()}
            self._log(metrics)
            score = metrics[f"initialized_{self.task.score}"]
            progress.say(f"initialized: {self.task.said(score)}")

    def _log(self, metrics: Mapping[str, Any]) -> None:
        """A row for every tracker."""
        for tracker in self.trackers:
            tracker.log(self.trainer.steps_done, metrics)

    def _rolling_back(self, stop: StopRequest, progress: Progress) -> bool:
        while True:
            try:
                return self._epochs(stop, progress)
            except NotFiniteError:
                self._roll_back(progress)

    def _epochs(self, stop: StopRequest, progress: Progress) -> bool:
        trainer = self.trainer
        while trainer.epoch < self.job.recipe.epochs:
            progress.lap()
            for images in trainer.run_epoch():
                progress.advance(images)
                if self._pause(stop, progress):
                    return False
            if not self._finish_epoch(progress):
                return False
        return True

    def _pause(self, stop: StopRequest, progress: Progress) -> bool:
        """Check, tell, and save where it is time to; True where the run should end here."""
        trainer, every, rows = self.trainer, self.job.save_every, self.job.log_every
        looks = trainer.step % CHECK_EVERY == 0 or trainer.step == trainer.steps_in_epoch
        saves = every > 0 and trainer.step % every == 0
        stops = trainer.agree(bool(stop)) if looks or trainer.fabric.world_size == 1 else False
        if looks or saves or stops:
            trainer.check()
            progress.tell(trainer.loss)
        if rows > 0 and trainer.step % rows == 0 and trainer.step < trainer.steps_in_epoch:
            loss, rate = trainer.recent_loss(), progress.rate()
            about = {"epoch": trainer.epoch, "lr": trainer.optimizer.param_groups[0]["lr"]}
            self._log({**about, "step_loss": loss, "images_per_second": rate})  # before the checkpoint, as every row
        if saves or stops:
            self._save()
        return stops

    def _finish_epoch(self, progress: Progress) -> bool:
        """Evaluate, write and save; whether there shall be another epoch."""
        trainer, rate = self.trainer, progress.rate()
        metrics = trainer.finish_epoch()
        metrics["images_per_second"] = rate
        unreadable = self._all(self.task.unreadable)
        if unreadable:
            metrics["unreadable"] = unreadable
        if self.first:
            self._write("last", metrics)
            if self._is_best(metrics):
                self._write("best", metrics)
            self.task.finished_epoch(trainer.evaluated, self.folder.path, metrics["epoch"])
        self._log(metrics)  # before the checkpoint: rows after it are made again
        self._save()
        progress.say(self.task.line(metrics))
        for line in self.task.details() if self.task.score in metrics else []:
            progress.say(line)
        last = trainer.epoch >= self.job.recipe.epochs  # there is nothing to ask
        return last or not trainer.agree(self.first and self.goes_on is not None and not self.goes_on(metrics))

    def _write(self, name: str, metrics: Mapping[str, Any]) -> None:
        self.task.write(self.trainer.evaluated, self.folder.path / f"{name}.safetensors", metrics)

    def _is_best(self, metrics: Mapping[str, Any]) -> bool:
        """True for an epoch that beats all before it on the training images set aside; without those, none is best."""
        aside = f"holdout_{self.task.score}"
        rows = [row for row in read_metrics(self.folder.path) if aside in row]
        return aside in metrics and all(metrics[aside] > row[aside] for row in rows)

    def _best(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        score, aside = self.task.score, f"holdout_{self.task.score}"
        rows = [row for row in rows if aside in row]
        if not rows:
            return {}
        best = max(rows, key=lambda row: row[aside])
        return {"best_epoch": best["epoch"], f"best_{score}": best[score]}

    def _all(self, names: list[str]) -> list[str]:
        """Names from every process."""
        world = self.trainer.fabric.world_size
        found: list[list[str]] = [names] * world
        if world > 1:
            torch.distributed.all_gather_object(found, names)
        return sorted({name for some in found for name in some})

    def _roll_back(self, progress: Progress) -> None:
        trainer = self.trainer
        where = f"epoch {trainer.epoch}, step {trainer.step}"
        if self.job.on_nan == "stop" or trainer.attempt:
            again = ", again" if trainer.attempt else "; --on-nan rollback would go back to it once"
            raise WorkFailed(
                f"the loss is not finite at {where}{again}; {self.folder.state} is the last good checkpoint; "
                "a lower --lr or --clip 1 may help"
            )
        trainer.restore(self.folder.load())
        trainer.attempt = 1  # another order of the images, or the same would happen
        self._save()
        progress.say(f"the loss was not finite at {where}: back to epoch {trainer.epoch}, step {trainer.step}")

    def _save(self) -> None:
        state = self.trainer.state()  # all processes: it sums their totals
        if self.first:
            self.folder.save(state)

    def _outcome(self, finished: bool, stop: StopRequest) -> Outcome:
        trainer, path = self.trainer, self.folder.path
        rows = [row for row in read_metrics(path) if "train_loss" in row] if self.first else []
        metrics = {**rows[-1], **self._best(rows)} if rows else {}
        if metrics.get("unreadable"):
            names = metrics["unreadable"]
            print(f"{len(names)} images could not be read and were replaced: {', '.join(names[:10])}")
        name = stop.received.name if stop.received else "its caller" if self.goes_on else "another process"
        stopped = f"stopped by {name} at epoch {trainer.epoch}, step {trainer.step}; go on with: {_onwards(self.job)}"
        return Outcome(path, metrics, None if finished else stopped, self.first)


def _of(facts: Mapping[str, Any], part: str) -> str:
    """Number of images there would be, where only some are used."""
    there, used = facts[f"{part}_images_there"], facts[f"{part}_images"]
    return f" (of {there:,})" if used + facts.get("aside_images", 0) * (part == "train") < there else ""


def _departures(job: Job) -> str:
    """Settings that differ from those of the recipe it was made from."""
    made_from = job.preset_recipe()
    if made_from is None:
        return ""
    theirs, ours = plain(asdict(made_from)), plain(asdict(job.recipe))
    other = [f"{key} {_word(ours[key])} (not {_word(theirs[key])})" for key in ours
             if ours[key] != theirs[key] and theirs[key] is not None and key != "seed"]  # fmt: skip
    more = [f"{key} {_word(ours[key])}" for key in ours if ours[key] != theirs[key] and theirs[key] is None]
    return f", with {', '.join(other + more)}" if other or more else ""


def _word(value: Any) -> str:
    return " ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
