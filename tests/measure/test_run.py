"""Which groups of a grid are measured, and what a death is called; tests/cli/test_latency.py has real processes."""

import json
import signal
from dataclasses import replace

import pytest

from recalib.errors import RecalibError
from recalib.measure import child
from recalib.measure import run as runner
from recalib.measure.cells import Latency
from recalib.measure.networks import NetworkGroup
from recalib.measure.run import run
from recalib.measure.schedule import grid
from recalib.measure.session import How
from recalib.runtimes import oom


def one(**changes):
    return grid(["cifar_resnet8"], ["se"], **{"sizes": [32], "runtimes": ["eager"]} | changes)


def latency(ms):
    return Latency(ms, ms, [ms] * 5)


@pytest.fixture
def measured(monkeypatch):
    """Groups take 100 s by the estimate and none in fact; lists those that were measured."""
    groups = []

    def measure(group, how, progress, seconds):
        groups.append((group.cells[0].size, group.cells[0].batch))
        time = 1 + len(groups) / 100  # of a network with attention; a plain one takes 1 ms
        return [replace(cell, latency_ms=latency(1.0 if cell.module == "baseline" else time)) for cell in group.cells]

    monkeypatch.setattr(runner, "measure_apart", measure)
    monkeypatch.setattr(NetworkGroup, "seconds", lambda group, _: 100.0)
    return groups


def test_pieces_limited_in_time_measure_every_group_once(measured, tmp_path):
    small = one(sizes=[32, (32, 48)], batches=[1, 2], processes=1)
    first = run(small, tmp_path / "x.jsonl", seconds=50)
    assert (measured, first.left) == ([(32, 1)], 3)  # the first always; the second would take 100 s more
    second = run(small, tmp_path / "x.jsonl", seconds=50, resume=True)
    assert (len(measured), second.left) == (2, 2)
    last = run(small, tmp_path / "x.jsonl", resume=True)
    assert measured == [(32, 1), ((32, 48), 1), (32, 2), ((32, 48), 2)]
    assert (len(last.cells), last.left) == (16, 0)
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert sum("model" in line for line in lines) == 16


def test_all_groups_take_a_turn_before_any_takes_its_next_and_overheads_are_of_all_processes(measured, tmp_path):
    found = run(one(batches=[1, 2]), tmp_path / "x.jsonl")
    assert [batch for _, batch in measured] == [1, 2, 1, 2, 1, 2]
    first = next(cell for cell in found.cells if (cell.module, cell.batch) == ("se", 1))
    assert first.processes == [5, 5, 5]
    assert first.overhead.ratio == pytest.approx((1.01 * 1.03 * 1.05) ** (1 / 3))  # by turns 1, 3 and 5
    assert first.overhead.low < 1.0 < 1.05 < first.overhead.high
    assert not first.overhead.distinguishable
    assert len(found.cells) == 8


def test_a_grid_continues_with_the_processes_that_are_missing(measured, tmp_path):
    run(one(processes=1), tmp_path / "x.jsonl")
    piece = run(one(), tmp_path / "x.jsonl", seconds=50, resume=True)
    assert (len(measured), piece.left) == (2, 1)
    assert [cell.processes for cell in piece.cells] == [[5, 5]] * 4
    assert [cell.processes for cell in run(one(), tmp_path / "x.jsonl", resume=True).cells] == [[5] * 3] * 4
    assert len(measured) == 3
    again = run(one(), tmp_path / "x.jsonl", resume=True)
    assert (len(measured), again.cells[2].overhead.ratio) == (3, pytest.approx((1.01 * 1.02 * 1.03) ** (1 / 3)))


def test_what_one_process_could_not_measure_the_next_does_not_try(monkeypatch, tmp_path):
    asked = []

    def measure(group, how, progress, seconds):
        asked.append([(cell.module, cell.deployed) for cell in group.cells])
        ok = [replace(cell, latency_ms=latency(1.0)) for cell in group.cells]
        lost = len(asked) if len(asked) < 3 else None  # the second of all, then the third of those left
        return [replace(cell, latency_ms=None, status="oom") if n == lost else cell for n, cell in enumerate(ok)]

    monkeypatch.setattr(runner, "measure_apart", measure)
    found = run(one(), tmp_path / "x.jsonl")
    assert list(map(len, asked)) == [4, 3, 2]
    assert [cell.status for cell in found.cells] == ["ok", "oom", "ok", "oom"]
    assert [cell.latency_ms is None for cell in found.cells] == [False, True, False, True]
    assert [len(cell.processes) for cell in found.cells] == [3, 0, 3, 0]


def test_a_group_of_which_nothing_can_be_measured_is_tried_once(monkeypatch, tmp_path):
    tried = []

    def measure(group, how, progress, seconds):
        tried.append(group)
        return [replace(cell, status="failed") for cell in group.cells]

    monkeypatch.setattr(runner, "measure_apart", measure)
    assert len(run(one(), tmp_path / "x.jsonl").cells) == 4
    run(one(), tmp_path / "x.jsonl", resume=True)
    assert len(tried) == 1


def test_two_processes_are_refused(tmp_path):
    with pytest.raises(RecalibError, match="processes=2: 1, or at least 3"):
        run(one(processes=2), tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    ("kills", "code", "expected"),
    [
        ([3, 4], -signal.SIGKILL, ("oom", "the system killed the process because memory ran out")),
        ([3, 3], -signal.SIGKILL, ("failed", "process died (signal 9)")),
        ([None, None], -signal.SIGKILL, ("failed", "process died (signal 9)")),
        ([3, 4], -signal.SIGSEGV, ("failed", "process died (signal 11)")),
        ([3, 3], 3, ("failed", "process died (exit status 3)")),
    ],
)
def test_a_death_is_for_want_of_memory_only_where_the_system_says_so(monkeypatch, kills, code, expected):
    (group,) = one().groups
    counted = iter(kills)
    monkeypatch.setattr(oom, "kills", lambda: next(counted))
    monkeypatch.setattr(child, "_attempt", lambda *_: (None, None, code))
    stored = child.measure_apart(group, How(), lambda *_: None)
    assert {(cell.status, cell.message) for cell in stored} == {expected}
    assert len(stored) == len(group.cells)


def test_linux_counts_its_kills():
    assert oom.kills() is None or oom.kills() >= 0


def test_time_for_all_of_it_is_shared_by_the_groups_that_are_left(monkeypatch, tmp_path):
    given = []

    def measure(group, how, progress, seconds):
        given.append(seconds)
        return [replace(cell, latency_ms=latency(1.0)) for cell in group.cells]

    monkeypatch.setattr(runner, "measure_apart", measure)
    announced = []
    schedule = one(batches=[1, 2, 4], processes=1, seconds=90.0)
    run(schedule, tmp_path / "x.jsonl", announce=lambda *what: announced.append(what))
    assert given == pytest.approx([30, 45, 90], abs=1)  # what one does not use the next have
    assert announced == [(3, 12, 90.0)]


def test_what_a_runtime_lacked_is_measured_when_it_is_there(monkeypatch, measured, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(
            runner, "measure_apart", lambda group, *_: [replace(c, status="unsupported") for c in group.cells]
        )
        run(one(processes=1), tmp_path / "x.jsonl")
    assert {cell.status for cell in run(one(processes=1), tmp_path / "x.jsonl", resume=True).cells} == {"ok"}
    assert len(measured) == 1
