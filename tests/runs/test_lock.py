"""One writer of a folder at a time; no kill leaves the lock behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from recalib.errors import RecalibError, WorkFailed
from recalib.runs import lock as module
from recalib.runs.lock import FILE, STALE, FolderLock

HOLD = "import sys, time; from pathlib import Path; from recalib.runs.lock import FolderLock as L;" \
    "lock = L(Path(sys.argv[1])); lock.acquire(); print('held', flush=True); time.sleep(60)"  # fmt: skip


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_by_one_line_that_names_the_first(holder, tmp_path):
    with pytest.raises(RecalibError) as refused:
        FolderLock(tmp_path).acquire()
    assert f"is being written by process {holder.pid} on {socket.gethostname()}, since " in str(refused.value)
    assert "stop that one, or wait for its end" in str(refused.value)


def test_a_kill_leaves_no_lock_behind(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    FolderLock(tmp_path).acquire()


def test_what_is_released_can_be_locked_again(tmp_path):
    for _ in range(2):
        lock = FolderLock(tmp_path)
        lock.acquire()
        lock.release()
    assert (tmp_path / FILE).read_bytes() == b""


def of_another_machine(folder, age):
    (folder / FILE).write_text(json.dumps({"host": "elsewhere", "pid": 7, "since": "noon"}))
    os.utime(folder / FILE, (time.time() - age,) * 2)


def test_a_process_of_another_machine_that_shows_signs_of_life_is_respected(tmp_path):
    of_another_machine(tmp_path, 5)
    with pytest.raises(RecalibError, match=r"process 7 on elsewhere, since noon: .*if it is dead, wait 5\d seconds"):
        FolderLock(tmp_path).acquire()


def test_a_process_of_another_machine_that_shows_none_is_dead(tmp_path):
    of_another_machine(tmp_path, STALE + 1)
    FolderLock(tmp_path).acquire()


def test_the_holder_shows_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.01)
    lock = FolderLock(tmp_path)
    lock.acquire()
    before = (tmp_path / FILE).stat().st_mtime_ns
    deadline = time.monotonic() + 10
    while (tmp_path / FILE).stat().st_mtime_ns == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (tmp_path / FILE).stat().st_mtime_ns > before
    lock.release()


@pytest.mark.parametrize("alive", [True, False])
def test_where_the_file_system_has_no_locks_the_process_itself_is_asked(alive, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_kernel_lock", lambda _file: None)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (tmp_path / FILE).write_text(json.dumps({"host": socket.gethostname(), "pid": other.pid, "since": "noon"}))
    if not alive:
        other.kill()
        other.wait()
        FolderLock(tmp_path).acquire()
        return
    with pytest.raises(RecalibError, match=f"process {other.pid} on"):
        FolderLock(tmp_path).acquire()
    other.kill()
    other.wait()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    with pytest.raises(WorkFailed, match="nothing cannot be written to"):
        FolderLock(tmp_path / "nothing").acquire()
