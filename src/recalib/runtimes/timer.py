"""Times sessions in turn, A B C A B C ..., so that whatever drifts drifts for all alike."""

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

from recalib.runtimes.base import Session

NOISY = 0.025  # coefficient of variation above which trtexec asks to lock the clocks (sampleReporting.cpp)
LAUNCH_BOUND = 0.8  # share of the compute time above which trtexec says that launching takes the time (same file)
BUDGET_S = 12.0  # for a run of rounds: three runtimes, with their exports, then stay within three minutes on two cores
FEWEST_ROUNDS = 10  # however long they take: the second and ninth of ten samples already span 95 % for a median
MOST_ROUNDS = 100  # above, intervals are far narrower than what differs from one run to the next
FEWEST_FOR_AN_INTERVAL = 5  # of these, one in 5**5 resamples repeats a single round; with fewer, intervals lie


class Sample(NamedTuple):
    """One timed call.

    Attributes:
        latency_ms: until the result is there; milliseconds a forward pass where one call makes many at once.
        enqueue_ms: of these, until the work was queued on a GPU; 0 on a CPU.
    """

    latency_ms: float
    enqueue_ms: float = 0.0


def warm_up(session: Session, seconds: float) -> None:
    """Run a session for at least so many seconds, and at least once."""
    start = time.perf_counter()
    time_call(session)
    while time.perf_counter() - start < seconds:
        time_call(session)


def interleave(sessions: Sequence[Session], rounds: int | None = None) -> Iterator[list[Sample]]:
    """Time every session once a round, in the given order, and yield the samples of each round.

    Args:
        sessions: warm ones.
        rounds: how many; None for as many as `expected_rounds` gives.
    """
    start = time.perf_counter()
    with _garbage_kept():
        for done in range(1, (rounds or MOST_ROUNDS) + 1):
            yield [time_call(session) for session in sessions]
            if rounds is None and done >= expected_rounds(done, time.perf_counter() - start):
                return


def expected_rounds(done: int, seconds: float) -> int:
    """Number of rounds that fit into `BUDGET_S`, from `FEWEST_ROUNDS` to `MOST_ROUNDS`."""
    return min(max(int(BUDGET_S * done / seconds), FEWEST_ROUNDS), MOST_ROUNDS)


def time_call(session: Session) -> Sample:
    """Time one `run`, divided by its forward passes: on a CPU by the wall clock, on a GPU by events on its stream."""
    return _by_events(session) if session.asynchronous else _by_clock(session)


def warnings_for(latencies_ms: Sequence[float], enqueue_ms: float = 0.0) -> list[str]:
    """Warnings about these latencies, of which queueing took so much (median)."""
    latency = np.array(latencies_ms)
    variation = latency.std() / latency.mean()
    found = []
    if variation > NOISY:
        found.append(f"noisy: coefficient of variation {variation:.1%}, above {NOISY:.1%}")
    if (share := enqueue_ms / np.median(latency)) > LAUNCH_BOUND:
        found.append(f"launch-bound: enqueueing takes {share:.0%} of the compute time, above {LAUNCH_BOUND:.0%}")
    return found


def _by_clock(session: Session) -> Sample:
    start = time.perf_counter()
    session.run()
    return Sample((time.perf_counter() - start) * 1e3 / session.batches)


def _by_events(session: Session) -> Sample:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start = time.perf_counter()
    begin.record()
    session.run()
    end.record()
    enqueue = (time.perf_counter() - start) * 1e3
    end.synchronize()
    return Sample(begin.elapsed_time(end), enqueue)


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """No garbage collection meanwhile, as in timeit: it would hit one session and not the next."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
