"""One interleaved run of a group: everything in it is prepared, timed in turn, and concluded.

`measure` is what a process does; `recalib.measure.run` starts one for every group of a schedule.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recalib.errors import RecalibError, WorkFailed
from recalib.measure.cells import BASELINE, Cell, Latency, Overhead, fastest
from recalib.measure.load import Load
from recalib.measure.statistics import distinguishable, ratio_of
from recalib.runtimes import Session, Settings, find_protocol, timer
from recalib.runtimes.machine import best_device
from recalib.runtimes.memory import free_memory, is_out_of_memory
from recalib.runtimes.protocol import Protocol
from recalib.runtimes.timer import Sample

Progress = Callable[[str, int, int], None]  # what is being done, and how many steps of how many are done
Prepare = Callable[[Cell], Session]  # makes what a cell names ready to run, and notes in the cell what is known of it
PREPARING = "preparing"
PREPARATION = 0.6  # the share of a group's time after which nothing more is prepared
MOST_ROUNDS_WITHIN = 1000  # where rounds go on until intervals are narrow
LONGEST_WITHIN_S = 10 * timer.BUDGET_S  # and the longest they do, where no time is set


@dataclass(frozen=True)
class How:
    """Conditions of measurement of a whole schedule.

    Attributes:
        protocol: ``"clean"`` or ``"paper"``.
        threads: of the CPU; None for PyTorch's choice.
        rounds: samples a cell and process; None for what the protocol says, or else a time budget gives.
        within: go on until the interval of every deciding overhead is at most so many points to either side.
        weights: a checkpoint for the one model; None for random weights.
        calibration: images to calibrate int8 on and to compare reduced precisions with float32 on; None for noise.
        data: labelled images on which what is timed is evaluated, too; None for none.
        images: how many of them, at most.
    """

    protocol: str = "clean"
    threads: int | None = None
    rounds: int | None = None
    within: float | None = None
    weights: Path | None = None
    calibration: Path | None = None
    data: Path | None = None
    images: int = 1000

    def settings(self, precision: str) -> Settings:
        """Settings in which cells of a precision run."""
        threads = self.threads or torch.get_num_threads()
        return Settings(precision, threads, best_device(), find_protocol(self.protocol))


@dataclass
class Group(ABC):
    """Cells timed together, in turn: networks of a model at one setting.

    Attributes:
        cells: what is known of them before.
    """

    cells: list[Cell]

    @property
    def what(self) -> str:
        """Title for a progress bar."""
        return f"{self.cells[0].model} in {self.cells[0].runtime}"

    def missing(self) -> str | None:
        """Reason why none of it can be measured on this machine, with what mends it; None if it can."""
        return None

    @abstractmethod
    def preparing(self, how: How) -> Prepare:
        """The function that prepares its cells.

        Raises:
            RecalibError: where nothing of it can be prepared.
        """

    @abstractmethod
    def seconds(self, how: How) -> float:
        """Rough time of a process, so that nobody starts by mistake what takes a night."""

    def part(self, cells: Sequence[Cell]) -> "Group":
        """Some of its cells as a group of their own."""
        return replace(self, cells=list(cells))


class InParts(Session):
    """A session that knows what the parts of a call took."""

    @abstractmethod
    def parts_ms(self, totals: Sequence[float]) -> dict[str, Any]:
        """``{"median", "samples"}`` of each part, of the last calls, which took these milliseconds."""


@dataclass
class PendingCell:
    """A cell on its way to being measured.

    Attributes:
        cell: what is known of it so far.
        session: the network, ready to run; None where it cannot.
        samples: one a round.
    """

    cell: Cell
    session: Session | None = None
    samples: list[Sample] = field(default_factory=list)


def measure(
    group: Group, how: How, progress: Progress = lambda what, done, of: None, *, seconds: float | None = None
) -> list[Cell]:
    """Prepare and time a group's cells in turn; what cannot be measured gets its status, and the others go on.

    Args:
        group: what to measure.
        how: how.
        progress: told of every step; what it raises ends the measurement, and `KeyboardInterrupt` leaves what was
            measured until then.
        seconds: all the time there is, preparation included. It goes first to what decides the advice: the deployed
            networks and the plain one are prepared before the others, and timed on when all have some rounds. What
            there was no time to prepare is not among the cells.

    Returns:
        The cells, in the order of the group; those with too few rounds for an interval are left out.
    """
    start = time.monotonic()
    settings = how.settings(group.cells[0].precision)
    candidates = [PendingCell(replace(cell)) for cell in group.cells]
    try:
        with _state(settings):
            ready = _prepare(
                group, candidates, how, progress, None if seconds is None else start + PREPARATION * seconds
            )
            _time(ready, how, progress, f"{group.what}: timing", None if seconds is None else start + seconds)
    except KeyboardInterrupt:
        pass
    return conclude(candidates, settings.protocol)


def _prepare(
    group: Group, candidates: Sequence[PendingCell], how: How, progress: Progress, until: float | None
) -> list[PendingCell]:
    """Those that are ready to run, in the order they were given."""
    try:
        prepare = group.preparing(how)
    except RecalibError as error:
        for candidate in candidates:
            _record(candidate.cell, error)
        return []
    warm_up_s = find_protocol(how.protocol).warm_up_s
    order = list(candidates) if until is None else sorted(candidates, key=lambda one: _urgency(one.cell, group.cells))
    for done, candidate in enumerate(order):
        if until is not None and done > 1 and time.monotonic() > until:
            break
        cell = candidate.cell
        form = "deployed" if cell.deployed else "as inserted"
        progress(f"{group.what}: {PREPARING} {cell.module}, {form}", candidates.index(candidate), len(candidates))
        with _recorded(cell):
            session = prepare(cell)
            timer.warm_up(session, warm_up_s)
            candidate.session = session
        free_memory()
    del prepare  # and with it the networks as PyTorch has them
    free_memory()
    return [one for one in candidates if one.session is not None]


def _urgency(cell: Cell, cells: Sequence[Cell]) -> int:
    """Where a cell stands among those that decide the advice: the smaller, the sooner it is prepared."""
    reference = cell.module == BASELINE and cell.model != cells[0].model  # the next deeper network
    ranks = [(True, BASELINE), (True, ""), (False, BASELINE)]  # the plain network and the modules, deployed; plain
    rank = (cell.deployed, BASELINE if cell.module == BASELINE else "")
    if reference:
        return 3 if cell.deployed else 5
    return ranks.index(rank) if rank in ranks else 4


def _time(ready: Sequence[PendingCell], how: How, progress: Progress, what: str, until: float | None) -> None:
    """Time what is ready, in turn, for as long as is asked for."""
    if not ready:
        return
    for candidate in ready:
        candidate.cell.complete = False
    load = Load()
    fixed = how.rounds or find_protocol(how.protocol).rounds
    try:
        if fixed is None and (how.within is not None or until is not None):
            _until_narrow(ready, how, progress, what, until)
        else:
            _rounds(ready, fixed, progress, what, until)
    except Exception as error:  # after every one of them has run for a while: nobody knows whose fault it is
        for candidate in ready:
            _record(candidate.cell, error)
            candidate.samples.clear()
    finally:
        for candidate in ready:
            candidate.cell.load = load.so_far()
    for candidate in ready:
        candidate.cell.complete = True


def _rounds(
    ready: Sequence[PendingCell], rounds: int | None, progress: Progress, what: str, until: float | None = None
) -> None:
    """So many rounds, or as many as the timer's budget gives; until then, but never too few for an interval."""
    start = time.perf_counter()
    for done, samples in enumerate(timer.interleave(_sessions(ready), rounds), start=1):
        for candidate, sample in zip(ready, samples, strict=True):
            candidate.samples.append(sample)
        progress(what, done, rounds or timer.expected_rounds(done, time.perf_counter() - start))
        if until is not None and done >= timer.FEWEST_FOR_AN_INTERVAL + 1 and time.monotonic() > until:
            return


