"""`recalib latency` as people run it: a process a group, killed and continued."""

import json
import os
import subprocess
import sys
import time

ARGUMENTS = ["latency", "cifar_resnet8", "--modules", "se", "--sizes", "32", "32x48", "--runtimes", "eager"]
ARGUMENTS += ["--batches", "1", "2", "--rounds", "5", "--threads", "1"]


def recalib(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-m", "recalib", *map(str, arguments)], stderr=subprocess.PIPE, text=True, env=environment
    )


def cells(folder):
    file = folder / "latency.jsonl"
    found = map(json.loads, file.read_text().splitlines()) if file.exists() else ()
    return [value for value in found if "model" in value]


def test_a_killed_grid_continues_without_losing_a_cell_or_measuring_one_twice(tmp_path):
    process = recalib(*ARGUMENTS, "--out", tmp_path)
    end = time.monotonic() + 200
    while len(cells(tmp_path)) < 4:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.communicate()
    kept = cells(tmp_path)
    again = recalib(*ARGUMENTS, "--out", tmp_path, "--resume")
    _, stderr = again.communicate(timeout=200)
    assert again.returncode == 0, stderr
    found = cells(tmp_path)
    assert found[: len(kept)] == kept
    keys = [(json.dumps(cell["size"]), cell["batch"], cell["module"], cell["deployed"]) for cell in found]
    assert len(keys) == len(set(keys)) == 16
    assert {cell["status"] for cell in found} == {"ok"}
