"""Groups of cells one after the other, into one file: what `compare` and `latency` share."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from recalib.measure import networks
from recalib.measure.cells import BASELINE, Cell, CellFile, Key
from recalib.measure.group import Candidate, Progress, conclude, measure, tell_apart
from recalib.measure.networks import Network
from recalib.runtimes import Settings, find_runtime

Store = Callable[[list[Cell]], None]
Finished = Callable[[Sequence[Cell]], list[Cell]]  # what is known of these cells already; empty: measure them


@dataclass
class Group:
    """Cells that are measured together, in turn: the networks of a model in one runtime, at one setting."""

    runtime: str
    cells: list[Cell]


@dataclass
class Comparison:
    """What was measured.

    Attributes:
        machine: what it was measured on.
        cells: in the order of models, runtimes and modules, before and after deploy.
        interrupted: whether it was stopped before all was measured.
    """

    machine: dict[str, Any]
    cells: list[Cell] = field(default_factory=list)
    interrupted: bool = False

    def add(self, cells: Iterable[Cell]) -> None:
        """Add cells; one that is there already is replaced."""
        self.cells = list(({cell.key: cell for cell in self.cells} | {cell.key: cell for cell in cells}).values())

    def to_dict(self) -> dict[str, Any]:
        """Machine and cells in JSON's types, as ``--json`` writes them."""
        return {"machine": self.machine, "cells": [cell.to_dict() for cell in self.cells]}


def run(
    groups: Iterable[Group],
    measure_group: Callable[[Group, Store], None],
    file: CellFile,
    finished: Finished,
    result: Comparison,
) -> None:
    """Measure what is not finished; every group is in the result and on the disk before the next one starts.

    An interrupt ends the measurement, not the function: `Comparison.interrupted` says so.

    Args:
        groups: in order.
        measure_group: measures a group and stores its cells, those of an interrupted one as well.
        file: where cells are appended.
        finished: the cells of a group that need not be measured.
        result: is added to.
    """

    def store(cells: list[Cell]) -> None:
        result.add(cells)  # first: an interrupt while it is written must not lose it
        file.append(cells)

    try:
        for group in groups:
            if known := finished(group.cells):
                result.add(known)
            else:
                measure_group(group, store)
    except KeyboardInterrupt:
        result.interrupted = True


def measure_here(
    group: Group,
    made: Callable[[str, str], Network],
    settings: Settings,
    rounds: int | None,
    progress: Progress,
    store: Store,
) -> None:
    """Measure a group in this process; `made` gives a network by the names of model and module."""
    candidates = [Candidate(cell, made(cell.model, cell.module)) for cell in group.cells]
    with _state(settings):
        try:
            measure(candidates, find_runtime(group.runtime), settings, rounds, progress)
        finally:
            store(tell_apart(conclude(candidates, settings.protocol)))


def networks_of(model: str, modules: Sequence[str], others: Iterable[str]) -> list[tuple[str, str]]:
    """Model and module of a group's networks; with the next deeper one of the family unless it is among the others."""
    deeper = networks.deeper(model)
    reference = [(deeper, BASELINE)] if deeper is not None and deeper not in others else []
    return [*((model, module) for module in modules), *reference]


def cells_of(pairs: Iterable[tuple[str, str]], runtime: str, how: Mapping[str, Any]) -> list[Cell]:
    """Cells of these networks, as inserted and deployed."""
    return [
        Cell(model=model, module=module, runtime=runtime, deployed=form, **how)
        for model, module in pairs
        for form in (False, True)
    ]


def unfinished_again(known: Mapping[Key, Cell]) -> Finished:
    """Take a group whose cells are all complete and "ok"; any other is measured anew, as a whole."""

    def finished(cells: Sequence[Cell]) -> list[Cell]:
        found = known_of(cells, known)
        return found if all(cell.status == "ok" for cell in found) else []

    return finished


def known_of(cells: Sequence[Cell], known: Mapping[Key, Cell]) -> list[Cell]:
    """What is known of a group's cells; nothing unless all of them are known and complete."""
    found = [known[cell.key] for cell in cells if cell.key in known and known[cell.key].complete]
    return found if len(found) == len(cells) else []


@contextmanager
def _state(settings: Settings) -> Iterator[None]:
    """PyTorch on so many threads, and with TF32 or without, meanwhile."""
    threads, convolutions = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    products = torch.backends.cuda.matmul.allow_tf32
    torch.set_num_threads(settings.threads)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = settings.tf32
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products