def _until_narrow(ready: Sequence[PendingCell], how: How, progress: Progress, what: str, until: float | None) -> None:
    """Some rounds of all, then rounds of what decides the advice until its intervals are narrow or time is over."""
    end = time.monotonic() + LONGEST_WITHIN_S if until is None else until
    _rounds(ready, timer.FEWEST_ROUNDS, progress, what, until)
    models = {ready[0].cell.model}
    deciding = [one for one in ready if one.cell.model in models and (one.cell.deployed or one.cell.module == BASELINE)]
    deciding = deciding if any(one.cell.module != BASELINE for one in deciding) else list(ready)
    asked = how.within
    for done, samples in enumerate(timer.interleave(_sessions(deciding), MOST_ROUNDS_WITHIN), start=1):
        for candidate, sample in zip(deciding, samples, strict=True):
            candidate.samples.append(sample)
        rounds = len(deciding[0].samples)
        progress(f"{what} until the intervals are narrow", rounds, MOST_ROUNDS_WITHIN)
        if time.monotonic() > end:
            return
        if asked is not None and done % timer.FEWEST_ROUNDS == 0 and _widest(deciding, how) <= asked:
            return


def _widest(deciding: Sequence[PendingCell], how: How) -> float:
    """Half of the widest interval of an overhead among these, in points."""
    cells = conclude([replace(one, cell=replace(one.cell)) for one in deciding], find_protocol(how.protocol))
    return max((50 * (one.overhead.high - one.overhead.low) for one in cells if one.overhead), default=0.0)


