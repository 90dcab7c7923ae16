"""A long job from its folder to its result: started, checkpointed, stopped, resumed, rolled back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from lightning_fabric import Fabric

from recalib.errors import WorkFailed
from recalib.runs.folder import RunFolder
from recalib.runs.progress import Progress
from recalib.runs.signals import StopRequest, stop_on_signals
from recalib.runs.trackers import open_trackers, read_metrics

CHECK_EVERY = 10  # steps between looks at the loss and at the other processes' signals: both wait for the device


class NotFiniteError(Exception):
    """The loss became NaN or infinite."""


class Trainee(Protocol):
    """What is trained, and how far it has come."""

    fabric: Fabric
    epoch: int
    step: int
    attempt: int

    @property
    def steps_in_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        ...

    @property
    def steps_done(self) -> int:
        """Optimizer steps since the beginning."""
        ...

    @property
    def unreadable(self) -> list[str]:
        """Images that this process could not read so far."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave."""
        ...

    def run_epoch(self) -> Iterator[int]:
        """Train to the end of the epoch; yields the images of every step."""
        ...

    def finish_epoch(self) -> dict[str, Any]:
        """Evaluate, begin the next epoch, and return the metrics of this one."""
        ...

    def check(self) -> None:
        """Raise NotFiniteError where the loss of the steps so far is not finite."""
        ...

    def agree(self, flag: bool) -> bool:
        """Whether any process raises the flag."""
        ...


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


class Lifecycle:
    """A trainee in its folder; subclasses say what is printed and which weights are written.

    Args:
        job: with the fields ``recipe`` (epochs and batch among its own), ``track``, ``save_every`` and ``on_nan``, and
            the method ``config``.
        trainee: what is trained.
        folder: where.
        resumed: the step it goes on from, None for one that begins.
    """

    command: ClassVar[str]
    score: ClassVar[str]

    def __init__(self, job: Any, trainee: Trainee, folder: RunFolder, resumed: int | None) -> None:
        self.job, self.trainee, self.folder, self.resumed = job, trainee, folder, resumed
        self.first = trainee.fabric.is_global_zero  # the process that writes and speaks
        self.trackers = open_trackers(job.track, folder.path, job.config(), resumed) if self.first else []

    def begin(self, progress: Progress) -> None:
        """What there is to do before the first step."""

    def write_weights(self, name: str, metrics: Mapping[str, Any]) -> None:
        """Write the weights to use, under a name in the folder."""
        raise NotImplementedError

    def finished_epoch(self, metrics: Mapping[str, Any]) -> None:
        """What else there is to do after an epoch."""

    def line(self, metrics: Mapping[str, Any]) -> str:
        """What is said of an epoch."""
        raise NotImplementedError

    def go(self) -> Outcome:
        """Run to the end, or until asked to stop."""
        recipe, trainee = self.job.recipe, self.trainee
        images = recipe.epochs * recipe.batch * trainee.steps_in_epoch
        progress = Progress(images, trainee.steps_done * recipe.batch, shown=self.first)
        try:
            with stop_on_signals() as stop, progress:
                if self.resumed is None:
                    self.begin(progress)
                    self._save()  # so that there is something to go back to
                finished = self._rolling_back(stop, progress)
        finally:
            for tracker in self.trackers:
                tracker.close()
        return self._outcome(finished, stop)

    def log(self, metrics: Mapping[str, Any]) -> None:
        """A row for every tracker."""
        for tracker in self.trackers:
            tracker.log(self.trainee.steps_done, metrics)

    def _rolling_back(self, stop: StopRequest, progress: Progress) -> bool:
        while True:
            try:
                return self._epochs(stop, progress)
            except NotFiniteError:
                self._roll_back(progress)

    def _epochs(self, stop: StopRequest, progress: Progress) -> bool:
        trainee = self.trainee
        while trainee.epoch < self.job.recipe.epochs:
            progress.lap()
            for images in trainee.run_epoch():
                progress.advance(images)
                if self._pause(stop):
                    return False
            self._finish_epoch(progress)
        return True

    def _pause(self, stop: StopRequest) -> bool:
        """Check, and save where it is time to; True where the run should end here."""
        trainee, every = self.trainee, self.job.save_every
        looks = trainee.step % CHECK_EVERY == 0 or trainee.step == trainee.steps_in_epoch
        saves = every > 0 and trainee.step % every == 0
        stops = trainee.agree(bool(stop)) if looks or trainee.fabric.world_size == 1 else False
        if looks or saves or stops:
            trainee.check()
        if saves or stops:
            self._save()
        return stops

    def _finish_epoch(self, progress: Progress) -> None:
        trainee, rate = self.trainee, progress.rate()
        metrics: dict[str, Any] = trainee.finish_epoch()
        metrics["images_per_second"] = rate
        unreadable = self._all(trainee.unreadable)
        if unreadable:
            metrics["unreadable"] = unreadable
        if self.first:
            self.write_weights("last", metrics)
            if self._is_best(metrics):
                self.write_weights("best", metrics)
            self.finished_epoch(metrics)
        self.log(metrics)  # before the checkpoint: rows after it are made again
        self._save()
        progress.say(self.line(metrics))

    def _is_best(self, metrics: Mapping[str, Any]) -> bool:
        """Whether an epoch beats those before it on the training images set aside; without those, none is best."""
        aside = f"holdout_{self.score}"
        rows = [row for row in read_metrics(self.folder.path) if aside in row]
        return aside in metrics and all(metrics[aside] > row[aside] for row in rows)

    def _best(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        aside = f"holdout_{self.score}"
        if aside not in rows[-1]:
            return {}
        best = max((row for row in rows if aside in row), key=lambda row: row[aside])
        return {"best_epoch": best["epoch"], f"best_{self.score}": best[self.score]}

    def _all(self, names: list[str]) -> list[str]:
        """Names from every process."""
        world = self.trainee.fabric.world_size
        found: list[list[str]] = [names] * world
        if world > 1:
            torch.distributed.all_gather_object(found, names)
        return sorted({name for some in found for name in some})

    def _roll_back(self, progress: Progress) -> None:
        trainee = self.trainee
        where = f"epoch {trainee.epoch}, step {trainee.step}"
        if self.job.on_nan == "stop" or trainee.attempt:
            again = ", again" if trainee.attempt else "; --on-nan rollback would go back to it once"
            raise WorkFailed(
                f"the loss is not finite at {where}{again}; {self.folder.state} is the last good checkpoint; "
                "a lower --lr or --clip 1 may help"
            )
        trainee.restore(self.folder.load())
        trainee.attempt = 1  # another order of the images, or the same would happen
        self._save()
        progress.say(f"the loss was not finite at {where}: back to epoch {trainee.epoch}, step {trainee.step}")

    def _save(self) -> None:
        state = self.trainee.state()  # all processes: it sums their totals
        if self.first:
            self.folder.save(state)

    def _outcome(self, finished: bool, stop: StopRequest) -> Outcome:
        trainee, path = self.trainee, self.folder.path
        rows = read_metrics(path) if self.first else []
        metrics = {**rows[-1], **self._best(rows)} if rows else {}
        if metrics.get("unreadable"):
            names = metrics["unreadable"]
            print(f"{len(names)} images could not be read and were replaced: {', '.join(names[:10])}")
        name = stop.received.name if stop.received else "another process"
        stopped = (
            f"stopped by {name} at epoch {trainee.epoch}, step {trainee.step}; "
            f"go on with: recalib {self.command} --config {path / 'config.json'} --resume"
        )
        return Outcome(path, metrics, None if finished else stopped, self.first)
