"""A job from its folder to its result: started, checkpointed, stopped, resumed, rolled back."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from recalib.data import seed_for
from recalib.errors import RecalibError, WorkFailed
from recalib.runs import RunFolder, StopRequest, check_trackers, open_trackers, read_metrics, stop_on_signals
from recalib.training.feeds import open_feeds, resolved
from recalib.training.job import MAY_DIFFER, Job
from recalib.training.loop import NotFiniteError, Training
from recalib.training.network import build_network, write_network
from recalib.training.progress import Progress

CHECK_EVERY = 10  # steps between looks at the loss and at the other processes' signals: both wait for the device


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        folder: its folder.
        metrics: of its last epoch: top1, top5 and loss on the test set, ..., and, with a holdout, of the epoch that is
            best on it: ``best_epoch`` and ``best_top1``, on the test set; empty in all processes but the first, and
            where no epoch was finished.
        stopped: where it was asked to stop before its end: where that was, and how to go on.
        first: whether this is the process that speaks for all.
    """

    folder: Path
    metrics: dict[str, Any]
    stopped: str | None
    first: bool


def run(job: Job, *, resume: bool = False) -> Outcome:
    """Train as a job says.

    Args:
        job: recipe, data, folder, devices.
        resume: go on from the run's last checkpoint, where it has one.

    Raises:
        RecalibError: for anything wrong with the job, its data or its folder, before training starts.
        WorkFailed: where the loss is not finite or the disk is full; the last good checkpoint stays.
    """
    check_trackers(job.track)
    job = resolved(job)
    fabric = launched(job)
    feeds = open_feeds(job, fabric.device, (fabric.global_rank, fabric.world_size))
    torch.manual_seed(seed_for(job.recipe.seed))
    training = Training(fabric, build_network(job.recipe, len(feeds.classes)), job.recipe, feeds)
    folder = RunFolder(job.folder)
    first = fabric.is_global_zero
    begun = fabric.broadcast(first and folder.begin(job.config(), resume=resume, may_differ=MAY_DIFFER))
    if begun:
        training.restore(folder.load())
    return _Run(job, training, folder, training.steps_done if begun else None).go()


def launched(job: Job) -> Fabric:
    """Device, precision and processes of a job; from here on every process runs.

    Raises:
        RecalibError: for a device that this machine does not have.
    """
    strategy = "ddp" if job.devices > 1 else "auto"
    try:
        fabric = Fabric(
            accelerator=job.accelerator, strategy=strategy, devices=job.devices, precision=job.recipe.precision
        )
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise RecalibError(f"accelerator {job.accelerator!r}, devices {job.devices}: {reason}") from None
    fabric.launch()
    return fabric


