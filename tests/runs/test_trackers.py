import itertools
import json
import sys
import types
from pathlib import Path

import pytest
import wandb
from tests.tracked import tensorboard_scalars, wandb_file, wandb_records, wandb_rows

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
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RecalibError, match=rf"--track {name}: .*{name} not installed: pip install '.*\[track\]'"):
        check_trackers((name,))


def test_tensorboard_shows_every_number(open_trackers, tmp_path):
    _, tracker = open_trackers(("tensorboard",), tmp_path, {}, None)
    tracker.log(7, {"top1": 50.0, "epoch": 0, "names": ["a"]})  # not closed: a kill loses nothing
    assert tensorboard_scalars(tmp_path) == {"top1": [(7, 50.0)], "epoch": [(7, 0.0)]}


def test_tensorboard_shows_a_row_that_was_made_again_once(open_trackers, tmp_path):
    _, killed = open_trackers(("tensorboard",), tmp_path, {}, None)
    for step in (5, 10):
        killed.log(step, {"top1": step})
    *_, resumed = open_trackers(("tensorboard",), tmp_path, {}, 5)
    for step in (10, 15):
        resumed.log(step, {"top1": step + 0.5})
    assert tensorboard_scalars(tmp_path) == {"top1": [(5, 5), (10, 10.5), (15, 15.5)]}


@pytest.fixture
def wandb_mode(monkeypatch, tmp_path):
    """W&B with nobody logged in, in a mode; it reads its settings once a process."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    wandb.teardown()
    yield lambda mode: monkeypatch.setenv("WANDB_MODE", mode)
    wandb.teardown()


@pytest.fixture
def offline(wandb_mode):
    wandb_mode("offline")


@pytest.mark.usefixtures("offline")
def test_wandb_holds_the_configuration_and_the_rows_under_the_folders_name(open_trackers, tmp_path):
    _, tracker = open_trackers(("wandb",), tmp_path, {"lr": 0.1}, None)
    tracker.log(7, {"top1": 50.0, "names": ["a"]})
    tracker.close()
    wandb.teardown()  # its own process writes the file, and has written it when it ends
    assert wandb_rows(tmp_path) == [{"_step": 7, "top1": 50.0, "names": ["a"]}]
    (run,) = wandb_records(tmp_path, "run")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert (run.display_name, run.project, config["lr"]) == (tmp_path.name, "recalib", 0.1)


@pytest.mark.usefixtures("offline")
def test_wandb_goes_on_with_the_same_run_and_has_every_row_once(open_trackers, tmp_path):
    def run_to(steps, resumed):
        trackers = open_trackers(("wandb",), tmp_path, {}, resumed)[-2:]
        for step, tracker in itertools.product(steps, trackers):
            tracker.log(step, {"top1": float(step)})
        for tracker in trackers:
            tracker.close()
        return wandb_file(tmp_path).name

    assert run_to((5, 10), None) == run_to((10, 15), 5)
    wandb.teardown()
    assert wandb_rows(tmp_path) == [{"_step": step, "top1": step} for step in (5, 10, 15)]


def test_wandb_online_is_not_given_again_what_it_has(open_trackers, tmp_path, monkeypatch):
    given = []
    # stands in for W&B's server, which tells that it has steps up to 10
    run = types.SimpleNamespace(starting_step=11, log=lambda row, step: given.append(step), finish=lambda: None)
    monkeypatch.setattr(wandb, "init", lambda **_: run)
    (tmp_path / "metrics.jsonl").write_text('{"step": 5}\n{"step": 10}\n')
    _, tracker = open_trackers(("wandb",), tmp_path, {}, 5)
    for step in (10, 15):
        tracker.log(step, {})
    assert given == [15]


def test_wandb_without_an_account_names_the_offline_mode(tmp_path, wandb_mode):
    wandb_mode("online")
    with pytest.raises(RecalibError, match=r"--track wandb: No API key.* WANDB_MODE=offline needs no account$"):
        runs.trackers.WeightsAndBiases(tmp_path, {}, None)
