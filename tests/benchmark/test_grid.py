"""Which groups of a grid are measured, and what a death is called; tests/cli/test_latency.py has real processes."""

import json
import signal
from dataclasses import replace

import pytest

from recalib.benchmark import grid
from recalib.runtimes import oom

LATENCY = {"median": 1.0, "min": 1.0, "samples": [1.0] * 5}


@pytest.fixture
def measured(monkeypatch):
    """Groups take 100 s by the estimate and none in fact; lists those that were measured."""
    groups = []

    def measure(group, grid, progress, store):
        groups.append((group.cells[0].size, group.cells[0].batch))
        store([replace(cell, latency_ms=LATENCY) for cell in group.cells])

    monkeypatch.setattr(grid, "measure_apart", measure)
    monkeypatch.setattr(grid, "seconds_of", lambda group, _: 100.0)
    return groups


def test_pieces_limited_in_time_measure_every_group_once(measured, tmp_path):
    small = grid.Grid(["cifar_resnet8"], ["se"], [32, (32, 48)], [1, 2], ["fp32"], ["eager"])
    first = grid.latency(small, out=tmp_path / "x.jsonl", seconds=50)
    assert (measured, first.interrupted) == ([(32, 1)], True)  # the first always; the second would take 100 s more
    second = grid.latency(small, out=tmp_path / "x.jsonl", seconds=50, resume=True)
    assert (len(measured), second.interrupted) == (2, True)
    last = grid.latency(small, out=tmp_path / "x.jsonl", resume=True)
    assert measured == [(32, 1), ((32, 48), 1), (32, 2), ((32, 48), 2)]
    assert (len(last.cells), last.interrupted) == (16, False)
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert sum("model" in line for line in lines) == 16


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
    one = grid.Grid(["cifar_resnet8"], ["se"], [32], [1], ["fp32"], ["eager"])
    (group,) = one.groups({"fp32": {}})
    counted = iter(kills)
    monkeypatch.setattr(oom, "kills", lambda: next(counted))
    monkeypatch.setattr(grid, "_attempt", lambda *_: (None, None, code))
    stored = []
    grid.measure_apart(group, one, lambda *_: None, stored.extend)
    assert {(cell.status, cell.message) for cell in stored} == {expected}
    assert len(stored) == len(group.cells)


def test_linux_counts_its_kills():
    assert oom.kills() is None or oom.kills() >= 0
