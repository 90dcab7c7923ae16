"""Targets of the project for whole networks: the settings, and how much attention may cost there.

Overheads are those of one interleaved run over the plain network in its fastest form: ``fuse_``d and compiled in
training, deployed in inference, and in eager mode on a GPU with its tails in one pass each where that is faster.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import torch

from recalib.attention import CATALOGUE, PAPER, TIMM_LAYERS, create_attention
from recalib.errors import RecalibError, unknown
from recalib.measure import networks
from recalib.measure.cells import BASELINE, Cell, fingerprint
from recalib.measure.networks import NetworkGroup
from recalib.measure.schedule import Schedule, check_how
from recalib.measure.session import Group, How
from recalib.measure.training_steps import TRAINING, TrainingGroup, training_cells
from recalib.runtimes.machine import describe
from recalib.version import code_digest

TIMM = tuple(f"timm:{name}" for name in PAPER if name in TIMM_LAYERS)  # the same modules of timm's
MODULES = (*PAPER, *TIMM)
BATCH = 256  # fills a GPU
SMALLER = ("resnet18", "resnet34", "mobilenetv2_100")
GPU_FORMS = ((TRAINING, BATCH), ("eager", BATCH), ("compile", BATCH), ("cuda_graph", 1), ("eager", 1))
TIMES_LESS_THAN_TIMM = 5


@dataclass(frozen=True)
class Setting:
    """Networks that are measured in turn: a backbone plain and with every module.

    Attributes:
        model: name of the backbone.
        runtime: name of a runtime, or ``TRAINING`` for training steps, eager and compiled together.
        batch: images.
        precision: ``"fp32"`` or ``"bf16"``.
        size: side of the images in pixels.
    """

    model: str
    runtime: str
    batch: int
    precision: str
    size: int = 224


@dataclass(frozen=True)
class Target:
    """A promise.

    Attributes:
        name: ``"T1"`` and so on.
        claim: in a line.
        device: where it is measured.
        settings: what is measured; empty where another command measures it.
    """

    name: str
    claim: str
    device: Literal["cpu", "cuda"]
    settings: tuple[Setting, ...]


def _settings(models: Sequence[str], forms: Sequence[tuple[str, int]], precision: str) -> tuple[Setting, ...]:
    return tuple(Setting(model, *form, precision) for model, form in product(models, forms))


_CPU = ("resnet50", "resnet18", "mobilenetv2_100")
TARGETS = {
    target.name: target
    for target in (
        Target(
            "T1",
            "training step, ResNet-50, bf16, batch 256: at most 3 %, and a fifth of timm's SE and ECA",
            "cuda",
            _settings(["resnet50"], GPU_FORMS[:1], "bf16"),
        ),
        Target(
            "T2",
            "inference, ResNet-50, bf16, batch 256: at most 3 %",
            "cuda",
            _settings(["resnet50"], GPU_FORMS[1:3], "bf16"),
        ),
        Target(
            "T3",
            "inference, ResNet-50, bf16, batch 1: at most 8 % as a CUDA graph, 15 % in eager mode",
            "cuda",
            _settings(["resnet50"], GPU_FORMS[3:], "bf16"),
        ),
        Target(
            "T4a",
            "inference on a CPU in OpenVINO: at most 5 % at batch 1, 3 % at batch 8 (SRM, GCT as T4b)",
            "cpu",
            _settings(_CPU, [("openvino", 1), ("openvino", 8)], "fp32"),
        ),
        Target(
            "T4b",
            "inference on a CPU in ONNX Runtime and inductor: at most half of what the graph as inserted costs",
            "cpu",
            _settings(_CPU, list(product(("onnxruntime", "compile"), (1, 8))), "fp32"),
        ),
        Target("T5", "ResNet-18, -34 and MobileNetV2: as T1 to T3", "cuda", _settings(SMALLER, GPU_FORMS, "bf16")),
        Target("T6", "a CIFAR-10 run of ResNet-56, 164 epochs: at most 4 minutes (recalib train)", "cuda", ()),
    )
}


def chosen(
    targets: Sequence[str] = (), models: Sequence[str] = (), runtimes: Sequence[str] = (), batches: Sequence[int] = ()
) -> list[Target]:
    """Targets by name (``"T4"`` means T4a and T4b), and of these the settings that fit; nothing named means all.

    Raises:
        RecalibError: for a target that there is not, or a choice that leaves none of its settings.
    """
    for name in targets:
        if not any(_is_called(target, name) for target in TARGETS.values()):
            raise unknown("target", name, TARGETS)
    found = [t for t in TARGETS.values() if not targets or any(_is_called(t, name) for name in targets)]
    narrowed = [replace(t, settings=tuple(s for s in t.settings if _fits(s, models, runtimes, batches))) for t in found]
    if not any(t.settings for t in narrowed) and any(t.settings for t in found):
        known = sorted({f"{s.model} in {s.runtime} at batch {s.batch}" for t in found for s in t.settings})
        raise RecalibError(f"nothing of {', '.join(t.name for t in found)} fits; there is {', '.join(known)}")
    return narrowed


def _is_called(target: Target, name: str) -> bool:
    return name.lower() in (target.name.lower(), target.name.rstrip("ab").lower())


def _fits(setting: Setting, models: Sequence[str], runtimes: Sequence[str], batches: Sequence[int]) -> bool:
    wanted = ((models, setting.model), (runtimes, setting.runtime), (batches, setting.batch))
    return all(not allowed or value in allowed for allowed, value in wanted)


def not_here(target: Target, device: torch.device) -> str | None:
    """Reason why a target cannot be measured on this device, or None."""
    if target.device == device.type:
        return None
    return "needs an NVIDIA GPU" if target.device == "cuda" else "is about CPUs; hide the GPU to measure it here"


def bench(settings: Sequence[Setting], modules: Sequence[str], how: How) -> Schedule:
    """Networks in these settings, plain and with modules: a group each, in one process.

    Args:
        settings: of the targets that are to be measured.
        modules: attention modules; the plain network is always there, and timm's layers are not deployed.
        how: how.

    Raises:
        RecalibError: for an unknown module, or an argument that is not right.
    """
    check_how(how, [])
    names = networks.module_names(modules)
    machines = {
        precision: describe(how.settings(precision)) for precision in dict.fromkeys(s.precision for s in settings)
    }
    groups = [_group(setting, names, fingerprint(machines[setting.precision]), how) for setting in settings]
    return Schedule(groups, how, list(machines.values()))


def _group(setting: Setting, names: Sequence[str], machine: str, how: How) -> Group:
    same: dict[str, Any] = {"size": setting.size, "batch": setting.batch, "precision": setting.precision}
    same |= {"protocol": how.protocol, "machine": machine, "code": code_digest()}
    if setting.runtime == TRAINING:
        return TrainingGroup(training_cells(setting.model, names, **same))
    return NetworkGroup(
        [
            Cell(model=setting.model, module=name, runtime=setting.runtime, deployed=deployed, **same)
            for name in names
            for deployed in ((False,) if name.startswith("timm:") else (False, True))
        ]
    )


def allowed(cell: Cell, cells: Sequence[Cell]) -> float | None:
    """The largest ratio to the plain network that a cell's target allows; None where no target speaks of it.

    Args:
        cell: measured.
        cells: those of the same interleaved run, itself included.
    """
    if cell.module == BASELINE or cell.module.startswith("timm:"):
        return None
    factor = CATALOGUE[cell.module].leeway if cell.module in CATALOGUE else 1.0
    if cell.runtime.startswith(TRAINING):
        timm = _overhead(cells, f"timm:{cell.module}", runtime=cell.runtime)
        return 1 + min(0.03 * factor, *([] if timm is None else [timm / TIMES_LESS_THAN_TIMM]), 1)
    if not cell.deployed:
        return None
    if cell.device == "cuda":
        return 1 + factor * (0.03 if cell.batch > 1 else {"cuda_graph": 0.08}.get(cell.runtime, 0.15))
    if cell.runtime == "openvino" and not _needs_variance(cell.module):
        return 1 + factor * (0.05 if cell.batch == 1 else 0.03)
    as_inserted = _overhead(cells, cell.module, deployed=False)
    return None if as_inserted is None else 1 + max(as_inserted, 0) / 2


def verdict(cell: Cell, cells: Sequence[Cell]) -> str:
    """``"met"`` or ``"missed"`` where the whole 95 % interval says so, else ``"open"``; empty without a target."""
    limit = allowed(cell, cells)
    if limit is None or cell.overhead is None:
        return ""
    if cell.overhead.high <= limit:
        return "met"
    return "missed" if cell.overhead.low > limit else "open"


def _overhead(cells: Sequence[Cell], module: str, **form: object) -> float | None:
    found = (c for c in cells if c.module == module and all(getattr(c, k) == v for k, v in form.items()))
    return next((c.overhead.ratio - 1 for c in found if c.overhead is not None), None)


def _needs_variance(module: str) -> bool:
    return bool(create_attention(module, 16).needs_variance)
