"""Which groups of a grid are measured, and what a death is called; tests/cli/test_latency.py has real processes."""

import json
import signal
from dataclasses import replace

import pytest

from recalib.errors import RecalibError
from recalib.measure import grid
from recalib.runtimes import oom

ONE = grid.Grid(["cifar_resnet8"], ["se"], [32], [1], ["fp32"], ["eager"])


def latency(ms):
    return {"median": ms, "min": ms, "samples": [ms] * 5, "processes": [5]}


@pytest.fixture
def measured(monkeypatch):
    """Groups take 100 s by the estimate and none in fact; lists those that were measured."""
    groups = []

    def measure(group, grid, progress, store):
        groups.append((group.cells[0].size, group.cells[0].batch))
        time = 1 + len(groups) / 100  # of a network with attention; a plain one takes 1 ms
        store([replace(cell, latency_ms=latency(1.0 if cell.module == "baseline" else time)) for cell in group.cells])

    monkeypatch.setattr(grid, "measure_apart", measure)
    monkeypatch.setattr(grid, "seconds_of", lambda group, _: 100.0)
    return groups


def test_pieces_limited_in_time_measure_every_group_once(measured, tmp_path):
    small = grid.Grid(["cifar_resnet8"], ["se"], [32, (32, 48)], [1, 2], ["fp32"], ["eager"], processes=1)
    first = grid.latency(small, out=tmp_path / "x.jsonl", seconds=50)
    assert (measured, first.interrupted) == ([(32, 1)], True)  # the first always; the second would take 100 s more
    second = grid.latency(small, out=tmp_path / "x.jsonl", seconds=50, resume=True)
    assert (len(measured), second.interrupted) == (2, True)
    last = grid.latency(small, out=tmp_path / "x.jsonl", resume=True)
    assert measured == [(32, 1), ((32, 48), 1), (32, 2), ((32, 48), 2)]
    assert (len(last.cells), last.interrupted) == (16, False)
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert sum("model" in line for line in lines) == 16


def test_all_groups_take_a_turn_before_any_takes_its_next_and_overheads_are_of_all_processes(measured, tmp_path):
    found = grid.latency(replace(ONE, batches=[1, 2]), out=tmp_path / "x.jsonl")
    assert [batch for _, batch in measured] == [1, 2, 1, 2, 1, 2]
    first = next(cell for cell in found.cells if (cell.module, cell.batch) == ("se", 1))
    assert first.processes == [5, 5, 5]
    assert first.overhead["ratio"] == pytest.approx((1.01 * 1.03 * 1.05) ** (1 / 3))  # by turns 1, 3 and 5
    assert first.overhead["low"] < 1.0 < 1.05 < first.overhead["high"]
    assert not first.overhead["distinguishable"]
    assert len(found.cells) == 8


def test_a_grid_continues_with_the_processes_that_are_missing(measured, tmp_path):
    grid.latency(replace(ONE, processes=1), out=tmp_path / "x.jsonl")
    piece = grid.latency(ONE, out=tmp_path / "x.jsonl", seconds=50, resume=True)
    assert (len(measured), piece.interrupted) == (2, True)
    assert [cell.processes for cell in piece.cells] == [[5, 5]] * 4
    assert [cell.processes for cell in grid.latency(ONE, out=tmp_path / "x.jsonl", resume=True).cells] == [[5] * 3] * 4
    assert len(measured) == 3
    again = grid.latency(ONE, out=tmp_path / "x.jsonl", resume=True)
    assert (len(measured), again.cells[2].overhead["ratio"]) == (3, pytest.approx((1.01 * 1.02 * 1.03) ** (1 / 3)))


def test_what_one_process_could_not_measure_the_next_does_not_try(monkeypatch, tmp_path):
    asked = []

    def measure(group, _, progress, store):
        asked.append([(cell.module, cell.deployed) for cell in group.cells])
        ok = [replace(cell, latency_ms=latency(1.0)) for cell in group.cells]
        lost = len(asked) if len(asked) < 3 else None  # the second of all, then the third of those left
        store([replace(cell, latency_ms=None, status="oom") if n == lost else cell for n, cell in enumerate(ok)])

    monkeypatch.setattr(grid, "measure_apart", measure)
    found = grid.latency(ONE, out=tmp_path / "x.jsonl")
    assert list(map(len, asked)) == [4, 3, 2]
    assert [cell.status for cell in found.cells] == ["ok", "oom", "ok", "oom"]
    assert [cell.latency_ms is None for cell in found.cells] == [False, True, False, True]
    assert [len(cell.processes) for cell in found.cells] == [3, 0, 3, 0]


def test_a_group_of_which_nothing_can_be_measured_is_tried_once(monkeypatch, tmp_path):
    tried = []

    def measure(group, grid, progress, store):
        tried.append(group)
        store([replace(cell, status="failed") for cell in group.cells])

    monkeypatch.setattr(grid, "measure_apart", measure)
    assert len(grid.latency(ONE, out=tmp_path / "x.jsonl").cells) == 4
    grid.latency(ONE, out=tmp_path / "x.jsonl", resume=True)
    assert len(tried) == 1


def test_two_processes_are_refused(tmp_path):
    with pytest.raises(RecalibError, match="processes=2: 1, or at least 3"):
        grid.latency(replace(ONE, processes=2), out=tmp_path / "x.jsonl")


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
    (group,) = ONE.groups({"fp32": {}})
    counted = iter(kills)
    monkeypatch.setattr(oom, "kills", lambda: next(counted))
    monkeypatch.setattr(grid, "_attempt", lambda *_: (None, None, code))
    stored = []
    grid.measure_apart(group, ONE, lambda *_: None, stored.extend)
    assert {(cell.status, cell.message) for cell in stored} == {expected}
    assert len(stored) == len(group.cells)


def test_linux_counts_its_kills():
    assert oom.kills() is None or oom.kills() >= 0
