"""One interleaved run: the networks of a model in one runtime, before and after deploy."""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from recalib.cost.count import Cost
from recalib.deploy import deploy
from recalib.errors import RecalibError, WorkFailed
from recalib.measure.agreement import agreement
from recalib.measure.cells import BASELINE, Cell
from recalib.measure.networks import Network, cost_in, seeded
from recalib.measure.sizes import sides
from recalib.measure.statistics import distinguishable, ratio_interval
from recalib.runtimes import Runtime, Session, Settings, timer
from recalib.runtimes.memory import available_bytes, free_memory, is_out_of_memory
from recalib.runtimes.protocol import Protocol
from recalib.runtimes.timer import Sample

Progress = Callable[[str, int, int], None]  # what is being done, and how many steps of how many are done
# largest difference to float64 over the largest output; random ResNets, MobileNetV2 and EfficientNet differ by
# 2e-6, 6e-3 and 4e-2 at most; where their attention is lost, by 6e-2 (AB) to 6
# int8 on noise, calibrated on noise: 2e-2 at most; calibrated on images, more, and `agreement` tells how much
TOLERANCE = {"fp32": 1e-4, "tf32": 2e-2, "fp16": 2e-2, "bf16": 1e-1, "int8": 0.5}
PREPARING = "preparing"
WEIGHT_COPIES = 4  # the network, its deployed form, its export and what the runtime makes of it
ACTIVATION_COPIES = 3  # of what the layer that moves most reads and writes: its block's other maps, a runtime's arena


@dataclass
class Candidate:
    """A cell on its way to being measured.

    Attributes:
        cell: what is known of it so far.
        network: what is to be measured.
        session: the network, ready to run; None where it cannot.
        samples: one a round.
    """

    cell: Cell
    network: Network
    session: Session | None = None
    samples: list[Sample] = field(default_factory=list)


def measure(
    candidates: Sequence[Candidate], runtime: Runtime, settings: Settings, rounds: int | None, progress: Progress
) -> None:
    """Prepare and time candidates in turn; what cannot be measured gets its status, and the others go on.

    Samples are added round by round, so that an interrupted call leaves what `conclude` can use.

    Args:
        candidates: networks to compare with each other.
        runtime: where they run.
        settings: how they run.
        rounds: number of samples; None for what the protocol says or else the time budget gives.
        progress: told of every step.
    """
    name = f"{candidates[0].cell.model} in {runtime.name}"
    for done, candidate in enumerate(candidates):
        form = "deployed" if candidate.cell.deployed else "as inserted"
        progress(f"{name}: {PREPARING} {candidate.network.module}, {form}", done, len(candidates))
        with _recorded(candidate.cell):
            session = _prepare(candidate, runtime, settings)
            timer.warm_up(session, settings.protocol.warm_up_s)
            candidate.session = session
        if candidate.session is None:
            free_memory()
    ready = [one for one in candidates if one.session is not None]
    try:
        _time(ready, rounds or settings.protocol.rounds, progress, f"{name}: timing")
    except Exception as error:  # after every one of them has run for a while: nobody knows whose fault it is
        for candidate in ready:
            _record(candidate.cell, error)
            candidate.samples.clear()


def conclude(candidates: Sequence[Candidate], protocol: Protocol) -> list[Cell]:
    """The cells with their latencies and overheads; those with too few rounds for an interval are left out."""
    timed = [one for one in candidates if len(one.samples) >= timer.FEWEST_FOR_AN_INTERVAL]
    for candidate in timed:
        enqueue = float(np.median([sample.enqueue_ms for sample in candidate.samples]))
        samples = [sample.latency_ms for sample in candidate.samples]
        _set_latency(candidate.cell, samples, [len(samples)], enqueue)
    _set_overheads([one.cell for one in timed], protocol)
    return [one.cell for one in candidates if one in timed or one.cell.status != "ok"]


def pooled(before: Sequence[Cell], again: Sequence[Cell], protocol: Protocol) -> list[Cell]:
    """The cells of a group that one more process measured, with what the processes before it said.

    Args:
        before: all cells of the group.
        again: those measured again; one that came to nothing loses what it had.
        protocol: of both.
    """
    new = {cell.key: cell for cell in again}
    cells = [_added(cell, new[cell.key]) if cell.key in new else cell for cell in before]
    _set_overheads([cell for cell in cells if cell.latency_ms], protocol)
    return tell_apart(cells)


def _added(cell: Cell, again: Cell) -> Cell:
    if not (cell.latency_ms and again.latency_ms):
        return again
    samples = cell.latency_ms["samples"] + again.latency_ms["samples"]
    both = replace(cell, overhead=None, baseline=None, complete=again.complete)
    enqueue = float(np.mean([cell.enqueue_ms or 0.0, again.enqueue_ms or 0.0]))
    _set_latency(both, samples, cell.processes + again.processes, enqueue)
    return both


def _set_latency(cell: Cell, samples: list[float], processes: list[int], enqueue_ms: float) -> None:
    middle = float(np.median(samples))
    cell.latency_ms = {"median": middle, "min": min(samples), "samples": samples, "processes": processes}
    cell.images_per_s = 1e3 * cell.batch / middle
    cell.enqueue_ms = enqueue_ms or None
    cell.warnings = timer.warnings_for(samples, enqueue_ms)


