"""Live progress of a training: a bar on a terminal, and elsewhere a line a minute."""

import time
from collections.abc import Callable
from types import TracebackType

from rich import progress as bars
from rich.console import Console

EVERY = 60.0  # seconds between lines where output is no terminal


class Progress:
    """One bar over the whole run, with the epoch, the loss, images a second and the time left.

    Args:
        total: images of the whole run.
        done: images seen before this process started.
        shown: False in all processes but one.
        epoch: images of an epoch; by default the whole run is one.
    """

    def __init__(self, total: int, done: int, shown: bool, epoch: int | None = None) -> None:
        self.total, self.done, self.epoch, self.shown = total, done, epoch or total, shown
        self.console = Console(quiet=not shown, soft_wrap=True)
        self.live = shown and self.console.is_terminal
        self.bar = bars.Progress(
            bars.TextColumn("{task.description}"), bars.BarColumn(), bars.TaskProgressColumn(),
            bars.TextColumn("{task.fields[loss]}{task.fields[rate]:,.0f} images/s"),
            bars.TextColumn("epoch {task.fields[left]}, all"), bars.TimeRemainingColumn(),
            console=self.console, disable=not self.live,
        )  # fmt: skip
        self.task = self.bar.add_task("training", total=total, completed=done, rate=0.0, loss="", left="-:--:--")
        self.said = time.perf_counter()
        self.lap()

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.stop()

    def advance(self, images: int) -> None:
        """Count the images of a step."""
        self.images += images
        self.done += images
        self.bar.update(self.task, advance=images, rate=self.rate(), left=_duration(self._left(self._to_epochs_end())))

    def tell(self, loss: Callable[[], float]) -> None:
        """Show how far the run is: on a terminal now, elsewhere once a minute.

        Args:
            loss: that of the epoch so far; only called where it is shown, as it waits for the device.
        """
        if self.live:
            self.bar.update(self.task, loss=f"loss {loss():.4f}, ", description=f"epoch {self._epoch()}")
        elif self.shown and time.perf_counter() - self.said >= EVERY:
            share = 1 - self._to_epochs_end() / self.epoch
            left, whole = (_duration(self._left(n)) for n in (self._to_epochs_end(), self.total - self.done))
            self.say(
                f"epoch {self._epoch()}, {100 * share:.0f} %: loss {loss():.4f}, {self.rate():,.1f} images/s; "
                f"left: {left} of the epoch, {whole} of the run"
            )

    def rate(self) -> float:
        """Images a second since the last `lap`."""
        return self.images / max(time.perf_counter() - self.since, 1e-9)

    def lap(self) -> None:
        """Start counting anew."""
        self.images, self.since = 0, time.perf_counter()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.said = time.perf_counter()
        self.console.print(line, highlight=False, markup=False)

    def _epoch(self) -> int:
        return max(self.done - 1, 0) // self.epoch

    def _to_epochs_end(self) -> int:
        return (self._epoch() + 1) * self.epoch - self.done

    def _left(self, images: int) -> float | None:
        return images / self.rate() if self.images else None


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-:--:--"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
