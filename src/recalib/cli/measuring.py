"""Common parts of commands that measure: one call of `run` behind a bar, stopped where nothing is half done."""

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from recalib.errors import RecalibError, WorkFailed
from recalib.measure.agreement import notes
from recalib.measure.cells import Cell
from recalib.measure.load import load_text
from recalib.measure.run import Measured, run
from recalib.measure.schedule import Schedule
from recalib.measure.session import Progress
from recalib.runs.environment import without_place
from recalib.runtimes import find_runtime


def measured(schedule: Schedule, out: Path, command: str, argv: Sequence[str], **options: Any) -> Measured:
    """Run a schedule for a command, with a bar on a terminal.

    Args:
        schedule: what to measure.
        out: the file of cells.
        command: its name.
        argv: what followed it.
        **options: of `recalib.measure.run.run`.

    Raises:
        WorkFailed: where nothing was measured.
    """
    typed = shlex.join(["recalib", command, *map(without_place, argv)])
    with stoppable() as check, progress_bar(check) as progress:
        found = run(schedule, out, command=typed, progress=progress, **options)
    if found.other_code:
        other = f"{found.other_code} cells in {out} are of another version of this code"
        print(f"recalib: {other}; they stay, and were measured anew", file=sys.stderr)
    if not found.cells:
        raise WorkFailed("interrupted before anything was measured")
    return found


def announced(groups: int, cells: int, seconds: float) -> None:
    """Say how long it may take."""
    print(f"recalib: {cells} cells in {groups} groups, about {seconds / 60:.1f} min", file=sys.stderr)


def seconds_of(minutes: float) -> float:
    """Seconds of ``--minutes``.

    Raises:
        RecalibError: for none.
    """
    if not minutes > 0:
        raise RecalibError(f"minutes={minutes:g}: a positive number, such as 3")
    return 60 * minutes


@contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """Let the first Ctrl-C or SIGTERM stop at the next step, and only a second one at once.

    An exception out of the blue would be lost where Python ignores them, in finalizers, and could tear a line in two.

    Yields:
        What is to be called at every step.
    """
    received: list[int] = []

    def stop(number: int, _: object) -> None:
        received.append(number)
        os.write(2, b"recalib: stopping after this step; again to stop at once\n")
        if len(received) > 1:
            raise KeyboardInterrupt

    def check() -> None:
        if received:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress_bar(check: Callable[[], None]) -> Iterator[Progress]:
    """A bar on a terminal, nothing elsewhere; calls `check` at every step."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    console = Console(stderr=True)
    with rich.progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("making networks", total=None)

        def show(what: str, done: int, of: int) -> None:
            bar.update(task, description=what, completed=done, total=of)
            check()

        yield show


def print_notes(console: Console, cells: Sequence[Cell]) -> None:
    """Say why cells have no time, who else used the machine, how far precisions are off, and what was never tried."""
    reasons = dict.fromkeys(f"{one.runtime}: {one.status}: {one.message}" for one in cells if one.message)
    untried = dict.fromkeys(one.runtime for one in cells if one.status == "ok" and not find_runtime(one.runtime).tried)
    for line in (*reasons, *(f"{name}: never run by the authors; mind what it says" for name in untried)):
        console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)
    loads = [one.load for one in cells if one.load is not None]
    if words := load_text(max(loads, key=lambda load: load["others"] + load["stolen"], default=None)):
        console.print(f"At the worst {words}.", style="yellow", highlight=False, markup=False, soft_wrap=True)
    for line in notes(cells):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
