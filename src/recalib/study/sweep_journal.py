"""A sweep's study on disk: an Optuna journal that many workers share, and who of them is alive.

A trial has an index, which decides what it tries, and one attempt after another until it has ended: an attempt whose
worker died is given up, and the next one goes on from its checkpoint. Each attempt is a trial of the Optuna study.
"""

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import optuna
import torch
from optuna.distributions import BaseDistribution
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from recalib.errors import RecalibError, WorkFailed
from recalib.study.sweep_search import End, Past

NAME = "sweep"
JOURNAL = "journal.log"


@dataclass(frozen=True)
class Attempt:
    """An attempt at a trial.

    Attributes:
        id: in the journal.
        index: of the trial.
        count: of attempts at it, this one included.
        worker: who makes it.
        past: what is tried, how it ended, values and curve.
        given_up: whether its worker died or let go of it, so that another attempt has to be made.
        facts: what else is to be kept: the error of a failed one, seconds, epochs.
    """

    id: int
    index: int
    count: int
    worker: str
    past: Past
    given_up: bool
    facts: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """Name of its run's folder."""
        return f"{self.index:04}" + (f".{self.count}" if self.count > 1 else "")


def begun(folder: Path) -> bool:
    """Decide whether a folder holds a sweep."""
    return (folder / JOURNAL).exists()


class TakenOver(Exception):
    """The attempt was given up, and its trial is another worker's now."""


class Journal:
    """The study's journal.

    Args:
        folder: of the sweep.
        settings: everything that decides results, as JSON.
        directions: of the metrics, minimize or maximize.
        join: go on with a study that is there.

    Attributes:
        threads: of the process that began it; sums of another number of threads differ in their last digits.

    Raises:
        RecalibError: where a study is there and ``join`` is false, or it has other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], directions: Sequence[str], *, join: bool) -> None:
        self.folder = folder
        file = folder / JOURNAL
        if begun(folder) and not join:
            raise RecalibError(f"{folder} holds a sweep already; add --join to go on with it or work beside it")
        folder.mkdir(parents=True, exist_ok=True)
        backend = JournalFileBackend(str(file), _JournalLock(file))
        with self.locked():
            try:
                self.storage = optuna.storages.JournalStorage(backend)
                known = {study.study_name for study in self.storage.get_all_studies()}
                if NAME not in known:
                    self.study = self.storage.create_new_study([_DIRECTIONS[d] for d in directions], NAME)
                    self.storage.set_study_user_attr(self.study, "settings", dict(settings))
                    self.storage.set_study_user_attr(self.study, "threads", torch.get_num_threads())
            except (ValueError, KeyError) as error:
                raise RecalibError(f"{file} is no journal of a sweep: {' '.join(str(error).split())}") from None
        self.study = self.storage.get_study_id_from_name(NAME)
        noted = self.storage.get_study_user_attrs(self.study)
        self.threads: int = noted["threads"]
        _same(folder, noted["settings"], json.loads(json.dumps(settings)))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone among all workers: to look and then claim."""
        with (self.folder / "claims.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def attempts(self) -> list[Attempt]:
        """The last attempt at each trial, in the order of the trials."""
        last: dict[int, Attempt] = {}
        for trial in self.storage.get_all_trials(self.study, deepcopy=False):
            attempt = _attempt(trial)
            last[attempt.index] = attempt
        return [last[index] for index in sorted(last)]

    def begin(
        self, index: int, drawn: Mapping[str, Any], space: Mapping[str, BaseDistribution], worker: str, count: int
    ) -> Attempt:
        """Note a new attempt; called under `locked`.

        Args:
            index: of the trial.
            drawn: what it tries.
            space: of the parameters.
            worker: who makes it.
            count: of attempts at it, this one included.
        """
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=dict(drawn),
            distributions=dict(space),
            user_attrs={"index": index, "count": count, "worker": worker},
        )
        number = self.storage.create_new_trial(self.study, template_trial=trial)
        return _attempt(self.storage.get_trial(number))

    def report(self, attempt: Attempt, epoch: int, value: float) -> None:
        """Note the metric after an epoch.

        Raises:
            TakenOver: where another worker has the trial now.
        """
        with _still_ours():
            self.storage.set_trial_intermediate_value(attempt.id, epoch, value)

    def finish(self, attempt: Attempt, end: End, values: Sequence[float], facts: Mapping[str, Any]) -> None:
        """Note how a trial ended.

        Raises:
            TakenOver: where another worker has the trial now.
        """
        with _still_ours():
            for name, value in {**facts, "end": end}.items():
                self.storage.set_trial_user_attr(attempt.id, name, value)
            self.storage.set_trial_state_values(attempt.id, _STATES[end], list(values) or None)

    def give_up(self, attempt: Attempt) -> None:
        """Let go of an attempt, so that another can be made; nothing where it has ended."""
        try:
            self.storage.set_trial_state_values(attempt.id, TrialState.FAIL)
        except optuna.exceptions.UpdateFinishedTrialError:
            return


