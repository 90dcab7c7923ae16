"""Sessions are timed in turn, warm, and the reader is warned of what makes samples doubtful."""

import gc
import time
from itertools import islice

import numpy as np
import pytest
import torch

from recalib.runtimes import Session, timer
from recalib.runtimes.timer import expected_rounds, interleave, time_call, warm_up, warnings_for


class Sleeper(Session):
    def __init__(self, name="", calls=None, seconds=0.0):
        self.name, self.seconds = name, seconds
        self.calls = [] if calls is None else calls

    def run(self):
        self.calls.append(self.name)
        time.sleep(self.seconds)

    def output(self):
        return torch.zeros(1)


def test_sessions_take_turns_in_the_given_order():
    calls = []
    rounds = list(interleave([Sleeper(name, calls) for name in "ABC"], rounds=3))
    assert "".join(calls) == "ABCABCABC"
    assert [len(samples) for samples in rounds] == [3, 3, 3]


def test_a_sample_is_the_time_of_one_call_and_belongs_to_its_session():
    slow, fast = Sleeper(seconds=0.02), Sleeper(seconds=0.001)
    for samples in interleave([slow, fast], rounds=3):
        assert 20 <= samples[0].latency_ms < 200
        assert 1 <= samples[1].latency_ms < samples[0].latency_ms
    assert len(slow.calls) == 3


def test_the_time_of_many_forward_passes_is_divided_by_them():
    session = Sleeper(seconds=0.02)
    session.batches = 8
    assert 2.5 <= time_call(session).latency_ms < 20


def test_without_a_number_of_rounds_there_are_as_many_as_fit_into_the_budget(monkeypatch):
    monkeypatch.setattr(timer, "BUDGET_S", 0.2)
    rounds = len(list(interleave([Sleeper(seconds=0.01)])))
    assert timer.FEWEST_ROUNDS <= rounds <= 20


@pytest.mark.parametrize(("round_s", "rounds"), [(timer.BUDGET_S, 10), (timer.BUDGET_S / 40, 40), (1e-6, 100)])
def test_the_budget_gives_between_ten_and_a_hundred_rounds(round_s, rounds):
    assert expected_rounds(4, 4 * round_s) == rounds


@pytest.mark.parametrize(("seconds", "calls"), [(0.05, range(2, 12)), (0.0, [1])])
def test_warming_up_takes_the_time_it_is_given_and_at_least_one_call(seconds, calls):
    session = Sleeper(seconds=0.005)
    start = time.perf_counter()
    warm_up(session, seconds)
    assert time.perf_counter() - start >= seconds
    assert len(session.calls) in calls


def test_garbage_is_not_collected_while_timing_and_again_afterwards():
    states = [gc.isenabled() for _ in islice(interleave([Sleeper()], rounds=5), 2)]
    gc.collect()
    assert states == [False, False]
    assert gc.isenabled()


@pytest.mark.parametrize(("spread", "warned"), [(0.024, False), (0.026, True)])
def test_samples_that_vary_by_more_than_two_and_a_half_percent_are_called_noisy(spread, warned):
    samples = [10 * (1 + sign * spread) for sign in (-1, 1) * 10]
    assert any(text.startswith("noisy: coefficient of variation 2.6%") for text in warnings_for(samples)) == warned


@pytest.mark.parametrize(("enqueue_ms", "warned"), [(0.0, False), (7.9, False), (8.1, True)])
def test_a_gpu_that_waits_for_launches_is_called_launch_bound(enqueue_ms, warned):
    found = warnings_for([10.0] * 10, enqueue_ms)
    assert [text.startswith("launch-bound: enqueueing takes 81%") for text in found] == [True] * warned


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_the_time_is_that_of_the_work_and_enqueueing_is_apart():
    class Busy(Session):
        asynchronous = True
        x = torch.randn(8192, 8192, device="cuda") if torch.cuda.is_available() else torch.empty(0)

        def run(self):
            self.y = self.x @ self.x

        def output(self):
            return self.y

    warm_up(Busy(), 0.2)
    samples = [time_call(Busy()) for _ in range(5)]
    assert np.median([s.latency_ms for s in samples]) > 5 * np.median([s.enqueue_ms for s in samples]) > 0
