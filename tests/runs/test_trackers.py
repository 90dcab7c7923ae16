import json
import sys
import types
from pathlib import Path

import pytest

from recalib import runs
from recalib.errors import RecalibError, WorkFailed
from recalib.runs import check_trackers


@pytest.fixture
def open_trackers():
    """Trackers that are closed again."""
    opened = []

    def open_and_remember(*arguments):
        opened.extend(runs.open_trackers(*arguments))
        return opened

    yield open_and_remember
    for tracker in opened:
        tracker.close()


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_row_is_on_disk_when_it_was_logged(open_trackers, tmp_path):
    (tracker,) = open_trackers((), tmp_path, {}, None)
    tracker.log(3, {"top1": 50.0})
    assert rows(tmp_path) == [{"step": 3, "top1": 50.0}]


def test_rows_after_the_checkpoint_are_dropped_and_a_line_cut_short_with_them(open_trackers, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    (tracker,) = open_trackers((), tmp_path, {}, 2)
    tracker.log(3, {"again": True})
    assert rows(tmp_path) == [{"step": 1}, {"step": 2}, {"step": 3, "again": True}]


def test_a_run_that_begins_has_no_rows(open_trackers, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n')
    open_trackers((), tmp_path, {}, None)
    assert rows(tmp_path) == []


def test_a_full_disk_is_said(open_trackers, tmp_path):
    (tracker,) = open_trackers((), tmp_path, {}, None)
    tracker.file.close()
    tracker.file = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115 - closed by the fixture
    with pytest.raises(WorkFailed, match=r"/dev/full could not be written: .*No space left"):
        tracker.log(1, {"top1": 1.0})


def test_an_unknown_tracker_names_the_known():
    with pytest.raises(RecalibError, match="unknown tracker 'wandbb'; did you mean wandb"):
        check_trackers(("wandbb",))


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_tracker_that_is_not_installed_says_what_to_install(monkeypatch, name):
    for module in ("torch.utils.tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RecalibError, match=rf"--track {name} needs the package {name}: pip install 'recalib\[track\]'"):
        check_trackers((name,))


def test_tensorboard_gets_every_number(open_trackers, tmp_path, monkeypatch):
    seen = []

    class Writer:
        def __init__(self, folder):
            seen.append(folder)

        def add_scalar(self, name, value, step):
            seen.append((name, value, step))

        def close(self):
            seen.append("closed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    trackers = open_trackers(("tensorboard",), tmp_path, {}, None)
    for tracker in trackers:
        tracker.log(7, {"top1": 50.0, "names": ["a"]})
    trackers[1].close()
    assert seen == [str(tmp_path / "tensorboard"), ("top1", 50.0, 7), "closed"]
    assert rows(tmp_path) == [{"step": 7, "top1": 50.0, "names": ["a"]}]


def test_wandb_gets_the_configuration_and_rows_under_the_folders_name(open_trackers, tmp_path, monkeypatch):
    calls = []
    run = types.SimpleNamespace(
        log=lambda row, step: calls.append((row, step)), finish=lambda: calls.append("finished")
    )
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **given: calls.append(given) or run))
    _, tracker = open_trackers(("wandb",), tmp_path, {"lr": 0.1}, None)
    tracker.log(7, {"top1": 50.0})
    tracker.close()
    assert calls[0]["config"] == {"lr": 0.1}
    assert calls[0]["name"] == tmp_path.name
    assert calls[1:] == [({"top1": 50.0}, 7), "finished"]