_DIRECTIONS = {"minimize": StudyDirection.MINIMIZE, "maximize": StudyDirection.MAXIMIZE}
_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


def _attempt(trial: FrozenTrial) -> Attempt:
    facts = dict(trial.user_attrs)
    index, count, worker = facts.pop("index"), facts.pop("count"), facts.pop("worker")
    ended = trial.state.is_finished()
    end = facts.pop("end", None) if ended else None
    values = tuple(trial.values) if end == "complete" else ()
    past = Past(dict(trial.params), end, values, dict(trial.intermediate_values))
    return Attempt(trial._trial_id, index, count, worker, past, ended and end is None, facts)


@contextmanager
def _still_ours() -> Iterator[None]:
    try:
        yield
    except optuna.exceptions.UpdateFinishedTrialError:
        raise TakenOver from None


def _same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in sorted({*before, *now}):
        a, b = before.get(name), now.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            _same(folder, a, b)
        elif a != b:
            raise RecalibError(f"{folder} is a sweep with another {name}: {_short(a)}, now {_short(b)}")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


class _JournalLock(JournalFileOpenLock):
    """Exclusive use of the journal, ended by the death of who has it; a line cut short by a kill is removed."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.handle: int | None = None

    def acquire(self) -> bool:
        handle = os.open(self.file.with_name(f"{self.file.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(handle, fcntl.LOCK_EX)
        self.handle = handle
        with self.file.open("rb+") as journal:
            size = journal.seek(0, os.SEEK_END)
            if size:
                journal.seek(max(0, size - _LONGEST))
                tail = journal.read()
                if not tail.endswith(b"\n"):
                    journal.truncate(size - len(tail) + tail.rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        assert self.handle is not None
        os.close(self.handle)
        self.handle = None


_LONGEST = 1 << 20  # bytes of a journal's line; ours are of some hundreds


class Worker:
    """This process as one of a study's workers, alive as long as the block is.

    Its file holds a lock, which ends with the process, and a count that goes up, for machines that do not see the lock.

    Args:
        folder: of the sweep.
        heartbeat: seconds without a sign after which others take a worker for dead.
    """

    def __init__(self, folder: Path, heartbeat: float) -> None:
        self.name = f"{os.uname().nodename}-{os.getpid()}-{uuid4().hex[:6]}"
        self.path = folder / "workers" / self.name
        self.every = heartbeat / 6
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(self.file, fcntl.LOCK_EX)
            self._sign(0)
        except OSError as error:
            raise WorkFailed(f"{self.path} could not be written: {error}") from error
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.over.set()
        self.thread.join()
        self.path.unlink(missing_ok=True)
        os.close(self.file)

    def _beat(self) -> None:
        count = 0
        while not self.over.wait(self.every):
            count += 1
            try:
                self._sign(count)
            except OSError:
                continue  # a disk that is full for now

    def _sign(self, count: int) -> None:
        os.pwrite(self.file, f"{machine()} {count:012}\n".encode(), 0)


class Watch:
    """Workers that are alive, as one of them sees it.

    Args:
        folder: of the sweep.
        heartbeat: seconds without a sign after which a worker is taken for dead.
    """

    def __init__(self, folder: Path, heartbeat: float) -> None:
        self.folder, self.heartbeat = folder / "workers", heartbeat
        self.seen: dict[str, tuple[str, float]] = {}

    def alive(self, worker: str) -> bool:
        """True if a worker is alive, or was when last heard of."""
        now = time.monotonic()
        try:
            with (self.folder / worker).open() as file:
                sign = file.read()
                if sign.startswith(f"{machine()} ") and _free(file.fileno()):
                    return False
        except FileNotFoundError:
            return False
        before, since = self.seen.get(worker, ("", now))
        if sign != before:
            since = now
        self.seen[worker] = (sign, since)
        return now - since <= self.heartbeat


def _free(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def machine() -> str:
    """This boot of this machine, whatever containers call it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.uname().nodename.replace(" ", "-")
