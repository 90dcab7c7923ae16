"""`recalib compare` as people run it: real processes, real runtimes, stopped and killed as well."""

import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from recalib import cli
from recalib.cli.measuring import stoppable

ARGUMENTS = ["compare", "cifar_resnet8", "--attention", "se", "--size", "32", "--runtime", "eager", "--rounds", "5"]
# the second is stopped while it starts
TWO_GROUPS = ["compare", "cifar_resnet8", "cifar_resnet14", "--attention", "baseline", *ARGUMENTS[4:]]


def recalib(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "recalib", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def lines(folder):
    file = folder / "compare.jsonl"
    return file.read_text().splitlines() if file.exists() else []


def wait_for_cells(process, folder, count):
    """Wait until so many cells are on the disk."""
    end = time.monotonic() + 280
    while len(lines(folder)) < 2 + count:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run, and what it printed; its group in a process of its own."""
    folder, said, complained = tmp_path_factory.mktemp("finished"), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        status = cli.main([*ARGUMENTS, "--out", str(folder / "out"), "--json", str(folder / "deep" / "cells.json")])
    assert (status, complained.getvalue()) == (0, "")
    return folder, said.getvalue()


def test_it_prints_the_verdict_then_machine_table_and_three_lines_of_advice(finished):
    folder, stdout = finished
    machine = json.loads((folder / "deep" / "cells.json").read_text())["machine"]
    verdict, first, *_ = stdout.splitlines()
    assert verdict.startswith("Open: no accuracy of a module in cifar_resnet8")
    assert first.startswith(machine["device"])
    assert machine["versions"]["torch"] in first
    assert "deployed" in stdout
    assert stdout.count("\n- ") == 3
    assert str(folder / "out" / "report.html") in stdout


def test_json_holds_machine_and_cells(finished):
    found = json.loads((finished[0] / "deep" / "cells.json").read_text())
    assert set(found) == {"machine", "run", "peak_bytes", "cells"}
    parent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert 1e8 < found["peak_bytes"] - parent < 2e9  # of the process that measured
    assert [(cell["module"], cell["deployed"], cell["status"]) for cell in found["cells"]] == [
        ("baseline", False, "ok"),
        ("baseline", True, "ok"),
        ("se", False, "ok"),
        ("se", True, "ok"),
    ]
    assert [json.loads(line) for line in lines(finished[0] / "out")[2:]] == found["cells"]


def test_the_page_names_the_command_that_made_it(finished):
    page = (finished[0] / "out" / "report.html").read_text()
    assert "recalib compare cifar_resnet8 --attention se --size 32" in page


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that Ctrl-C met in its second group, what it printed, and the lines of its cells."""
    folder = tmp_path_factory.mktemp("stopped")
    process = recalib(*TWO_GROUPS, "--out", folder, "--json", folder / "cells.json")
    wait_for_cells(process, folder, 2)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=280)
    return folder, process.returncode, stdout, stderr, lines(folder)[2:]


def test_a_stopped_run_leaves_what_was_measured_on_disk_and_in_the_report(stopped):
    folder, status, stdout, stderr, kept = stopped
    assert status == 1
    assert stderr.splitlines() == [
        "recalib: stopping after this step; again to stop at once",
        "recalib: interrupted; --resume continues from what was measured",
    ]
    cells = json.loads((folder / "cells.json").read_text())["cells"]
    assert [cell["model"] for cell in cells] == ["cifar_resnet8"] * 2
    assert list(map(json.loads, kept)) == cells
    assert "cifar_resnet8" in stdout
    assert "cifar_resnet8" in (folder / "report.html").read_text()


@pytest.mark.usefixtures("in_process")
def test_a_stopped_run_continues_where_it_was(stopped):
    folder, *_, kept = stopped
    again = [*TWO_GROUPS, "--out", folder, "--json", folder / "again.json", "--threads", 1, "--resume"]
    assert cli.main(list(map(str, again))) == 0
    cells = json.loads((folder / "again.json").read_text())["cells"]
    assert cells[:2] == list(map(json.loads, kept))
    assert [cell["model"] for cell in cells] == ["cifar_resnet8"] * 2 + ["cifar_resnet14"] * 2
    assert {cell["status"] for cell in cells} == {"ok"}


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_at_the_next_step_and_the_second_at_once(sent, capfd):
    with stoppable() as check:
        check()
        signal.raise_signal(sent)
        with pytest.raises(KeyboardInterrupt):
            check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(sent)
    assert capfd.readouterr().err.startswith("recalib: stopping after this step; again to stop at once\n")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["resnet5"], "recalib: unknown model 'resnet5'; did you mean"),
        (["resnet18", "--attention", "sse"], "recalib: unknown attention 'sse'; did you mean scse or se or sge"),
        (["resnet18", "--runtime", "onnx"], "recalib: unknown runtime 'onnx'; did you mean onnxruntime"),
        (["resnet18", "--weights", "nowhere.pth"], "recalib: "),
    ],
)
def test_a_wrong_name_is_one_line_with_the_nearest_right_ones_and_exit_status_2(tmp_path, capsys, wrong, message):
    assert cli.main(["compare", *wrong, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_to_is_said_before_measuring(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main([*ARGUMENTS, "--out", str(tmp_path / "file")]) == 2
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.usefixtures("in_process")
def test_if_nothing_could_be_measured_the_exit_status_says_so(tmp_path, capsys):
    assert cli.main([*ARGUMENTS, "--out", str(tmp_path), "--batch", "100000000"]) == 1
    assert "GiB are left" in capsys.readouterr().out
    assert (tmp_path / "report.html").exists()
