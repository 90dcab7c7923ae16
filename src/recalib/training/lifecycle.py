"""A run from its folder to its result: started, checkpointed, stopped, resumed, rolled back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recalib.data import seed_for
from recalib.errors import WorkFailed
from recalib.runs.folder import RunFolder
from recalib.runs.progress import Progress
from recalib.runs.signals import StopRequest, stop_on_signals
from recalib.runs.trackers import check_trackers, open_trackers, read_metrics
from recalib.training.job import MAY_DIFFER, Job, upgraded
from recalib.training.processes import launched
from recalib.training.trainer import NotFiniteError, Trainer

CHECK_EVERY = 10  # steps between looks at the loss and at the other processes' signals: both wait for the device

GoesOn = Callable[[Mapping[str, Any]], bool]  # an epoch's metrics -> whether there shall be another


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        folder: its folder.
        metrics: of its last epoch and, where training images were set aside, ``best_epoch``, the one that is best on
            them, with its score; empty in all processes but the first, and where no epoch was finished.
        stopped: where it was asked to stop before its end: where that was, and how to go on.
        first: whether this is the process that speaks for all.
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
    begin = fabric.is_global_zero and folder.begin(job.config(), resume=resume, may_differ=MAY_DIFFER, today=upgraded)
    begun = fabric.broadcast(begin)
    if begun:
        trainer.restore(folder.load())
    return _Run(job, trainer, folder, trainer.steps_done if begun else None, goes_on).go()


class _Run:
    """A trainer in its folder.

    Args:
        job: what is trained.
        trainer: how far it has come.
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
        self.trackers = open_trackers(job.track, folder.path, job.config(), resumed) if self.first else []

    def go(self) -> Outcome:
        """Run to the end, or until asked to stop."""
        recipe, trainer = self.job.recipe, self.trainer
        images = recipe.epochs * recipe.batch * trainer.steps_in_epoch
        progress = Progress(images, trainer.steps_done * recipe.batch, shown=self.first)
        try:
            with stop_on_signals() as stop, progress:
                if self.resumed is None:
                    self._begin(progress)
                    self._save()  # so that there is something to go back to
                finished = self._rolling_back(stop, progress)
        finally:
            for tracker in self.trackers:
                tracker.close()
        return self._outcome(finished, stop)

    def _begin(self, progress: Progress) -> None:
        """Say what there is to know, and evaluate what was loaded."""
        for line in self.task.notes():
            progress.say(line)
        if self.task.evaluates_weights and self.job.recipe.weights is not None:
            metrics = {f"initialized_{name}": value for name, value in self.trainer.evaluate().items()}
            self._log(metrics)
            score = metrics[f"initialized_{self.task.score}"]
            progress.say(f"initialized: {self.task.shown(score)}")

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
                if self._pause(stop):
                    return False
            if not self._finish_epoch(progress):
                return False
        return True

    def _pause(self, stop: StopRequest) -> bool:
        """Check, and save where it is time to; True where the run should end here."""
        trainer, every = self.trainer, self.job.save_every
        looks = trainer.step % CHECK_EVERY == 0 or trainer.step == trainer.steps_in_epoch
        saves = every > 0 and trainer.step % every == 0
        stops = trainer.agree(bool(stop)) if looks or trainer.fabric.world_size == 1 else False
        if looks or saves or stops:
            trainer.check()
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
        return not trainer.agree(self.first and self.goes_on is not None and not self.goes_on(metrics))

    def _write(self, name: str, metrics: Mapping[str, Any]) -> None:
        self.task.write(self.trainer.evaluated, self.folder.path / f"{name}.safetensors", metrics)

    def _is_best(self, metrics: Mapping[str, Any]) -> bool:
        """Whether an epoch beats those before it on the training images set aside; without those, none is best."""
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
        rows = read_metrics(path) if self.first else []
        metrics = {**rows[-1], **self._best(rows)} if rows else {}
        if metrics.get("unreadable"):
            names = metrics["unreadable"]
            print(f"{len(names)} images could not be read and were replaced: {', '.join(names[:10])}")
        name = stop.received.name if stop.received else "its caller" if self.goes_on else "another process"
        stopped = (
            f"stopped by {name} at epoch {trainer.epoch}, step {trainer.step}; "
            f"go on with: recalib {self.job.command} --config {path / 'config.json'} --resume"
        )
        return Outcome(path, metrics, None if finished else stopped, self.first)
