"""What commands that measure share: a bar, and stopping where nothing is half done."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from recalib.measure.agreement import notes
from recalib.measure.cells import Cell
from recalib.measure.group import Progress
from recalib.runtimes import RUNTIMES


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
    """Say why cells were not measured, how far reduced precisions are from float32, and what was never tried."""
    reasons = dict.fromkeys(f"{one.runtime}: {one.status}: {one.message}" for one in cells if one.message)
    untried = dict.fromkeys(one.runtime for one in cells if one.status == "ok" and not RUNTIMES[one.runtime].tried)
    for line in (*reasons, *(f"{name}: never run by the authors; mind what it says" for name in untried)):
        console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)
    for line in notes(cells):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
