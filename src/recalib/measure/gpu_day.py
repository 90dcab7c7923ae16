"""A few minutes of a rented GPU: stages, each a process with a limit of its own, whose records outlive whatever fails.

The process that runs the stages never touches the device: a stage that hangs, dies or leaves the device unusable takes
nothing with it but its time. Libraries are imported once, before the first stage is forked.
"""

import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recalib.errors import RecalibError, unknown

RECORDS, LOG, SUMMARY = "records.jsonl", "log.txt", "summary.txt"  # all that is written
MOST_BYTES = 4 * 2**20  # of records, and of the log: together they travel as one small download
SPARE_S = 5.0  # kept for the summary
PATIENCE = 1.5  # times its estimate a stage may take
GRACE_S = 2.0  # between asking a process to end and ending it

_HERE = f"{Path(__file__).parents[2]}{os.sep}"  # no path of this machine stands in the records

Work = Callable[["Records"], None]


@dataclass(frozen=True)
class Stage:
    """A part of the day.

    Attributes:
        name: as it is asked for.
        part: ``"A"``, before anything is mended, or ``"B"``.
        seconds: that it takes on an H100, estimated.
        what: in a line.
        work: the measurement itself; writes records as it goes.
    """

    name: str
    part: str
    seconds: float
    what: str
    work: Work


class Records:
    """A file of JSON lines; each is on the disk before the next is made.

    Args:
        path: of the file.
        stage: whose records these are.
    """

    def __init__(self, path: Path, stage: str) -> None:
        self.path, self.stage = path, stage

    def write(self, what: str, **values: Any) -> None:
        """Add a record: what it is of, and its values, in JSON's types; too long a file takes no samples any more."""
        if self.path.exists() and self.path.stat().st_size > MOST_BYTES:
            values = {key: value for key, value in values.items() if not isinstance(value, list)}
        line = json.dumps({"stage": self.stage, "what": what, **values}, default=str) + "\n"
        with self.path.open("a", encoding="utf-8") as file:  # one write, so that processes do not mix their lines
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        """Every record so far, of all stages; a line that a dying process left unfinished is skipped."""
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else ():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found


def chosen(stages: Sequence[Stage], names: Sequence[str]) -> list[Stage]:
    """Stages by name or by part, in their order; nothing named means all.

    Raises:
        RecalibError: for a name that is neither.
    """
    known = {stage.name for stage in stages} | {stage.part for stage in stages}
    for name in names:
        if name not in known:
            raise unknown("stage", name, [*known])
    return [stage for stage in stages if not names or stage.name in names or stage.part in names]


def run(
    stages: Sequence[Stage],
    minutes: float,
    out: Path,
    summarize: Callable[[list[dict[str, Any]]], str],
    say: Callable[[str], None] = print,
    started: float | None = None,
) -> bool:
    """Run stages within a time; returns whether all of them came to an end.

    Args:
        stages: in this order; one whose estimate exceeds what is left is skipped, and the next is tried.
        minutes: for everything, counted from `started`.
        out: folder for the records; earlier ones there are kept.
        summarize: records as text, which is written and said after every stage.
        say: told of what happens.
        started: a `time.monotonic`; None for now.

    Raises:
        RecalibError: for a time that is none.
    """
    if minutes <= 0:
        raise RecalibError(f"minutes={minutes:g}: more than 0")
    deadline = (time.monotonic() if started is None else started) + 60 * minutes - SPARE_S
    out.mkdir(parents=True, exist_ok=True)
    records = Records(out / RECORDS, "day")
    done = True
    for stage in stages:
        left = deadline - time.monotonic()
        if stage.seconds > left:
            outcome: dict[str, Any] = {"status": "skipped", "reason": f"{left:.0f} s left, {stage.seconds:.0f} needed"}
        else:
            say(f"{stage.name}: {stage.what} (about {stage.seconds:.0f} s)")
            outcome = _run(stage, min(PATIENCE * stage.seconds, left), out)
        done = done and outcome["status"] == "ok"
        records.write(stage.name, **outcome)
        say(f"{stage.name}: {', '.join(str(value) for value in outcome.values() if value)}")
        text = summarize(records.read())
        (out / SUMMARY).write_text(text + "\n", encoding="utf-8")
    say(text if stages else "nothing to do")
    return done


def _run(stage: Stage, limit: float, out: Path) -> dict[str, Any]:
    """A stage as a process; ends it, and all that it started, at its limit."""
    start = time.monotonic()
    process = multiprocessing.get_context("fork").Process(target=_stage, args=(stage, out))
    sys.stdout.flush()
    sys.stderr.flush()
    process.start()
    try:
        process.join(limit)
        status = "ok" if process.exitcode == 0 else "failed"
        if process.exitcode is None:
            status = "timeout"
        elif process.exitcode < 0:
            status = f"died of {signal.Signals(-process.exitcode).name}"
    finally:
        _end(process)
    return {"status": status, "seconds": round(time.monotonic() - start, 1)}


def _end(process: Any) -> None:
    """End a process and its group, politely first."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
        except (ProcessLookupError, PermissionError):  # all of it has ended
            break
        process.join(GRACE_S)
    process.join()


def _stage(stage: Stage, out: Path) -> None:
    """Work of the process of a stage: its own group, its output in the log, a failure in the records."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this group itself
    log = os.open(out / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    if os.fstat(log).st_size < MOST_BYTES:
        os.dup2(log, 1)
        os.dup2(log, 2)
    print(f"== {stage.name}", flush=True)
    records = Records(out / RECORDS, stage.name)
    try:
        stage.work(records)
    except BaseException as error:  # of whatever kind: the next stage is still to run
        told = traceback.format_exc().replace(_HERE, "")[-4000:]
        records.write("failure", error=f"{type(error).__name__}: {error}"[:400], traceback=told)
        sys.stdout.flush()
        os._exit(1)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # without the exit handlers of libraries, one of which may wait for a device for ever