def conclude(candidates: Sequence[PendingCell], protocol: Protocol) -> list[Cell]:
    """The cells with their latencies and overheads; those with too few rounds for an interval are left out.

    Which overheads differ from none the process that gathers the cells says (`tell_apart`): SciPy takes seconds and
    memory that a process which measures has better use for.
    """
    timed = [one for one in candidates if len(one.samples) >= timer.FEWEST_FOR_AN_INTERVAL]
    for candidate in timed:
        enqueue = float(np.median([sample.enqueue_ms for sample in candidate.samples]))
        samples = [sample.latency_ms for sample in candidate.samples]
        _set_latency(candidate.cell, samples, [len(samples)], enqueue)
        if isinstance(candidate.session, InParts):
            candidate.cell.parts_ms = candidate.session.parts_ms(samples)
    cells = [one.cell for one in timed]
    _set_overheads(cells, protocol)
    return [one.cell for one in candidates if one in timed or one.cell.status != "ok"]


def pooled(before: Sequence[Cell], again: Sequence[Cell]) -> list[Cell]:
    """The cells of a group that one more process measured, with what the processes before it said.

    Args:
        before: all cells of the group; none before its first process.
        again: those measured again; one that came to nothing loses what it had.
    """
    if not again:
        return list(before)
    protocol = find_protocol(again[0].protocol)
    if not before:
        return tell_apart(again, protocol)
    new = {cell.key: cell for cell in again}
    cells = [_added(cell, new[cell.key]) if cell.key in new else cell for cell in before]
    _set_overheads([cell for cell in cells if cell.latency_ms], protocol)
    return tell_apart(cells, protocol)


def _added(cell: Cell, again: Cell) -> Cell:
    if not (cell.latency_ms and again.latency_ms):
        return again
    samples = cell.latency_ms.samples + again.latency_ms.samples
    both = replace(again, overhead=None, baseline=None)
    enqueue = float(np.mean([cell.enqueue_ms or 0.0, again.enqueue_ms or 0.0]))
    _set_latency(both, samples, cell.processes + again.processes, enqueue)
    if cell.parts_ms and again.parts_ms:
        both.parts_ms = {part: _more(one, again.parts_ms[part]) for part, one in cell.parts_ms.items()}
    return both


def _more(part: dict[str, object], again: dict[str, object]) -> dict[str, object]:
    samples: list[float] = [*part["samples"], *again["samples"]]  # type: ignore[misc]
    return {"median": float(np.median(samples)), "samples": samples}


def _set_latency(cell: Cell, samples: list[float], processes: list[int], enqueue_ms: float) -> None:
    middle = float(np.median(samples))
    cell.latency_ms = Latency(middle, min(samples), samples, processes)
    cell.images_per_s = 1e3 * cell.batch / middle
    cell.enqueue_ms = enqueue_ms or None
    cell.warnings = timer.warnings_for(samples, enqueue_ms)


def _set_overheads(cells: Sequence[Cell], protocol: Protocol) -> None:
    """Compare each with the fastest form of the same network without attention, measured in the same rounds."""
    for cell in cells:
        plain = fastest(one for one in cells if (one.model, one.module) == (cell.model, BASELINE))
        if plain is not None and cell.latency_ms is not None and plain.latency_ms is not None:
            cell.overhead = Overhead(*ratio_of(cell.latency_ms, plain.latency_ms, protocol.statistic))
            cell.baseline = "deployed" if plain.deployed else "undeployed"


def tell_apart(cells: Sequence[Cell], protocol: Protocol) -> list[Cell]:
    """Say which overheads of a concluded group differ from none, corrected for as many tests as there are in it."""
    plain = {(one.model, one.deployed): one for one in cells if one.module == BASELINE}
    others, pairs = [], []
    for cell in cells:
        if cell.overhead is None or cell.latency_ms is None:
            continue
        reference = plain[cell.model, cell.baseline == "deployed"]
        if cell is reference:
            cell.overhead = replace(cell.overhead, p=1.0, distinguishable=False)
        elif reference.latency_ms is not None:
            others.append(cell)
            pairs.append((cell.latency_ms, reference.latency_ms))
    try:
        verdicts = distinguishable(pairs, protocol.statistic)
    except ImportError:  # without scipy, as GPU machines are: what the interval says
        return list(cells)
    for cell, (p, differs) in zip(others, verdicts, strict=True):
        cell.overhead = replace(cell.over, p=p, distinguishable=differs)
    return list(cells)


def _sessions(candidates: Sequence[PendingCell]) -> list[Session]:
    return [one.session for one in candidates if one.session is not None]


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
