"""Where commands of ours run: in processes of this machine, or of the nodes of a Ray cluster."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from recalib.errors import RecalibError, WorkFailed
from recalib.runs.signals import stop_on_signals

EVERY = 0.1  # seconds between looks at what runs
LOSSES = 10  # of nodes under one command, after which it is taken for the one that kills them

Say = Callable[[str], object]


@dataclass(frozen=True)
class Command:
    """A command of ours, and what it asks of the node that runs it.

    Attributes:
        arguments: what follows ``recalib``; ``{out}`` in them stands for ``folder`` where that is brought along.
        name: what its output is told under.
        cpus: cores.
        gpus: cards, or a part of one, such as 0.25.
        on: kind of node, such as ``gpu:h100``, see `recalib.runs.on_ray.is_of_kind`.
        alone: whether the node has to do nothing else meanwhile.
        folder: brought to the node with its files, and its files brought home while the command runs; by default
            folders are those that all nodes see.
        log: file that takes the output; by default it is printed.
    """

    arguments: tuple[str, ...]
    name: str = ""
    cpus: float = 1
    gpus: float = 0
    on: str | None = None
    alone: bool = False
    folder: Path | None = None
    log: Path | None = None


class Running(Protocol):
    """A command that was started."""

    lost: bool  # whether its node went away, so that it has to be started again

    def poll(self) -> int | None:
        """Its exit status; None where it still runs, or waits for a node."""
        ...

    def stop(self) -> None:
        """Ask it to stop: it saves, and says how to go on."""
        ...


class Executor(Protocol):
    """Starts commands.

    Attributes:
        queues: whether a command waits for room by itself, on whichever machine has it first.
    """

    queues: bool

    def start(self, command: Command) -> Running:
        """Start a command, at once or as soon as there is room.

        Raises:
            RecalibError: where there is nothing that could ever run it.
        """
        ...


class Here:
    """Processes of this machine."""

    queues = False

    def start(self, command: Command) -> Running:
        """Start a command at once.

        Raises:
            RecalibError: where it asks for a node.
        """
        if command.on or command.folder:
            raise RecalibError("--on: names nodes of a Ray cluster; add --engine ray")
        return LocalProcess([sys.executable, "-m", "recalib", *command.arguments], command.log)


class LocalProcess:
    """A process of this machine.

    Args:
        words: what it runs.
        log: file that takes its output; by default it is printed.
    """

    lost = False

    def __init__(self, words: Sequence[str], log: Path | None = None) -> None:
        if log is None:
            self.process = subprocess.Popen(words)
            return
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            self.process = subprocess.Popen(words, stdout=file, stderr=file)

    def poll(self) -> int | None:
        """Its exit status, where it has ended."""
        return self.process.poll()

    def stop(self) -> None:
        """Ask it to stop."""
        self.process.terminate()


def to_the_end(executor: Executor, command: Command, again: Command, say: Say = print) -> int:
    """Run a command to its end, as often as it takes: where its node is lost, another one has it.

    A signal is passed on, and what the command then says is told.

    Args:
        executor: that runs it.
        command: at first.
        again: the same as it goes on from what there is.
        say: takes a line for the user.

    Returns:
        Its exit status.

    Raises:
        RecalibError: where nothing could ever run it.
        WorkFailed: where its node was lost `LOSSES` times.
    """
    with stop_on_signals() as stop:
        for _ in range(LOSSES):
            running, told = executor.start(command), False
            while (status := running.poll()) is None and not running.lost:
                if stop and not told:
                    running.stop()
                    told = True
                pause()
            if status is not None:
                return status
            if stop:
                raise WorkFailed("stopped")
            say(f"the node of {command.name} is lost: it goes on on another")
            command = again
    raise WorkFailed(f"{command.name}: its node was lost {LOSSES} times")


def pause() -> None:
    """Leave what runs alone for a moment."""
    time.sleep(EVERY)


def end(running: Sequence[Running]) -> None:
    """Ask processes to stop, and wait until they have."""
    for one in running:
        one.stop()
    while any(one.poll() is None and not one.lost for one in running):
        pause()
