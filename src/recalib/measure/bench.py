"""`recalib bench`: what the fused operation reaches on a machine, kernel by kernel and in whole networks."""

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from recalib.errors import RecalibError, WorkFailed, unknown
from recalib.measure import networks
from recalib.measure.cells import Cell, CellFile, fingerprint
from recalib.measure.group import Candidate, Progress, conclude, measure
from recalib.measure.kernels import LAYOUTS, Kernel, measure_kernels
from recalib.measure.networks import Network
from recalib.measure.targets import TARGETS, TRAINING, Group, Target
from recalib.measure.training_steps import measure_training, training_cells
from recalib.runtimes import Settings, find_protocol, find_runtime, timer
from recalib.runtimes.machine import best_device, describe
from recalib.runtimes.memory import free_memory

# seconds to get one ResNet-50 ready, on 2 cores: export, load, check against float64; compile writes C++
READY_S = {"openvino": 5, "onnxruntime": 5, "compile": 15, "eager": 2, "cuda_graph": 2, TRAINING: 20}
GMACS = {"resnet18": 1.8, "resnet34": 3.7, "resnet50": 4.1, "mobilenetv2_100": 0.3}
GMACS_PER_S = 100  # of float32 on 2 cores


def chosen(
    targets: Sequence[str] = (), models: Sequence[str] = (), runtimes: Sequence[str] = (), batches: Sequence[int] = ()
) -> list[Target]:
    """Targets by name (``"T4"`` means T4a and T4b), and of these the groups that fit; nothing named means all.

    Raises:
        RecalibError: for a target that there is not, or a choice that leaves none of its groups.
    """
    for name in targets:
        if not any(_is_called(target, name) for target in TARGETS.values()):
            raise unknown("target", name, TARGETS)
    found = [t for t in TARGETS.values() if not targets or any(_is_called(t, name) for name in targets)]
    narrowed = [replace(t, groups=tuple(g for g in t.groups if _fits(g, models, runtimes, batches))) for t in found]
    if not any(t.groups for t in narrowed) and any(t.groups for t in found):
        known = sorted({f"{g.model} in {g.runtime} at batch {g.batch}" for t in found for g in t.groups})
        raise RecalibError(f"nothing of {', '.join(t.name for t in found)} fits; there is {', '.join(known)}")
    return narrowed


def _is_called(target: Target, name: str) -> bool:
    return name.lower() in (target.name.lower(), target.name.rstrip("ab").lower())


def _fits(group: Group, models: Sequence[str], runtimes: Sequence[str], batches: Sequence[int]) -> bool:
    wanted = ((models, group.model), (runtimes, group.runtime), (batches, group.batch))
    return all(not allowed or value in allowed for allowed, value in wanted)


def not_here(target: Target, device: torch.device) -> str | None:
    """Why a target cannot be measured on this device, or None."""
    if target.device == device.type:
        return None
    return "needs an NVIDIA GPU" if target.device == "cuda" else "is about CPUs; hide the GPU to measure it here"


def predicted_s(group: Group, modules: Sequence[str]) -> float:
    """Seconds that a group takes on two cores, roughly: to be said before, not to be relied on."""
    sessions = sum(1 if name.startswith("timm:") else 2 for name in ["baseline", *modules])
    one = GMACS.get(group.model, 4.1) * group.batch / GMACS_PER_S
    a_round = sessions * one
    timing = max(timer.BUDGET_S, timer.FEWEST_ROUNDS * a_round)
    ready = READY_S[group.runtime] * (0.4 + 0.6 * GMACS.get(group.model, 4.1) / 4.1) + 4 * one
    return sessions * ready + min(timing, timer.MOST_ROUNDS * a_round)


def bench_kernels(out: Path, device: torch.device | None = None, **how: Any) -> list[Kernel]:
    """Measure the passes on a device and add them, below a line for the machine, to a file of JSON lines.

    A layout is on the disk before the next begins, and one that fails is a line that says why.

    Raises:
        WorkFailed: where all of them fail.
    """
    device = device or best_device()
    settings = Settings("bf16" if device.type == "cuda" else "fp32", torch.get_num_threads(), device, _protocol())
    out.parent.mkdir(parents=True, exist_ok=True)
    kernels: list[Kernel] = []
    failure: Exception | None = None
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"machine": describe(settings)}) + "\n")
        for layout in LAYOUTS:
            try:
                found = measure_kernels(device, layouts=[layout], **how)
                lines = [kernel.to_dict() for kernel in found]
                kernels += found
            except Exception as error:  # of whatever kind: the other layout is still to be measured
                failure, lines = error, [{"layout": layout, "failed": f"{type(error).__name__}: {error}"}]
            file.writelines(json.dumps(line) + "\n" for line in lines)
            file.flush()
            free_memory()
    if not kernels:
        raise WorkFailed(f"no pass could be measured: {failure}")
    return kernels


def bench_networks(
    groups: Sequence[Group],
    modules: Sequence[str],
    out: Path,
    *,
    rounds: int | None = None,
    resume: bool = False,
    progress: Progress = lambda what, done, of: None,
) -> Iterator[tuple[Group, list[Cell]]]:
    """Measure groups one after the other; each is on the disk before the next begins.

    Args:
        groups: what to measure.
        modules: attention modules; the plain network is always there.
        out: file of cells, see `CellFile`.
        rounds: samples a cell; None for as many as a time budget allows.
        resume: take from the file what is finished there.
        progress: told of every step.

    Yields:
        Each group with its cells.
    """
    file = CellFile(out)
    known = file.read() if resume else {}
    names = networks.module_names(modules)
    keep = resume
    for group in groups:
        settings = Settings(group.precision, torch.get_num_threads(), best_device(), _protocol())
        machine = describe(settings)
        cells = _cells(group, names, fingerprint(machine))
        finished = [known[cell.key] for cell in cells if cell.key in known]
        if len(finished) == len(cells) and all(cell.status == "ok" and cell.complete for cell in finished):
            yield group, finished
            continue
        file.start(machine, keep=keep)
        keep = True
        concluded = _measure(group, cells, settings, rounds, progress)
        file.append(concluded)
        yield group, concluded


def _measure(group: Group, cells: list[Cell], settings: Settings, rounds: int | None, progress: Progress) -> list[Cell]:
    backbones = {group.model: networks.backbone(group.model)}
    made: Callable[[str, str], Network] = functools.cache(functools.partial(networks.network, backbones))
    if group.runtime == TRAINING:
        return measure_training(cells, made, settings, rounds, progress)
    candidates = [Candidate(cell, made(cell.model, cell.module)) for cell in cells]
    measure(candidates, find_runtime(group.runtime), settings, rounds, progress)
    return conclude(candidates, settings.protocol)


def _cells(group: Group, names: Sequence[str], machine: str) -> list[Cell]:
    how: dict[str, Any] = {"size": group.size, "batch": group.batch, "precision": group.precision}
    how |= {"protocol": _protocol().name, "machine": machine}
    if group.runtime == TRAINING:
        return training_cells(group.model, names, **how)
    return [
        Cell(model=group.model, module=name, runtime=group.runtime, deployed=deployed, **how)
        for name in names
        for deployed in ((False,) if name.startswith("timm:") else (False, True))
    ]


def _protocol() -> Any:
    return find_protocol("clean")
