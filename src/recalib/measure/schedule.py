"""Schedules of `recalib compare` and `recalib latency`: what is timed together, and how often.

`recalib bench` and detectors have theirs in `targets` and `detectors`; all go through `recalib.measure.run.run`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from recalib.attention import PAPER
from recalib.errors import RecalibError, WorkFailed, unknown
from recalib.measure import networks
from recalib.measure.agreement import calibration_images, check_images
from recalib.measure.cells import BASELINE, Cell, fingerprint
from recalib.measure.networks import NetworkGroup
from recalib.measure.session import Group, How
from recalib.measure.sizes import Size
from recalib.measure.statistics import FEWEST_PROCESSES
from recalib.runtimes import DTYPES, find_protocol, find_runtime
from recalib.runtimes.machine import describe
from recalib.runtimes.timer import FEWEST_FOR_AN_INTERVAL
from recalib.version import code_digest

MODULES = PAPER
RUNTIMES = ("eager", "onnxruntime", "openvino")
WITHIN = 1.0  # points: below, two measurements of the same thing an hour apart differ anyway (docs/latency.md)


@dataclass(frozen=True)
class Schedule:
    """Cells and settings to measure.

    Attributes:
        groups: each is timed in turn, in a process of its own; those that are quick to measure come first.
        how: how.
        machines: descriptions of what is measured on, one a precision.
        processes: that measure each group, far apart in time; one, or at least `FEWEST_PROCESSES`.
        seconds: for all of it, preparation included, shared by the groups; None for as long as their rounds take.
    """

    groups: list[Group]
    how: How
    machines: list[dict[str, Any]] = field(default_factory=list)
    processes: int = 1
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.processes != 1 and self.processes < FEWEST_PROCESSES:
            raise RecalibError(f"processes={self.processes}: 1, or at least {FEWEST_PROCESSES}")


def comparison(
    models: Sequence[str] = ("resnet50",),
    modules: Sequence[str] = MODULES,
    runtimes: Sequence[str] = RUNTIMES,
    *,
    size: Size = 224,
    batch: int = 1,
    precision: str = "fp32",
    how: How | None = None,
    seconds: float | None = None,
) -> Schedule:
    """Networks with and without attention, before and after `deploy`, in several runtimes: a group a model and runtime.

    Besides the plain network and every module, as inserted and deployed, a group has the next deeper network of the
    family, plain.

    Args:
        models: networks, by names that `recalib.models.create_model` takes.
        modules: attention modules by name; the baseline always comes first.
        runtimes: names in `recalib.runtimes.RUNTIMES`.
        size: of the images.
        batch: images in one forward pass.
        precision: a name in `recalib.runtimes.DTYPES`.
        how: how; by default with narrow intervals, see `WITHIN`.
        seconds: for all of it; None for as long as the rounds take.

    Raises:
        RecalibError: for an argument that is not right.
        WorkFailed: where none of the runtimes can be used.
    """
    return grid(
        models, modules, [size], [batch], [precision], runtimes, deeper=True, processes=1, seconds=seconds,
        how=how or How(within=WITHIN),
    )  # fmt: skip


def grid(
    models: Sequence[str],
    modules: Sequence[str] = MODULES,
    sizes: Sequence[Size] = (224,),
    batches: Sequence[int] = (1,),
    precisions: Sequence[str] = ("fp32",),
    runtimes: Sequence[str] = RUNTIMES,
    *,
    deeper: bool = False,
    processes: int = FEWEST_PROCESSES,
    how: How | None = None,
    seconds: float | None = None,
) -> Schedule:
    """Every combination of models, sizes, batches, precisions and runtimes, a group each; see `comparison`.

    Args:
        models: networks.
        modules: attention modules; the baseline always runs.
        sizes: of the images.
        batches: images in one forward pass.
        precisions: names in `recalib.runtimes.DTYPES`.
        runtimes: names in `recalib.runtimes.RUNTIMES`.
        deeper: whether the next deeper plain network of each family is timed along, as a reference.
        processes: that measure each group.
        how: how.
        seconds: for all of it; None for as long as the rounds take.

    Raises:
        RecalibError: for an argument that is not right.
        WorkFailed: where none of the runtimes can be used.
    """
    how = how or How()
    models, sizes, batches, precisions, runtimes = map(_once, (models, sizes, batches, precisions, runtimes))
    for precision in precisions:
        if precision not in DTYPES:
            raise unknown("precision", precision, DTYPES)
    for size in sizes:
        check_numbers(size=(size if isinstance(size, int) else min(size), 1))
    for batch in batches:
        check_numbers(batch=(batch, 1))
    check_how(how, models)
    names = networks.module_names(modules)
    _check_runtimes(runtimes)
    for model in models:
        networks.check(model, how.weights)
    machines = {precision: describe(how.settings(precision)) for precision in precisions}
    groups: list[Group] = []
    for precision, batch, size, model, runtime in product(precisions, batches, sizes, models, runtimes):
        setting = {"size": size, "batch": batch, "precision": precision, "runtime": runtime, "protocol": how.protocol}
        setting |= {"machine": fingerprint(machines[precision]), "code": code_digest()}
        groups.append(NetworkGroup(_cells(_networks(model, names, models if deeper else None), **setting)))
    return Schedule(groups, how, list(machines.values()), processes, seconds)


def _once(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _networks(model: str, modules: Sequence[str], others: Sequence[str] | None) -> list[tuple[str, str]]:
    """Model and module of a group's networks; with the next deeper one of the family unless it is among the others."""
    deeper = None if others is None else networks.deeper(model)
    reference = [(deeper, BASELINE)] if deeper is not None and deeper not in (others or ()) else []
    return [*((model, module) for module in modules), *reference]


def _cells(pairs: Iterable[tuple[str, str]], **setting: Any) -> list[Cell]:
    """Cells of these networks, as inserted and deployed."""
    return [
        Cell(model=model, module=module, deployed=form, **setting) for model, module in pairs for form in (False, True)
    ]


def check_how(how: How, models: Sequence[str]) -> None:
    """Refuse what cannot be right of how things are measured.

    Raises:
        RecalibError: naming it.
    """
    check_numbers(threads=(how.threads, 1), rounds=(how.rounds, FEWEST_FOR_AN_INTERVAL), images=(how.images, 1))
    if how.within is not None and not how.within > 0:
        raise RecalibError(f"within={how.within}: points of overhead, such as {WITHIN}")
    if how.weights is not None and len(models) != 1:
        raise RecalibError(f"weights {str(how.weights)!r} belong to one model, and {len(models)} are named")
    if how.data is not None and how.weights is None:
        raise RecalibError(f"data {str(how.data)!r}: only trained weights have an accuracy; give them with --weights")
    check_images(calibration_images(how.calibration, how.data))
    find_protocol(how.protocol)


def check_numbers(**numbers: tuple[int | None, int]) -> None:
    """Refuse a number below the least that makes sense: ``name=(value, least)``.

    Raises:
        RecalibError: naming the number.
    """
    for name, (value, least) in numbers.items():
        if value is not None and value < least:
            raise RecalibError(f"{name}={value}: at least {least}")


def _check_runtimes(names: Sequence[str]) -> None:
    """Do nothing if one of the runtimes is there; what lacks another is said in its cells."""
    reasons = [find_runtime(name).missing() for name in names]
    if all(reasons):
        raise WorkFailed("; ".join(filter(None, reasons)) or "no runtime was named")