class _Run:
    """A training in its folder; ``resumed`` is the step it goes on from, None for one that begins."""

    def __init__(self, job: Job, training: Training, folder: RunFolder, resumed: int | None) -> None:
        self.job, self.training, self.folder, self.resumed = job, training, folder, resumed
        self.first = training.fabric.is_global_zero  # the process that writes and speaks
        self.trackers = open_trackers(job.track, folder.path, job.config(), resumed) if self.first else []

    def go(self) -> Outcome:
        recipe, training = self.job.recipe, self.training
        images = recipe.epochs * recipe.batch * len(training.feeds.train)
        progress = Progress(images, training.steps_done * recipe.batch, shown=self.first)
        try:
            with stop_on_signals() as stop, progress:
                if self.resumed is None:
                    self._begin(progress)
                finished = self._rolling_back(stop, progress)
        finally:
            for tracker in self.trackers:
                tracker.close()
        return self._outcome(finished, stop)

    def _begin(self, progress: Progress) -> None:
        """Evaluate what was loaded, and write the first checkpoint, so that there is something to go back to."""
        if self.job.recipe.weights is not None:
            metrics = {f"initialized_{name}": value for name, value in self.training.evaluate().items()}
            self._log(metrics)
            progress.say(f"initialized: top-1 {metrics['initialized_top1']:.2f} %")
        self._save()

    def _rolling_back(self, stop: StopRequest, progress: Progress) -> bool:
        while True:
            try:
                return self._epochs(stop, progress)
            except NotFiniteError:
                self._roll_back(progress)

    def _epochs(self, stop: StopRequest, progress: Progress) -> bool:
        training = self.training
        while training.epoch < self.job.recipe.epochs:
            progress.lap()
            for images in training.run_epoch():
                progress.advance(images)
                if self._pause(stop):
                    return False
            self._finish_epoch(progress)
        return True

    def _pause(self, stop: StopRequest) -> bool:
        """Check, and save where it is time to; True where the run should end here."""
        training, every = self.training, self.job.save_every
        looks = training.step % CHECK_EVERY == 0 or training.step == len(training.feeds.train)
        saves = every > 0 and training.step % every == 0
        stops = training.agree(bool(stop)) if looks or training.fabric.world_size == 1 else False
        if looks or saves or stops:
            training.check()
        if saves or stops:
            self._save()
        return stops

    def _finish_epoch(self, progress: Progress) -> None:
        training, best, rate = self.training, self.training.best, progress.rate()
        metrics: dict[str, Any] = training.finish_epoch()
        metrics["images_per_second"] = rate
        unreadable = self._all(training.feeds.unreadable)
        if unreadable:
            metrics["unreadable"] = unreadable
        self._save_weights("last", metrics)
        if training.best > best:
            self._save_weights("best", metrics)
        self._log(metrics)  # before the checkpoint: rows after it are made again
        self._save()
        progress.say(
            f"epoch {metrics['epoch']}: train loss {metrics['train_loss']:.4f}, top-1 {metrics['train_top1']:.2f} %; "
            f"test loss {metrics['loss']:.4f}, top-1 {metrics['top1']:.2f} %; {rate:,.0f} images/s"
        )

    def _all(self, names: list[str]) -> list[str]:
        """Names from every process."""
        world = self.training.fabric.world_size
        found: list[list[str]] = [names] * world
        if world > 1:
            torch.distributed.all_gather_object(found, names)
        return sorted({name for some in found for name in some})

    def _roll_back(self, progress: Progress) -> None:
        training = self.training
        where = f"epoch {training.epoch}, step {training.step}"
        if self.job.on_nan == "stop" or training.attempt:
            again = ", again" if training.attempt else "; --on-nan rollback would go back to it once"
            raise WorkFailed(
                f"the loss is not finite at {where}{again}; {self.folder.state} is the last good checkpoint; "
                "a lower --lr or --clip 1 may help"
            )
        training.restore(self.folder.load())
        training.attempt = 1  # another order of the images, or the same would happen
        self._save()
        progress.say(f"the loss was not finite at {where}: back to epoch {training.epoch}, step {training.step}")

    def _log(self, metrics: Mapping[str, Any]) -> None:
        for tracker in self.trackers:
            tracker.log(self.training.steps_done, metrics)

    def _save(self) -> None:
        state = self.training.state()  # all processes: it sums their totals
        if self.first:
            self.folder.save(state)

    def _save_weights(self, name: str, metrics: Mapping[str, Any]) -> None:
        if self.first:
            job, training = self.job, self.training
            about = {"dataset": job.recipe.dataset, "preset": job.preset, "classes": list(training.feeds.classes)}
            about |= {key: metrics[key] for key in ("epoch", "top1", "top5")}
            write_network(training.evaluated, job.recipe, self.folder.path / f"{name}.safetensors", **about)

    def _outcome(self, finished: bool, stop: StopRequest) -> Outcome:
        training, path = self.training, self.folder.path
        rows = read_metrics(path) if self.first else []
        metrics = {**rows[-1], **_chosen(rows)} if rows else {}
        if metrics.get("unreadable"):
            names = metrics["unreadable"]
            print(f"{len(names)} images could not be read and were replaced: {', '.join(names[:10])}")
        name = stop.received.name if stop.received else "another process"
        stopped = (
            f"stopped by {name} at epoch {training.epoch}, step {training.step}; "
            f"go on with: recalib train --config {path / 'config.json'} --resume"
        )
        return Outcome(path, metrics, None if finished else stopped, self.first)


def _chosen(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The epoch that is best on the images set aside, and its accuracy on the test set; nothing without a holdout."""
    if "holdout_top1" not in rows[-1]:
        return {}
    row = max(rows, key=lambda row: row["holdout_top1"])
    return {"best_epoch": row["epoch"], "best_top1": row["top1"]}
