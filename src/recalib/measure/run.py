"""`run`: measures a schedule into a file, group after group, and loses nothing of it. The only entry to measuring."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recalib.measure.cells import Cell, Key
from recalib.measure.child import measure_apart
from recalib.measure.load import Peak
from recalib.measure.schedule import Schedule
from recalib.measure.session import Group, How, Progress, pooled
from recalib.measure.store import Store
from recalib.runs.environment import code_version
from recalib.version import code_digest

Announce = Callable[[int, int, float], None]  # groups, cells, and seconds that they may take


@dataclass
class Measured:
    """Results of a run.

    Attributes:
        machine: what it was measured on.
        run: the command, and the version of the code.
        cells: in the order of the schedule.
        left: groups that were not measured, or not by all their processes: for want of time, or when it was stopped.
        interrupted: whether it was stopped before all was measured.
        peak: memory that was resident at most; None until all is measured.
        other_code: cells of the file that another version of the code measured, and that hence were measured anew.
    """

    machine: dict[str, Any]
    run: dict[str, Any] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    left: int = 0
    interrupted: bool = False
    peak: Peak | None = None
    other_code: int = 0

    def add(self, cells: Iterable[Cell], order: Sequence[Key]) -> None:
        """Add cells, in this order; one that is there already is replaced."""
        found = {cell.key: cell for cell in self.cells} | {cell.key: cell for cell in cells}
        self.cells = [found[key] for key in order if key in found]

    def to_dict(self) -> dict[str, Any]:
        """Machine, run, peak memory and cells in JSON's types, as ``--json`` writes them."""
        cells = [cell.to_dict() for cell in self.cells]
        return {"machine": self.machine, "run": self.run, "peak_bytes": self.peak and self.peak.bytes, "cells": cells}


def run(
    schedule: Schedule,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    command: str = "",
    seconds: float | None = None,
    announce: Announce = lambda groups, cells, seconds: None,
    progress: Progress = lambda what, done, of: None,
    stored: Callable[[list[Cell]], None] = lambda cells: None,
) -> Measured:
    """Measure a schedule.

    Every group (networks timed in turn with their baseline) runs in processes of its own. All groups take their first
    turn before any takes its second, so that the processes of a group are as far apart as the schedule allows, and an
    interval holds what differs from one to the next. A group's cells are on the disk before the next begins, with the
    samples of all its processes until then.

    Args:
        schedule: what to measure.
        out: the file of cells, see `recalib.measure.store`.
        resume: keep every group that is in the file as a whole, whatever came of its cells, if this version of the code
            measured it on this machine; processes that are missing are added.
        overwrite: forget what is in the file.
        command: what was typed, for the file.
        seconds: start no group that is expected to end later than this, but the first.
        announce: told before it starts how many groups and cells are left and how many seconds they may take.
        progress: told of every step; a `KeyboardInterrupt` that it raises ends the measurement, not the function, and
            what was measured until then is kept.
        stored: told the cells of every group when they are on the disk.

    Raises:
        RecalibError: before anything is measured, if the file cannot be written, or holds cells and neither `resume`
            nor `overwrite` is set.
    """
    about = {"command": command, "code": code_digest(), "source": code_version()}
    about["started"] = datetime.now(UTC).isoformat(timespec="seconds")
    store = Store(out)
    known = store.start(schedule.machines, about, resume=resume, overwrite=overwrite)
    result = Measured(schedule.machines[0] if schedule.machines else {}, about)
    result.other_code = _of_other_code(schedule, known)
    order = [cell.key for group in schedule.groups for cell in group.cells]
    for group in schedule.groups:
        result.add(_known(group, known), order)
    turns = _turns(schedule, known)
    groups = [group for group in schedule.groups if any(one is group for one, _ in turns)]
    expected = {id(group): group.seconds(schedule.how) for group in groups} if schedule.seconds is None else {}
    whole = schedule.seconds if schedule.seconds is not None else sum(expected[id(group)] for group, _ in turns)
    announce(len(groups), sum(len(group.cells) for group in groups), whole)
    start = time.monotonic()
    result.left = len(turns)
    for number, (group, turn) in enumerate(turns):
        spent = time.monotonic() - start
        # the first always starts, or one that takes longer than all the time given would never be measured
        late = seconds is not None and number > 0 and spent + expected.get(id(group), 0.0) > seconds
        if late or result.interrupted:
            break
        share = None if schedule.seconds is None else max(schedule.seconds - spent, 1.0) / (len(turns) - number)
        step = _step(progress, turn, schedule.processes, result)
        cells = _taken(group, schedule.how, step, share, _known(group, known), result)
        known.update((cell.key, cell) for cell in cells)
        result.add(cells, order)  # first: an interrupt while it is written must not lose it
        if cells:
            store.append(cells)
            stored(cells)
        result.left -= not result.interrupted
    result.peak = Peak.so_far()
    return result


def _turns(schedule: Schedule, known: Mapping[Key, Cell]) -> list[tuple[Group, int]]:
    """The processes that are to measure, each with its group and its number: all first ones before any second one."""
    turns = range(schedule.processes)
    return [(group, n) for n in turns for group in schedule.groups if _turns_taken(group, known, schedule) <= n]


def _step(progress: Progress, turn: int, processes: int, result: Measured) -> Progress:
    """Reporter of every step with its process, which notes an interrupt, too."""

    def step(what: str, done: int, of: int) -> None:
        try:
            progress(what + (f", process {turn + 1} of {processes}" * (processes > 1)), done, of)
        except KeyboardInterrupt:
            result.interrupted = True
            raise

    return step


def _taken(
    group: Group, how: How, step: Progress, share: float | None, before: list[Cell], result: Measured
) -> list[Cell]:
    """The cells of a group when one more process has measured it; none where that came to nothing."""
    alive = [cell for cell, last in zip(group.cells, before, strict=True) if last.status == "ok"] if before else []
    if before and not alive:
        return []
    cells = measure_apart(group.part(alive or group.cells), how, step, share)
    # half a process more is worth less than what is there
    return [] if before and result.interrupted else pooled(before, cells)


def _known(group: Group, known: Mapping[Key, Cell]) -> list[Cell]:
    """Known cells of a group; nothing unless all of them are known, complete, and could be measured here."""
    found = [known[cell.key] for cell in group.cells if cell.key in known and known[cell.key].complete]
    whole = len(found) == len(group.cells)
    mended = all(cell.status == "unsupported" for cell in found) and group.missing() is None
    return found if whole and not mended else []


def _turns_taken(group: Group, known: Mapping[Key, Cell], schedule: Schedule) -> int:
    """Number of processes that measured a group; as many as there are to be where none of its cells can be measured."""
    cells = _known(group, known)
    none = schedule.processes if cells else 0
    return min((len(cell.processes) for cell in cells if cell.status == "ok"), default=none)


def _of_other_code(schedule: Schedule, known: Mapping[Key, Cell]) -> int:
    """Number of known cells that would be of the schedule, had this version of the code measured them."""
    asked = {replace(cell, code="").key for group in schedule.groups for cell in group.cells}
    return sum(cell.code != code_digest() and replace(cell, code="").key in asked for cell in known.values())
