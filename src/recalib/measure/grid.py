"""`recalib latency`: a grid of settings, each group of cells in a process of its own."""

import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from recalib.errors import RecalibError, unknown
from recalib.measure import networks
from recalib.measure.agreement import check_images, with_samples
from recalib.measure.cells import Cell, CellFile, Key, fingerprint
from recalib.measure.compare import check_numbers, usable
from recalib.measure.estimate import seconds_of
from recalib.measure.group import PREPARING, Progress, pooled
from recalib.measure.runner import Comparison, Group, Store, cells_of, known_of, measure_here, networks_of, run
from recalib.measure.sizes import Size, sides
from recalib.measure.statistics import FEWEST_PROCESSES
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
        rounds: samples a cell and process; None for as many as a time budget allows.
        processes: that measure each group, far apart in time; one, or at least `FEWEST_PROCESSES`.
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
    processes: int = FEWEST_PROCESSES
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
        if self.processes != 1 and self.processes < FEWEST_PROCESSES:
            raise RecalibError(f"processes={self.processes}: 1, or at least {FEWEST_PROCESSES}")
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

    Every group (the networks of a model in one runtime at one setting, timed in turn with their baseline) runs in
    processes of its own. If one dies, the cell it was preparing is recorded as "oom" or "failed" and the others of the
    group are measured without it. All groups take their first turn before any takes its second, so that the processes
    of a group are as far apart as the grid allows, and an interval holds what differs from one to the next.

    Args:
        grid: what to measure.
        out: the file of cells, as `recalib.measure.compare.compare` writes it, with a machine's line a precision;
            a group's cells are appended after each of its processes, with the samples of all until then.
        resume: keep every group that is in the file as a whole, whatever came of its cells; if fewer processes than
            asked for measured it, the others are added.
        seconds: start no group that is expected to end later than this, but the first.
        announce: told before it starts how many groups and cells are left and how many seconds they may take.
        progress: told of every step.

    Raises:
        RecalibError: for an argument that is not right, before anything is measured.
    """
    grid = grid.checked()
    machines = {precision: describe(grid.settings(precision)) for precision in grid.precisions}
    file = CellFile(out)
    known = file.read() if resume else {}
    groups = grid.groups(machines)
    left = [group for group in groups if _turns_taken(group, known, grid) < grid.processes]
    turns = [group for turn in range(grid.processes) for group in left if _turns_taken(group, known, grid) <= turn]
    expected = {id(group): seconds_of(group, grid) for group in left}
    for number, machine in enumerate(machines.values()):
        file.start(machine, keep=resume or number > 0)
    announce(len(left), sum(len(group.cells) for group in left), sum(expected[id(group)] for group in turns))
    result = Comparison(next(iter(machines.values())))
    for group in groups:
        result.add(known_of(group.cells, known))
    start, begun = time.monotonic(), False

    def take_turn(group: Group, store: Store) -> None:
        nonlocal begun  # the first always does, or one that takes longer than all the time given would never start
        if seconds is not None and begun and time.monotonic() - start + expected[id(group)] > seconds:
            raise KeyboardInterrupt
        begun = True
        before = known_of(group.cells, known)
        alive = [cell for cell, last in zip(group.cells, before, strict=True) if last.status == "ok"] if before else []
        if before and not alive:
            return
        turn = f", process {_turns_taken(group, known, grid) + 1} of {grid.processes}" if grid.processes > 1 else ""

        def add(cells: list[Cell]) -> None:
            cells = pooled(before, cells, find_protocol(grid.protocol)) if before else cells
            known.update((cell.key, cell) for cell in cells)
            store(cells)

        def step(what: str, done: int, of: int) -> None:
            progress(what + turn, done, of)

        measure_apart(Group(group.runtime, alive or group.cells), grid, step, add)

    run(turns, take_turn, file, lambda _: [], result)
    return result


def _turns_taken(group: Group, known: Mapping[Key, Cell], grid: Grid) -> int:
    """How many processes have measured a group; as many as there are to be where none of its cells can be measured."""
    cells = known_of(group.cells, known)
    return min((len(cell.processes) for cell in cells if cell.status == "ok"), default=grid.processes if cells else 0)


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
