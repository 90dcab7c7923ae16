import json
from pathlib import Path

import pytest
import torch

from recalib.errors import RecalibError, WorkFailed
from recalib.runs import RunFolder, read_config, read_state, write_atomically, write_json


def test_a_file_is_replaced_whole(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, {"x": 1})
    write_json(file, {"x": 2})
    assert json.loads(file.read_text()) == {"x": 2}
    assert list(tmp_path.iterdir()) == [file]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a"
    file.write_text("old")

    def half(fresh):
        fresh.write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(WorkFailed, match=r"a could not be written: .*No space left on device; the one before is kept"):
        write_atomically(file, half)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_disk_that_is_really_full_is_said_in_one_line(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.save({"step": 1})
    open_file = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *mode, **more: open_file(Path("/dev/full"), *mode, **more))
    with pytest.raises(
        WorkFailed, match=r"last.pt could not be written: [^\n]*No space left on device; the one before"
    ):
        folder.save({"step": 2})
    monkeypatch.undo()
    assert folder.load() == {"step": 1}


def test_a_fault_of_the_program_is_not_dressed_up_as_a_full_disk(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "a", lambda _: 1 / 0)
    assert not list(tmp_path.iterdir())


def test_leftovers_of_a_kill_are_removed_when_the_run_is_entered_again(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.begin({"a": 1}, resume=False) is False
    (folder.path / ".last.pt.123.tmp").write_bytes(b"half")
    folder.save({"step": torch.tensor(3)})
    assert folder.begin({"a": 1}, resume=True) is True
    assert not list(folder.path.glob(".*.tmp"))
    assert folder.load()["step"] == 3


def test_a_run_says_with_what_it_was_run(tmp_path):
    RunFolder(tmp_path / "run").begin({"a": 1}, resume=False)
    told = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert told["packages"]["torch"] == torch.__version__.split("+")[0]
    assert {"code", "command", "python", "platform", "threads", "devices"} <= set(told)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half"])
def test_a_broken_checkpoint_is_named(tmp_path, content):
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(RecalibError, match=r"last.pt is no checkpoint of a run: [^\n]*$"):
        read_state(tmp_path / "last.pt")


@pytest.mark.parametrize("content", ["", "[1]", "{"])
def test_a_broken_configuration_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(RecalibError, match=r"config.json is no configuration"):
        read_config(tmp_path)
