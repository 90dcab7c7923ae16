import re

import pytest

from recalib.runs import progress as module
from recalib.runs.progress import Progress


def show(shown=True):
    with Progress(400, 100, shown) as progress:
        progress.advance(100)
        progress.say("epoch 0: [top-1]")
    return progress


def test_a_terminal_sees_what_is_done_the_throughput_and_the_time_left(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    show()
    out = capsys.readouterr().out
    assert "50%" in out
    assert "images/s" in out
    assert "-:--:--" in out  # the time left, not yet known
    assert "epoch 0: [top-1]" in out


def test_elsewhere_only_what_is_said_is_printed(capsys):
    show()
    assert capsys.readouterr().out == "epoch 0: [top-1]\n"


def test_elsewhere_a_line_a_minute_tells_how_far_it_is(monkeypatch, capsys):
    now = iter(range(0, 10_000, 5))
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(now))
    with Progress(400, 100, shown=True, epoch=200) as progress:
        for _ in range(5):
            progress.advance(10)
            progress.tell(lambda: 1.5)
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert len(lines) < 5
    left = r"left: \d:\d\d:\d\d of the epoch, \d:\d\d:\d\d of the run"
    assert re.fullmatch(rf"epoch 0, \d+ %: loss 1\.5000, \d\.\d images/s; {left}", lines[0])


def test_other_processes_are_silent(capsys):
    show(shown=False)
    assert capsys.readouterr().out == ""


def test_the_throughput_counts_from_the_last_lap():
    progress = show()
    assert progress.rate() > 0
    progress.lap()
    assert progress.rate() == pytest.approx(0)
