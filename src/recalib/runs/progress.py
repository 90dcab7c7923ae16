"""Live progress of a training on a terminal; nothing where output is no terminal."""

import time
from types import TracebackType

from rich import progress as bars
from rich.console import Console


class Progress:
    """One bar over the whole run, with images a second and the time left.

    Args:
        total: images of the whole run.
        done: images seen before this process started.
        shown: False in all processes but one.
    """

    def __init__(self, total: int, done: int, shown: bool) -> None:
        self.console = Console(quiet=not shown, soft_wrap=True)
        self.bar = bars.Progress(
            bars.TextColumn("{task.description}"), bars.BarColumn(), bars.TaskProgressColumn(),
            bars.TextColumn("{task.fields[rate]:,.0f} images/s"), bars.TimeRemainingColumn(),
            console=self.console, disable=not (shown and self.console.is_terminal),
        )  # fmt: skip
        self.task = self.bar.add_task("training", total=total, completed=done, rate=0.0)
        self.lap()

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.stop()

    def advance(self, images: int) -> None:
        """Count the images of a step."""
        self.images += images
        self.bar.update(self.task, advance=images, rate=self.rate())

    def rate(self) -> float:
        """Images a second since the last `lap`."""
        return self.images / max(time.perf_counter() - self.since, 1e-9)

    def lap(self) -> None:
        """Start counting anew."""
        self.images, self.since = 0, time.perf_counter()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.console.print(line, highlight=False, markup=False)
