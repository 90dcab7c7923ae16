import pytest

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


def test_other_processes_are_silent(capsys):
    show(shown=False)
    assert capsys.readouterr().out == ""


def test_the_throughput_counts_from_the_last_lap():
    progress = show()
    assert progress.rate() > 0
    progress.lap()
    assert progress.rate() == pytest.approx(0)
