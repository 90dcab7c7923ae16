"""A group in a process of its own: what a death there costs, and how it is told to stop."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

from recalib.measure.cells import Cell
from recalib.measure.session import PREPARING, Group, How, Progress, measure
from recalib.runtimes import oom


def measure_apart(group: Group, how: How, progress: Progress, seconds: float | None = None) -> list[Cell]:
    """Measure a group in another process, without the cells that kill it; in none, where its runtime is missing.

    If the process dies, the cell that it was preparing is "oom" or "failed" and the others are measured without it. If
    it dies while they are timed, all of them are, since nobody knows whose fault it is.

    Args:
        group: what to measure.
        how: how.
        progress: told of every step; a `KeyboardInterrupt` that it raises has the process stop at its next step.
        seconds: as `recalib.measure.session.measure` takes them.

    Returns:
        The cells, in the order of the group; of an interrupted process what it had measured until then.
    """
    if reason := group.missing():
        return [replace(cell, status="unsupported", message=reason) for cell in group.cells]
    lost: list[Cell] = []
    cells = list(group.cells)
    while cells:
        kills = oom.kills()
        done, at, code = _attempt(group.part(cells), how, progress, seconds)
        if done is not None:
            return _in_order(group.cells, [*done, *lost])
        victims = cells if at is None else [cells[at]]
        # anybody may send SIGKILL: it was memory only if the system has counted one more such kill since
        out_of_memory = code == -signal.SIGKILL and oom.kills() != kills
        lost += [_dead(cell, code, out_of_memory) for cell in victims]
        cells = [cell for cell in cells if cell not in victims]
    return _in_order(group.cells, lost)


def _attempt(
    group: Group, how: How, progress: Progress, seconds: float | None
) -> tuple[list[Cell] | None, int | None, int]:
    """The cells that a process measured; or None, the position of the cell that it died preparing, and how it died."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, group, how, seconds))
    process.start()
    theirs.close()
    cells, at, stopping = None, None, False
    try:
        while True:
            kind, value = ours.recv()
            if kind == "cells":
                cells = value
            else:
                at = value[1] if PREPARING in value[0] else None
                if not stopping:
                    try:
                        progress(*value)
                    except KeyboardInterrupt:
                        stopping = True
                        ours.send("stop")
    except (EOFError, ConnectionResetError, BrokenPipeError):
        process.join()
    finally:
        process.kill()
        process.join()
    return cells, at, process.exitcode or 0


def _work(pipe: Connection, group: Group, how: How, seconds: float | None) -> None:
    """Measure a group and send its cells; end at once when nobody listens any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what a Ctrl-C stops
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def send(kind: str, value: Any) -> None:
        try:
            pipe.send((kind, value))
        except OSError:
            os._exit(1)

    def progress(*step: Any) -> None:
        send("progress", step)
        if pipe.poll():
            raise KeyboardInterrupt

    send("cells", measure(group, how, progress, seconds=seconds))


def _end_with_parent() -> None:
    """A parent that is killed cannot stop its child, which would measure on for nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _dead(cell: Cell, code: int, out_of_memory: bool) -> Cell:
    if out_of_memory:
        return replace(cell, status="oom", message="the system killed the process because memory ran out")
    how = f"signal {-code}" if code < 0 else f"exit status {code}"
    return replace(cell, status="failed", message=f"process died ({how})")


def _in_order(cells: Sequence[Cell], found: Sequence[Cell]) -> list[Cell]:
    """The found cells in the order of the group."""
    keys = [cell.key for cell in cells]
    return sorted(found, key=lambda cell: keys.index(cell.key))
