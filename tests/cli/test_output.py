"""What a command prints may be cut short; what it writes is whole."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from recalib.cli.json_file import write_json
from recalib.errors import WorkFailed


@pytest.mark.parametrize("words", [["modules"], ["cost", "cifar_resnet8", "--size", "32"]], ids=lambda words: words[0])
def test_a_closed_pipe_is_no_error_and_costs_no_file(words, tmp_path):
    command = [sys.executable, "-u", "-m", "recalib", *words, "--json", str(tmp_path / "out.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        running.stdout.close()
        said = running.stderr.read()
    assert (running.returncode, said) == (0, "")
    assert json.loads((tmp_path / "out.json").read_text())


def test_what_is_printed_comes_through():
    done = subprocess.run(
        [sys.executable, "-m", "recalib", "--help"], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.startswith("usage: recalib")


def test_what_is_printed_after_the_pipe_was_closed_loses_nothing_that_is_written_later(tmp_path):
    """Stands for commands that print as they go: a line, a closed pipe, many lines, a file."""
    code = (
        "import pathlib, sys, types, recalib.cli as cli\n"
        "def main(argv):\n"
        "    for _ in range(20_000): print('a line')\n"
        "    pathlib.Path(argv[0]).write_text('whole')\n"
        "    return 0\n"
        "sys.modules['recalib.cli.cost'] = types.SimpleNamespace(main=main)\n"
        "sys.exit(cli.main(['cost', sys.argv[1]]))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "file")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline() == "a line\n"
        running.stdout.close()
        said = running.stderr.read()
    assert (running.returncode, said) == (0, "")
    assert (tmp_path / "file").read_text() == "whole"


def test_a_file_of_results_is_whole_or_the_one_before(tmp_path, monkeypatch):
    file = tmp_path / "made" / "out.json"
    write_json(file, {"a": 1})

    def full(self, *_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(WorkFailed, match="No space left on device; the one before is kept"):
        write_json(file, {"a": 2})
    assert json.loads(file.read_text()) == {"a": 1}
    assert [each.name for each in file.parent.iterdir()] == ["out.json"]


def test_results_go_into_a_pipe_too(tmp_path):
    pipe, seen = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: seen.append(pipe.read_text()))
    reader.start()
    write_json(pipe, [1, 2])
    reader.join(10)
    assert json.loads(seen[0]) == [1, 2]
