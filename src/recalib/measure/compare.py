"""`recalib compare`: every module in every runtime against the plain network, one interleaved group after the other."""

import functools
from collections.abc import Sequence
from pathlib import Path

import torch

from recalib.errors import RecalibError, WorkFailed, unknown
from recalib.measure import networks
from recalib.measure.agreement import check_images, with_samples
from recalib.measure.cells import CellFile, fingerprint
from recalib.measure.group import Progress
from recalib.measure.runner import (
    Comparison,
    Group,
    Store,
    cells_of,
    measure_here,
    networks_of,
    run,
    unfinished_again,
)
from recalib.runtimes import DTYPES, Runtime, Settings, find_protocol, find_runtime
from recalib.runtimes.machine import best_device, describe
from recalib.runtimes.timer import FEWEST_FOR_AN_INTERVAL

MODULES = ("ab", "eca", "se", "srm", "multi_se", "gct")
RUNTIMES = ("eager", "onnxruntime", "openvino")


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
    calibration: Path | None = None,
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
        precision: a name in `recalib.runtimes.DTYPES`.
        protocol: ``"clean"`` or ``"paper"``.
        weights: a checkpoint for the one model.
        calibration: images to calibrate int8 on and to compare reduced precisions with float32 on; None for noise.
        threads: of the CPU; None for PyTorch's choice.
        rounds: samples a cell; None for as many as a time budget allows.
        resume: continue an earlier run.
        progress: told of every step.

    Raises:
        RecalibError: for an argument that is not right, before anything is measured.
    """
    if precision not in DTYPES:
        raise unknown("precision", precision, DTYPES)
    check_numbers(size=(size, 1), batch=(batch, 1), threads=(threads, 1), rounds=(rounds, FEWEST_FOR_AN_INTERVAL))
    if weights is not None and len(models) != 1:
        raise RecalibError(f"weights {str(weights)!r} belong to one model, and {len(models)} are named")
    check_images(calibration)
    timing = find_protocol(protocol)
    chosen = usable([find_runtime(name) for name in dict.fromkeys(runtimes)])
    names = networks.module_names(modules)
    backbones = {model: networks.backbone(model, weights) for model in dict.fromkeys(models)}

    settings = Settings(precision, threads or torch.get_num_threads(), best_device(), timing)
    comparison = Comparison(describe(settings))
    where = fingerprint(comparison.machine)
    how = {"size": size, "batch": batch, "precision": precision, "protocol": protocol, "machine": where}
    file = CellFile(out)
    known = file.read() if resume else {}
    file.start(comparison.machine, keep=resume)
    made = functools.cache(functools.partial(networks.network, backbones))

    def measure(group: Group, store: Store) -> None:
        model = group.cells[0].model
        sampled = with_samples(settings, backbones[model], model, (size, size), calibration, weights)
        measure_here(group, made, sampled, rounds, progress, store)

    groups = [
        Group(runtime.name, cells_of(networks_of(model, names, backbones), runtime.name, how))
        for model in backbones
        for runtime in chosen
    ]
    run(groups, measure, file, unfinished_again(known), comparison)
    return comparison


def check_numbers(**numbers: tuple[int | None, int]) -> None:
    """Refuse a number below the least that makes sense: ``name=(value, least)``.

    Raises:
        RecalibError: naming the number.
    """
    for name, (value, least) in numbers.items():
        if value is not None and value < least:
            raise RecalibError(f"{name}={value}: at least {least}")


def usable(runtimes: Sequence[Runtime]) -> Sequence[Runtime]:
    """The runtimes, if one of them is there; what lacks another is said in its cells.

    Raises:
        WorkFailed: if there is none.
    """
    reasons = [runtime.missing() for runtime in runtimes]
    if all(reasons):
        raise WorkFailed("; ".join(filter(None, reasons)) or "no runtime was named")
    return runtimes