def _prepare(candidate: Candidate, runtime: Runtime, settings: Settings) -> Session:
    runtime.require()
    cell, network = candidate.cell, candidate.network.made()
    shape = (cell.batch, 3, *sides(cell.size))
    counted = candidate.network.cost(shape, settings.dtype)
    _check_memory(counted, settings)
    if cell.deployed:
        # where PyTorch will run it, as its forms depend on the device
        place = settings.device if runtime.target == "eager" else torch.device("cpu")
        with seeded():
            network = deploy(copy.deepcopy(network).to(place), shape, target=runtime.target).cpu()  # type: ignore[arg-type]
        counted = cost_in(settings.dtype, network, shape)
    cell.params, cell.macs = counted.params, counted.macs
    cell.bytes_moved = None if settings.precision == "int8" else counted.bytes_moved  # what is int8 the runtime decides
    images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    session = runtime.prepare(network, images, settings)
    _check_output(session.output(), candidate.network, images, TOLERANCE[settings.precision])
    cell.setup_s, cell.device, cell.layout = session.setup_s, session.device, session.layout
    cell.in_flight = session.in_flight
    if settings.samples is not None:
        expected = candidate.network.logits(settings.samples)
        cell.agreement = agreement(session, settings.samples, expected, cell.batch)
    return session


def _check_memory(counted: Cost, settings: Settings) -> None:
    """Refuse what would have the process killed: systems promise memory that they do not have."""
    largest = max(module.own.bytes_moved for module in counted.modules.values())
    weights = counted.params * settings.dtype.itemsize
    needed = WEIGHT_COPIES * weights + ACTIVATION_COPIES * largest
    for device in {torch.device("cpu"), settings.device}:
        left = available_bytes(device)
        if left is not None and needed > left:
            raise MemoryError(f"needs about {needed / 2**30:.1f} GiB on {device.type}, {left / 2**30:.1f} GiB are left")


def _check_output(output: Tensor, network: Network, images: Tensor, tolerance: float) -> None:
    """Compare the first and last image's output with the plain network's in float64: a wrong answer has no latency."""
    ends = [0, -1] if len(images) > 1 else [0]
    expected = network.reference(images[ends])
    if output.shape[1:] != expected.shape[1:] or len(output) != len(images):
        raise WorkFailed(f"wrong output: its shape is {tuple(output.shape)}")
    error = float((output[ends].double() - expected).abs().max() / expected.abs().max())
    if not error <= tolerance:
        raise WorkFailed(f"wrong output: it differs by {error:.1e} of the largest value from float64")


def _time(ready: Sequence[Candidate], rounds: int | None, progress: Progress, what: str) -> None:
    sessions = [one.session for one in ready if one.session is not None]
    for candidate in ready:
        candidate.cell.complete = False
    start = time.perf_counter()
    for done, samples in enumerate(timer.interleave(sessions, rounds) if sessions else (), start=1):
        for candidate, sample in zip(ready, samples, strict=True):
            candidate.samples.append(sample)
        progress(what, done, rounds or timer.expected_rounds(done, time.perf_counter() - start))
    for candidate in ready:
        candidate.cell.complete = True


def _set_overheads(cells: Sequence[Cell], protocol: Protocol) -> None:
    """Compare each with the fastest form of the same network without attention, measured in the same rounds."""

    def figure(one: Cell) -> float:
        assert one.latency_ms is not None
        return float(protocol.statistic(one.latency_ms["samples"]))

    for cell in cells:
        plain = [one for one in cells if one.model == cell.model and one.module == BASELINE]
        if plain:
            fastest = min(plain, key=figure)
            assert cell.latency_ms is not None
            assert fastest.latency_ms is not None
            ours, theirs = cell.latency_ms["samples"], fastest.latency_ms["samples"]
            cell.overhead = ratio_interval(ours, theirs, protocol.statistic, cell.processes)._asdict()
            cell.baseline = "deployed" if fastest.deployed else "undeployed"


def tell_apart(cells: Sequence[Cell]) -> list[Cell]:
    """Say which overheads of a concluded group differ from none, corrected for as many tests as there are in it."""
    tested = [cell for cell in cells if cell.overhead is not None and cell.latency_ms is not None]
    pairs = [(cell, _reference(cell, cells)) for cell in tested]
    others = [(cell, plain) for cell, plain in pairs if cell is not plain]
    verdicts = distinguishable(
        [(cell.latency_ms["samples"], plain.latency_ms["samples"]) for cell, plain in others],  # type: ignore[index]
        tested[0].processes if tested else (),
    )
    for cell in tested:
        cell.overhead |= {"p": 1.0, "distinguishable": False}  # type: ignore[operator]
    for (cell, _), (p, differs) in zip(others, verdicts, strict=True):
        cell.overhead |= {"p": p, "distinguishable": differs}  # type: ignore[operator]
    return list(cells)


def _reference(cell: Cell, cells: Sequence[Cell]) -> Cell:
    """The cell that another one's overhead is over."""
    form = cell.baseline == "deployed"
    return next(one for one in cells if (one.model, one.module, one.deployed) == (cell.model, BASELINE, form))


@contextmanager
def _recorded(cell: Cell) -> Iterator[None]:
    """Turn what goes wrong into the cell's status."""
    try:
        yield
    except Exception as error:
        _record(cell, error)


def _record(cell: Cell, error: Exception) -> None:
    if is_out_of_memory(error):
        cell.status = "oom"
    elif isinstance(error, RecalibError) and not isinstance(error, WorkFailed):
        cell.status = "unsupported"
    else:
        cell.status = "failed"
    reason = (str(error).strip().splitlines() or [""])[0]
    cell.message = reason if isinstance(error, RecalibError) else f"{type(error).__name__}: {reason}"
