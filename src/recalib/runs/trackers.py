"""Trackers of a run under way: always metrics.jsonl, and live ones where asked for."""

import importlib
import json
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from recalib.errors import RecalibError, WorkFailed, require_packages, unknown
from recalib.runs.atomic import write_text
from recalib.runs.folder import flat

METRICS = "metrics.jsonl"
PROJECT = "recalib"  # what trackers that sort runs by projects call ours


class TrackerDown(RecalibError):
    """A tracker does not answer when a run begins."""


class Tracker(Protocol):
    """Takes a row of metrics at a step."""

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Record one row."""
        ...

    def close(self) -> None:
        """Flush and let go."""
        ...


class JsonLines:
    """metrics.jsonl: one row a line, on disk before `log` returns; rows after a resumed step are dropped first.

    Args:
        path: the file.
        step: that of the checkpoint the run goes on from, None for a beginning. Later rows are the future of a run
            that was killed, and will be made again.
    """

    def __init__(self, path: Path, step: int | None) -> None:
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if step is not None and _step(line) <= step]
            write_text(path, "".join(f"{line}\n" for line in kept))
        self.file = path.open("ab", buffering=0)  # nothing is left to fail when it is closed

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Append a row and flush it to the disk.

        Raises:
            WorkFailed: where the disk is full.
        """
        try:
            self.file.write((json.dumps({"step": step, **metrics}) + "\n").encode())
            os.fsync(self.file.fileno())
        except OSError as error:
            raise WorkFailed(f"{self.file.name} could not be written: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class TensorBoard:
    """Scalars for TensorBoard under ``tensorboard/``; a resumed run's later ones are purged as TensorBoard does it.

    Args:
        folder: the run's folder.
        step: that of the checkpoint the run goes on from, None for a beginning.
    """

    module = "torch.utils.tensorboard"

    def __init__(self, folder: Path, _config: Mapping[str, Any], step: int | None) -> None:
        first = 0 if step is None else step + 1
        writer = importlib.import_module(self.module).SummaryWriter
        self.writer = writer(str(folder / "tensorboard"), purge_step=first)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Record every number of a row; in the file before this returns."""
        for name, value in metrics.items():
            if isinstance(value, int | float):
                self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        """Flush the writer."""
        self.writer.close()


class WeightsAndBiases:
    """A W&B run under the folder's name; WANDB_MODE=offline keeps it on this machine.

    W&B cannot go on with an offline run, and loses what a killed one had not written. So whatever of metrics.jsonl a
    run lacks when it is opened it is given then, and offline files of before, which hold no more, are removed.

    Args:
        folder: the run's folder; ``wandb-id`` in it holds the W&B run's id.
        config: shown with the run.

    Raises:
        RecalibError: where W&B refuses, such as for want of an account.
    """

    module = "wandb"

    def __init__(self, folder: Path, config: Mapping[str, Any], _step: int | None) -> None:
        wandb = importlib.import_module(self.module)
        for before in folder.glob("wandb/offline-run-*"):
            shutil.rmtree(before)
        about = {"project": PROJECT, "name": _title(folder), "config": dict(config), "dir": str(folder)}
        try:
            self.run = wandb.init(**about, id=_own_id(folder, "wandb"), resume="allow")
        except wandb.Error as error:
            reason = str(error).splitlines()[0]
            raise TrackerDown(f"--track wandb: {reason} WANDB_MODE=offline needs no account") from None
        for row in read_metrics(folder):
            self.log(row.pop("step"), row)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Record a row, unless W&B has it from before a kill."""
        if step >= self.run.starting_step:
            self.run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Finish the run."""
        self.run.finish()


class MLflow:
    """An MLflow run in the experiment ``recalib``, on the server that MLFLOW_TRACKING_URI names.

    The run holds how many rows it has been given, in a tag that is written with them. So rows that a kill made again,
    or that the server missed while it was down, are given once.

    Args:
        folder: the run's folder; ``mlflow-id`` in it holds the MLflow run's id.
        config: shown as parameters.

    Raises:
        RecalibError: where the server does not answer, or does not know the run.
    """

    module = "mlflow"
    tag = "recalib.rows"

    def __init__(self, folder: Path, config: Mapping[str, Any], _step: int | None) -> None:
        for name, value in (("MAX_RETRIES", "1"), ("TIMEOUT", "10")):  # MLflow's own wait for many minutes
            os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{name}", value)
        mlflow = importlib.import_module(self.module)
        self.entities, known = mlflow.entities, folder / "mlflow-id"
        try:
            self.client = mlflow.MlflowClient()
            if not known.exists():
                write_text(known, self._begun(_title(folder), config))
            self.id = known.read_text()
            self.given = int(self.client.get_run(self.id).data.tags.get(self.tag, 0))
        except Exception as error:  # requests', MLflow's and the store's own
            uri = mlflow.get_tracking_uri()
            raise TrackerDown(f"--track mlflow: {uri}: {_line(error)}; MLFLOW_TRACKING_URI names the server") from None
        self.seen = 0
        for row in read_metrics(folder):
            self.log(row.pop("step"), row)

    def _begun(self, title: str, config: Mapping[str, Any]) -> str:
        experiment = self.client.get_experiment_by_name(PROJECT)
        place = experiment.experiment_id if experiment else self.client.create_experiment(PROJECT)
        run = self.client.create_run(place, run_name=title).info.run_id
        params = [self.entities.Param(name, str(value)[:500]) for name, value in flat(config).items()]
        self.client.log_batch(run, params=params)
        return str(run)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Record every number of a row, unless MLflow has it from before a kill."""
        if self.seen >= self.given:
            now = int(time.time() * 1000)
            numbers = {k: v for k, v in metrics.items() if isinstance(v, int | float)}
            rows = [self.entities.Metric(name, float(value), now, step) for name, value in numbers.items()]
            self.client.log_batch(self.id, rows, tags=[self.entities.RunTag(self.tag, str(self.seen + 1))])
        self.seen += 1

    def close(self) -> None:
        """Say that the run has ended."""
        self.client.set_terminated(self.id)


class Trackio:
    """A trackio run in the project ``recalib``: on this machine, or where TRACKIO_SERVER_URL or TRACKIO_SPACE_ID say.

    Trackio cannot tell what it has of a run, and loses what a killed one had not written. So a run that is gone on with
    is given anew, whole.

    Args:
        folder: the run's folder; ``trackio-id`` in it makes the name unique.
        config: shown with the run.

    Raises:
        RecalibError: where trackio refuses.
    """

    module = "trackio"

    def __init__(self, folder: Path, config: Mapping[str, Any], step: int | None) -> None:
        trackio = importlib.import_module(self.module)
        name = f"{_title(folder)}-{_own_id(folder, 'trackio')}"
        try:
            if step is not None:  # else the project may not be there yet
                for before in trackio.Api().runs(PROJECT):
                    if before.name == name:
                        before.delete()
            about = {"config": flat(config), "embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
            self.run = trackio.init(PROJECT, name=name, **about)
        except Exception as error:  # its own, the store's and the server's
            raise TrackerDown(f"--track trackio: {_line(error)}") from None
        for row in read_metrics(folder):
            self.log(row.pop("step"), row)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Record a row."""
        self.run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Finish the run."""
        self.run.finish()


class Patient:
    """A live tracker that may be down: its rows wait, and the run goes on.

    Args:
        name: the tracker's.
        tracker: that may fail.
        pause: seconds between attempts to reach one that failed.
    """

    def __init__(self, name: str, tracker: Tracker, pause: float = 60.0) -> None:
        self.name, self.tracker, self.pause = name, tracker, pause
        self.waiting: deque[tuple[int, Mapping[str, Any]]] = deque()
        self.failed: float | None = None  # when

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Record a row, and those that wait before it; say once that the tracker is down."""
        self.waiting.append((step, metrics))
        if self.failed is None or time.monotonic() - self.failed >= self.pause:
            self._flush()

    def close(self) -> None:
        """Record what waits, and let go."""
        self._flush()
        try:
            self.tracker.close()
        except Exception as error:  # whatever a tracker raises, the run is over and its rows are on disk
            self._say(error)

    def _flush(self) -> None:
        try:
            while self.waiting:
                self.tracker.log(*self.waiting[0])
                self.waiting.popleft()
            self.failed = None
        except Exception as error:  # whatever a tracker raises, it must not end a training
            if self.failed is None:
                self._say(error)
            self.failed = time.monotonic()

    def _say(self, error: Exception) -> None:
        kept = f"all rows are in {METRICS}, --resume sends them again"
        print(f"--track {self.name}: {_line(error)}; {kept}", file=sys.stderr)


TRACKERS: dict[str, type[TensorBoard] | type[WeightsAndBiases] | type[MLflow] | type[Trackio]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
    "trackio": Trackio,
}


def check_trackers(names: tuple[str, ...]) -> None:
    """Refuse, before anything is begun, what `open_trackers` would.

    Raises:
        RecalibError: for an unknown tracker, or one whose package is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise unknown("tracker", name, TRACKERS)
        extra = "trackio" if name == "trackio" else "track"
        require_packages((name,), extra, f"--track {name}")


def open_trackers(names: tuple[str, ...], folder: Path, config: Mapping[str, Any], step: int | None) -> list[Tracker]:
    """metrics.jsonl and the trackers asked for.

    Args:
        names: some of `TRACKERS`.
        folder: the run's folder.
        config: for trackers that show it.
        step: that of the checkpoint the run goes on from, None for a beginning.
    """
    lines = JsonLines(folder / METRICS, step)
    try:
        return [lines, *(Patient(name, TRACKERS[name](folder, config, step)) for name in names)]
    except BaseException:
        lines.close()
        raise


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Rows of a run's metrics.jsonl, oldest first; none where it has not begun. A line cut short by a kill is none."""
    file = folder / METRICS
    rows = []
    for line in file.read_text().splitlines() if file.exists() else []:
        with suppress(ValueError):
            rows.append(json.loads(line))
    return rows


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line cut short by the kill


def _title(folder: Path) -> str:
    """Name of a run: its folder's, and of a sweep's trial the sweep's too."""
    return f"{folder.parent.parent.name}-{folder.name}" if folder.parent.name == "trials" else folder.name


def _own_id(folder: Path, tracker: str) -> str:
    """An id of this run's own, the same whenever it is gone on with."""
    known = folder / f"{tracker}-id"
    if not known.exists():
        write_text(known, uuid4().hex[:8])
    return known.read_text()


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
