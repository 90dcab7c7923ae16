"""`recalib compare`: every module in every runtime against the plain network, one interleaved group after the other."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recalib.benchmark import networks
from recalib.benchmark.cells import Cell, CellFile, Key, fingerprint
from recalib.benchmark.group import Candidate, Progress, conclude, measure
from recalib.benchmark.networks import Network
from recalib.benchmark.published import BASELINE
from recalib.errors import RecalibError, WorkFailed, unknown
from recalib.runtimes import DTYPES, Runtime, Settings, find_protocol, find_runtime
from recalib.runtimes.machine import best_device, describe
from recalib.runtimes.timer import FEWEST_FOR_AN_INTERVAL

MODULES = ("ab", "eca", "se", "srm", "multi_se", "gct")
RUNTIMES = ("eager", "onnxruntime", "openvino")


@dataclass
class Comparison:
    """What `compare` measured.

    Attributes:
        machine: what it was measured on.
        cells: in the order of models, runtimes and modules, before and after deploy.
        interrupted: whether it was stopped before all was measured.
    """

    machine: dict[str, Any]
    cells: list[Cell] = field(default_factory=list)
    interrupted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Machine and cells in JSON's types, as ``--json`` writes them."""
        return {"machine": self.machine, "cells": [cell.to_dict() for cell in self.cells]}


def compare(
    models: Sequence[str] = ("resnet50",),
    modules: Sequence[str] = MODULES,
    runtimes: Sequence[str] = RUNTIMES,
    *,
    out: Path,
    size: int = 224,
    batch: int = 1,
    precision: str = "fp32",
    protocol: str = "clean",
    weights: Path | None = None,
    threads: int | None = None,
    rounds: int | None = None,
    resume: bool = False,
    progress: Progress = lambda what, done, of: None,
) -> Comparison:
    """Measure networks with and without attention, before and after `deploy`, in several runtimes.

    What belongs together, one model in one runtime, is measured as one group, interleaved: the plain network and every
    module, each as inserted and deployed, and the next deeper network of the family, plain. A finished group is on
    the disk before the next begins. Weights are random unless given: they do not change the time.

    With ``resume`` a group whose cells are all in the file, complete, "ok" and from an equal machine is taken from
    there; any other group is measured anew as a whole, because an overhead is only meant within one interleaved run.

    An interrupt (Ctrl-C) ends the measurement, not the function: it returns what was measured until then.

    Args:
        models: networks, by names that `recalib.models.create_model` takes.
        modules: attention modules by name; the baseline always comes first.
        runtimes: names in `recalib.runtimes.RUNTIMES`.
        out: the file of cells, one line of JSON each below a line for the machine.
        size: side of the images in pixels.
        batch: images in one forward pass.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        protocol: ``"clean"`` or ``"paper"``.
        weights: a checkpoint for the one model.
        threads: of the CPU; None for PyTorch's choice.
        rounds: samples a cell; None for as many as a time budget allows.
        resume: continue an earlier run.
        progress: told of every step.

    Raises:
        RecalibError: for an argument that is not right, before anything is measured.
    """
    if precision not in DTYPES:
        raise unknown("precision", precision, DTYPES)
    _check_numbers(size=(size, 1), batch=(batch, 1), threads=(threads, 1), rounds=(rounds, FEWEST_FOR_AN_INTERVAL))
    if weights is not None and len(models) != 1:
        raise RecalibError(f"weights {str(weights)!r} belong to one model, and {len(models)} are named")
    timing = find_protocol(protocol)
    chosen = _usable([find_runtime(name) for name in dict.fromkeys(runtimes)])
    names = networks.module_names(modules)
    backbones = {model: networks.backbone(model, weights) for model in dict.fromkeys(models)}

    settings = Settings(precision, threads or torch.get_num_threads(), best_device(), timing)
    comparison = Comparison(describe(settings))
    where = fingerprint(comparison.machine)
    how = {"size": size, "batch": batch, "precision": precision, "protocol": protocol, "machine": where}
    file = CellFile(out)
    known = file.read() if resume else {}
    file.start(comparison.machine, keep=resume)
    try:
        with _threads(settings.threads):
            for runtime, cells, made in _groups(backbones, names, chosen, how):
                if finished := _finished(cells, known):
                    comparison.cells += finished
                    continue
                candidates = [Candidate(cell, made(cell.model, cell.module)) for cell in cells]
                try:
                    measure(candidates, runtime, settings, rounds, progress)
                finally:
                    concluded = conclude(candidates, timing)
                    comparison.cells += concluded  # first: an interrupt while it is written must not lose it
                    file.append(concluded)
    except KeyboardInterrupt:
        comparison.interrupted = True
    return comparison


def _check_numbers(**numbers: tuple[int | None, int]) -> None:
    for name, (value, least) in numbers.items():
        if value is not None and value < least:
            raise RecalibError(f"{name}={value}: at least {least}")


def _usable(runtimes: Sequence[Runtime]) -> Sequence[Runtime]:
    """The runtimes, if one of them is there; what lacks another is said in its cells."""
    reasons = [runtime.missing() for runtime in runtimes]
    if all(reasons):
        raise WorkFailed("; ".join(filter(None, reasons)) or "no runtime was named")
    return runtimes


def _groups(
    backbones: Mapping[str, nn.Module], modules: Sequence[str], runtimes: Sequence[Runtime], how: Mapping[str, Any]
) -> Iterator[tuple[Runtime, list[Cell], Callable[[str, str], Network]]]:
    """What is measured together, with what makes the networks: once a model, when first one is wanted."""
    for model in backbones:
        pairs = [(model, module) for module in modules]
        deeper = networks.deeper(model)
        if deeper is not None and deeper not in backbones:
            pairs.append((deeper, BASELINE))
        made = functools.cache(functools.partial(networks.network, backbones))
        for runtime in runtimes:
            yield (
                runtime,
                [
                    Cell(model=name, module=module, runtime=runtime.name, deployed=form, **how)
                    for name, module in pairs
                    for form in (False, True)
                ],
                made,
            )


def _finished(cells: Sequence[Cell], known: Mapping[Key, Cell]) -> list[Cell]:
    """The known results of these cells, or nothing if one of them is missing, incomplete or not "ok"."""
    found = [known[cell.key] for cell in cells if cell.key in known]
    usable = [cell for cell in found if cell.status == "ok" and cell.complete]
    return usable if len(usable) == len(cells) else []


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """PyTorch on so many threads, meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
