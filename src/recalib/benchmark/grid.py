"""`recalib latency`: a grid of settings, each group of cells in a process of its own."""

import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from recalib.benchmark import networks
from recalib.benchmark.agreement import check_images, with_samples
from recalib.benchmark.cells import Cell, CellFile, fingerprint
from recalib.benchmark.compare import check_numbers, usable
from recalib.benchmark.estimate import seconds_of
from recalib.benchmark.group import PREPARING, Progress
from recalib.benchmark.runner import Comparison, Group, Store, cells_of, each_once, measure_here, networks_of, run
from recalib.benchmark.sizes import Size, sides
from recalib.errors import RecalibError, unknown
from recalib.runtimes import DTYPES, Settings, find_protocol, find_runtime, oom
from recalib.runtimes.machine import best_device, describe
from recalib.runtimes.timer import FEWEST_FOR_AN_INTERVAL


@dataclass(frozen=True)
class Grid:
    """What is measured: every combination.

    Attributes:
        models: networks, by names that `recalib.models.create_model` takes.
        modules: attention modules by name; the baseline always runs.
        sizes: of the images.
        batches: images in one forward pass.
        precisions: names in `recalib.runtimes.DTYPES`.
        runtimes: names in `recalib.runtimes.RUNTIMES`.
        protocol: ``"clean"`` or ``"paper"``.
        weights: a checkpoint for the one model.
        calibration: images to calibrate int8 on and to compare reduced precisions with float32 on; None for noise.
        threads: of the CPU; None for PyTorch's choice.
        rounds: samples a cell; None for as many as a time budget allows.
        deeper: whether the next deeper plain network of each family is timed along, as a reference.
    """

    models: Sequence[str]
    modules: Sequence[str]
    sizes: Sequence[Size]
    batches: Sequence[int]
    precisions: Sequence[str]
    runtimes: Sequence[str]
    protocol: str = "clean"
    weights: Path | None = None
    calibration: Path | None = None
    threads: int | None = None
    rounds: int | None = None
    deeper: bool = False

    def checked(self) -> "Grid":
        """The grid with each name in its catalogue's spelling, once.

        Raises:
            RecalibError: for an argument that is not right.
        """
        for precision in self.precisions:
            if precision not in DTYPES:
                raise unknown("precision", precision, DTYPES)
        check_numbers(threads=(self.threads, 1), rounds=(self.rounds, FEWEST_FOR_AN_INTERVAL))
        for batch in self.batches:
            check_numbers(batch=(batch, 1))
        if self.weights is not None and len(self.models) != 1:
            raise RecalibError(f"weights {str(self.weights)!r} belong to one model, and {len(self.models)} are named")
        check_images(self.calibration)
        find_protocol(self.protocol)
        usable([find_runtime(name) for name in dict.fromkeys(self.runtimes)])
        for model in self.models:
            networks.backbone(model, self.weights)
        once: dict[str, Any] = {
            name: tuple(dict.fromkeys(getattr(self, name)))
            for name in ("models", "sizes", "batches", "precisions", "runtimes")
        }
        return replace(self, modules=tuple(networks.module_names(self.modules)), **once)

    def settings(self, precision: str) -> Settings:
        """How its cells of a precision run."""
        threads = self.threads or torch.get_num_threads()
        return Settings(precision, threads, best_device(), find_protocol(self.protocol))

    def groups(self, machines: dict[str, dict[str, Any]]) -> list[Group]:
        """Groups of cells, the machine's description by precision; those that are quick to measure come first."""
        return [
            Group(
                runtime,
                cells_of(
                    networks_of(model, self.modules, self.models)
                    if self.deeper
                    else [(model, m) for m in self.modules],
                    runtime,
                    {
                        "size": size,
                        "batch": batch,
                        "precision": precision,
                        "protocol": self.protocol,
                        "machine": fingerprint(machines[precision]),
                    },
                ),
            )
            for precision in self.precisions
            for batch in self.batches
            for size in self.sizes
            for model in self.models
            for runtime in self.runtimes
        ]


