"""`recalib latency` as people run it: a process a group, killed and continued."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from recalib.cli import main

ARGUMENTS = ["latency", "cifar_resnet8", "--attention", "baseline", "--size", "32", "--runtime", "eager"]
ARGUMENTS += ["--batch", "2", "--rounds", "5", "--threads", "1"]


def recalib(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-m", "recalib", *map(str, arguments)], stderr=subprocess.PIPE, text=True, env=environment
    )


def children_of(process):
    """Its children, in Linux's list of them."""
    try:
        return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    except OSError:
        return []


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def cells(folder):
    file = folder / "latency.jsonl"
    found = map(json.loads, file.read_text().splitlines()) if file.exists() else ()
    return [value for value in found if "model" in value]


def test_a_killed_grid_continues_without_losing_a_cell_or_measuring_one_twice(tmp_path, in_process):
    process = recalib(*ARGUMENTS, "--out", tmp_path)
    end = time.monotonic() + 200
    while len(cells(tmp_path)) < 2:  # the first of three processes is done
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.05)
    children = children_of(process)
    process.kill()
    process.communicate()
    assert children
    while any(map(is_running, children)):  # nobody measures on for a parent that is no more
        assert time.monotonic() < end
        time.sleep(0.05)
    kept = cells(tmp_path)
    assert main([*ARGUMENTS, "--out", str(tmp_path), "--resume"]) == 0
    found = cells(tmp_path)
    assert found[: len(kept)] == kept
    turns = Counter(
        (str(cell["size"]), cell["module"], cell["deployed"], len(cell["latency_ms"]["processes"])) for cell in found
    )
    assert len(turns) == 2 * 3
    assert set(turns.values()) == {1}
    last = found[-1]["latency_ms"]
    assert (len(last["samples"]), last["processes"]) == (15, [5, 5, 5])
    assert "cifar_resnet8" in (tmp_path / "report.html").read_text()


def test_a_killed_process_costs_one_cell_which_is_not_called_out_of_memory(tmp_path):
    arguments = ["--processes", "1", "--out", tmp_path, "--json", tmp_path / "cells.json"]
    process = recalib(*ARGUMENTS, *arguments)
    end = time.monotonic() + 200
    while not (children := [child for child in children_of(process) if "spawn_main" in command_of(child)]):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(children[0], signal.SIGKILL)
    _, stderr = process.communicate(timeout=200)
    found = json.loads((tmp_path / "cells.json").read_text())["cells"]
    dead = [cell for cell in found if cell["status"] != "ok"]
    assert {(cell["status"], cell["message"]) for cell in dead} == {("failed", "process died (signal 9)")}, stderr
    assert len(found) == 2


def test_without_a_network_it_asks_for_one(tmp_path, capsys):
    assert main(["latency", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "recalib: which networks? Name some, such as resnet18\n"
