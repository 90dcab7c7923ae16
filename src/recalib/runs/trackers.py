"""Where metrics go while a run is under way: always metrics.jsonl, and TensorBoard or W&B where asked for."""

import importlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from recalib.errors import RecalibError, WorkFailed, require_packages, unknown
from recalib.runs.atomic import write_text

METRICS = "metrics.jsonl"


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
        known = folder / "wandb-id"
        if not known.exists():
            write_text(known, uuid4().hex[:8])
        for before in folder.glob("wandb/offline-run-*"):
            shutil.rmtree(before)
        about = {"project": "recalib", "name": folder.name, "config": dict(config), "dir": str(folder)}
        try:
            self.run = wandb.init(**about, id=known.read_text(), resume="allow")
        except wandb.Error as error:
            reason = str(error).splitlines()[0]
            raise RecalibError(f"--track wandb: {reason} WANDB_MODE=offline needs no account") from None
        for row in read_metrics(folder):
            self.log(row.pop("step"), row)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Record a row, unless W&B has it from before a kill."""
        if step >= self.run.starting_step:
            self.run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Finish the run."""
        self.run.finish()


TRACKERS: dict[str, type[TensorBoard] | type[WeightsAndBiases]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


def check_trackers(names: tuple[str, ...]) -> None:
    """Refuse, before anything is begun, what `open_trackers` would.

    Raises:
        RecalibError: for an unknown tracker, or one whose package is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise unknown("tracker", name, TRACKERS)
        require_packages((name,), "track", f"--track {name}")


def open_trackers(names: tuple[str, ...], folder: Path, config: Mapping[str, Any], step: int | None) -> list[Tracker]:
    """metrics.jsonl and the trackers asked for.

    Args:
        names: of `TRACKERS`.
        folder: the run's folder.
        config: for trackers that show it.
        step: that of the checkpoint the run goes on from, None for a beginning.
    """
    return [JsonLines(folder / METRICS, step), *[TRACKERS[name](folder, config, step) for name in names]]


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Rows of a run's metrics.jsonl, oldest first; none where it has not begun. A line cut short by a kill is none."""
    file = folder / METRICS
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line) for line in lines if _step(line) < float("inf")]


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line cut short by the kill