def latency(
    grid: Grid,
    *,
    out: Path,
    resume: bool = False,
    seconds: float | None = None,
    announce: Any = lambda groups, cells, seconds: None,
    progress: Progress = lambda what, done, of: None,
) -> Comparison:
    """Measure a grid.

    Every group (the networks of a model in one runtime at one setting, timed in turn with their baseline) runs in a
    process of its own. If that dies, the cell it was preparing is recorded as "oom" or "failed" and the others of the
    group are measured without it.

    Args:
        grid: what to measure.
        out: the file of cells, as `recalib.benchmark.compare.compare` writes it, with a machine's line a precision.
        resume: keep every group that is in the file as a whole, whatever came of its cells.
        seconds: start no group that is expected to end later than this, but the first.
        announce: told before it starts how many groups and cells are left and how many seconds they may take.
        progress: told of every step.

    Raises:
        RecalibError: for an argument that is not right, before anything is measured.
    """
    grid = grid.checked()
    machines = {precision: describe(grid.settings(precision)) for precision in grid.precisions}
    file = CellFile(out)
    finished = each_once(file.read() if resume else {})
    groups = grid.groups(machines)
    left = [group for group in groups if not finished(group.cells)]
    expected = {id(group): seconds_of(group, grid) for group in left}
    for number, machine in enumerate(machines.values()):
        file.start(machine, keep=resume or number > 0)
    announce(len(left), sum(len(group.cells) for group in left), sum(expected.values()))
    result = Comparison(next(iter(machines.values())))
    start = time.monotonic()

    def measure_group(group: Group, store: Store) -> None:
        first = group is left[0]  # or a group that takes longer than all the time given would never start
        if seconds is not None and not first and time.monotonic() - start + expected[id(group)] > seconds:
            raise KeyboardInterrupt
        measure_apart(group, grid, progress, store)

    run(groups, measure_group, file, finished, result)
    return result


def measure_apart(group: Group, grid: Grid, progress: Progress, store: Store) -> None:
    """Measure a group in another process, without the cells that kill it; in none, where its runtime is missing."""
    if reason := find_runtime(group.runtime).missing():
        store([replace(cell, status="unsupported", message=reason) for cell in group.cells])
        return
    lost: list[Cell] = []
    cells = list(group.cells)
    while cells:
        kills = oom.kills()
        done, at, code = _attempt(Group(group.runtime, cells), grid, progress)
        if done is not None:
            store(_in_order(group.cells, [*done, *lost]))
            return
        victims = cells if at is None else [cells[at]]
        # anybody may send SIGKILL: it was memory only if the system has counted one more such kill since
        out_of_memory = code == -signal.SIGKILL and oom.kills() != kills
        lost += [_dead(cell, code, out_of_memory) for cell in victims]
        cells = [cell for cell in cells if cell not in victims]
    store(_in_order(group.cells, lost))


def _attempt(group: Group, grid: Grid, progress: Progress) -> tuple[list[Cell] | None, int | None, int]:
    """The cells that a process measured; or None, the position of the cell that it died preparing, and how it died."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, group, grid))
    process.start()
    sender.close()
    cells, at = None, None
    try:
        while True:
            kind, value = receiver.recv()
            if kind == "cells":
                cells = value
            else:
                at = value[1] if PREPARING in value[0] else None
                progress(*value)
    except (EOFError, ConnectionResetError):
        process.join()
    finally:
        process.kill()
        process.join()
    return cells, at, process.exitcode or 0


def _work(sender: Connection, group: Group, grid: Grid) -> None:
    """Measure a group and send its cells; end at once when nobody listens any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what a Ctrl-C stops
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def send(kind: str, value: Any) -> None:
        try:
            sender.send((kind, value))
        except OSError:
            os._exit(1)

    def progress(*step: Any) -> None:
        send("progress", step)

    model = group.cells[0].model
    backbones = {model: networks.backbone(model, grid.weights)}
    made = functools.cache(functools.partial(networks.network, backbones))
    first = group.cells[0]
    plain = grid.settings(first.precision)
    try:
        settings = with_samples(plain, backbones[model], model, sides(first.size), grid.calibration, grid.weights)
    except RecalibError as error:  # an image that cannot be read
        send("cells", [replace(cell, status="unsupported", message=str(error)) for cell in group.cells])
        return
    measure_here(group, made, settings, grid.rounds, progress, lambda cells: send("cells", cells))


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
